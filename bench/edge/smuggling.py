#!/usr/bin/env python3
"""Request smuggling: does an app ever see a request that the edge did not see?

Some hundred requests whose framing can be read in two ways (the shapes of published attacks, and mutations of them)
go through the edge to nginx, Node and gunicorn, each on a connection of its own, and after each an honest request of
somebody else. The access records of the edge say what it passed on, the logs of the apps what came. A request in an
app's log that the edge has no record of was smuggled; an honest visitor who gets an answer that is not theirs was
robbed. First a proxy that believes Content-Length and nothing else must be caught in the same way.

    bench/edge/smuggling.py [--klar target/release/klar] [--seed 1] [--mutations 300] [--apps nginx,node,gunicorn]

As root, with nginx, nodejs and gunicorn installed.
"""

import argparse
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PATIENCE = 1.0
MARK = re.compile(rb"[asfv]-\d+")

NGINX = """
daemon off; worker_processes 1; error_log stderr crit; pid app.pid;
events { worker_connections 1024; }
http {
  log_format seen '$request'; access_log seen.log seen; keepalive_requests 1000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  server { listen 127.0.0.1:@PORT@; ignore_invalid_headers off; underscores_in_headers on;
    location / { default_type text/plain; return 200 "$request_uri"; } }
}
"""
NODE = """
const http = require('node:http'), fs = require('node:fs');
const log = fs.openSync('run-node/seen.log', 'a');
const lenient = { insecureHTTPParser: true, requireHostHeader: false };
const server = http.createServer(lenient, (request, response) => {
  fs.writeSync(log, `${request.method} ${request.url}\\n`);
  request.on('data', () => {});
  request.on('end', () => response.end(request.url));
});
server.keepAliveTimeout = 60000;
server.listen(process.env.PORT, '127.0.0.1');
"""
GUNICORN = """
import os
log = os.open('run-gunicorn/seen.log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def app(environ, start_response):
    path = environ.get('RAW_URI') or environ['PATH_INFO']
    os.write(log, f"{environ['REQUEST_METHOD']} {path}\\n".encode())
    environ['wsgi.input'].read()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [path.encode('latin-1', 'replace')]
"""
KLAR = """
[app]
name = "smuggling"

[services.nginx]
run = 'sed "s/@PORT@/$PORT/" nginx.conf > run-nginx/nginx.conf && exec /usr/sbin/nginx -e stderr -p run-nginx -c nginx.conf'
writable = ["run-nginx"]
health = "/"
instances = 1

[services.node]
run = "node app.js"
writable = ["run-node"]
health = "/"
instances = 1

[services.gunicorn]
run = "exec gunicorn -k gthread --threads 8 -b 127.0.0.1:$PORT app:app"
writable = ["run-gunicorn"]
health = "/"
instances = 1

[routes]
"/nginx/*" = "nginx"
"/node/*" = "node"
"/gunicorn/*" = "gunicorn"

[edge]
https_port = %d
http_port = %d
"""

CRLF = b"\r\n"
# How Transfer-Encoding can be written so that one side takes it and the other does not.
CODINGS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked",
    b"Transfer-Encoding:chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding:  chunked",
    b"Transfer-Encoding: chunked ", b"Transfer-Encoding: chunked\t", b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"X: y\r\r\nTransfer-Encoding: chunked", b"Transfer-Encoding\r\n : chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\n chunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \x0cchunked", b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: \x00chunked", b"Transfer-Encoding\x00: chunked", b"\x00Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx", b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: CHUNKED",
    b"transfer-encoding: Chunked", b"TRANSFER-ENCODING: chunked", b"Transfer_Encoding: chunked",
    b"Transfer Encoding: chunked", b"Transfer-Encoding; chunked", b"Transfer-Encoding= chunked",
    b"Transfer-Encoding chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: chunked; a=b", b"Transfer-Encoding: x, chunked",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:", b"Transfer-Encoding: \xe7hunked", b"Transfer-Encoding: chun\xc5\xbfked",
    b"Transfer-Encoding: chun ked", b"Transfer-Encoding: \x85chunked", b"Transfer-Encoding: \xa0chunked",
    b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding", b"Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nX-Content-Length: 1", b"TE: chunked", b"TE: trailers\r\nTransfer-Encoding: chunked",
    b"Content-Encoding: chunked", b"Foo: bar\r\n\rTransfer-Encoding: chunked", b"Transfer-Encoding\xad: chunked",
    b"Transfer-\r\nEncoding: chunked", b"Transfer-Encoding: chunked\r", b": chunked\r\nTransfer-Encoding: chunked",
]
# How Content-Length can be written; {} is the true length.
LENGTHS = [
    b"Content-Length: +{}", b"Content-Length: -{}", b"Content-Length: 0{}", b"Content-Length: 0x{}", b"Content-Length: {}.0",
    b"Content-Length: {},", b"Content-Length: {},{}", b"Content-Length: {}, {}", b"Content-Length: 0, {}", b"Content-Length: {}, 0",
    b"Content-Length: {} 0", b"Content-Length: 0 {}", b"Content-Length: {}\r\nContent-Length: {}",
    b"Content-Length: 0\r\nContent-Length: {}", b"Content-Length: {}\r\nContent-Length: 0", b"Content-Length: \x0b{}",
    b"Content-Length: {}\x0b", b"Content-Length: {}\x00", b"Content-Length : {}", b"Content-Length\t: {}", b" Content-Length: {}",
    b"Content-Length:\r\n {}", b"X: y\r\n Content-Length: {}", b"X: y\nContent-Length: {}", b"X: y\rContent-Length: {}",
    b"Content_Length: {}", b"Content-Length: 1e1", b"Content-Length: {}e0", b"Content-Length: ", b"Content-Length: \"{}\"",
    b"Content-Length: 18446744073709551616", b"Content-Length: 18446744073709551615", b"Content-Length: 4294967296",
    b"Content-Length: -1", b"Content-Length: 0_{}", b"Content-Length: \xd9\xa3", b"Content-Length: {};", b"Content-Length: {}\r",
    b"Content-Length: 00000000000000000000000{}", b"Content-Length\x00: {}", b"content-length: {}\r\nCONTENT-LENGTH: 1",
    b"Connection: Content-Length\r\nContent-Length: {}", b"Content-Length: {}\r\nConnection: close, content-length",
]
# Chunked bodies; {} is what would be smuggled.
CHUNKS = [
    b"0\r\n\r\n{}", b"0\n\n{}", b"0\r\n\n{}", b"0\n\r\n{}", b"0\r\r\n\r\n{}", b"00\r\n\r\n{}", b"0x0\r\n\r\n{}", b"0 \r\n\r\n{}",
    b"0;\r\n\r\n{}", b"0;a\r\n\r\n{}", b"0;a=\"\r\n\r\n{}", b"0;a\n\r\n\r\n{}", b"0;a\r\r\n\r\n{}", b"0;\x00\r\n\r\n{}", b" 0\r\n\r\n{}",
    b"+0\r\n\r\n{}", b"-0\r\n\r\n{}", b"\r\n0\r\n\r\n{}", b"1\r\na\r\n0\r\n\r\n{}", b"1\r\naa\r\n0\r\n\r\n{}", b"1\r\na0\r\n\r\n{}",
    b"1\na\n0\n\n{}", b"1\r\na\n0\r\n\r\n{}", b"1\r\na\r0\r\n\r\n{}", b"1;\na\r\n0\r\n\r\n{}", b"1;x\nGET / HTTP/1.1\r\na\r\n0\r\n\r\n{}",
    b"0x1\r\na\r\n0\r\n\r\n{}", b"1 \r\na\r\n0\r\n\r\n{}", b"1\t\r\na\r\n0\r\n\r\n{}", b"g\r\na\r\n0\r\n\r\n{}", b"1g\r\na\r\n0\r\n\r\n{}",
    b"01\r\na\r\n0\r\n\r\n{}", b"000000000000000000000001\r\na\r\n0\r\n\r\n{}", b"FFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n{}",
    b"10000000000000001\r\na\r\n0\r\n\r\n{}", b"-1\r\na\r\n0\r\n\r\n{}", b"1_0\r\na\r\n0\r\n\r\n{}", b"1\r\r\na\r\n0\r\n\r\n{}",
    b"2\r\na\r\n0\r\n\r\n{}", b"0\r\nContent-Length: 5\r\n\r\n{}", b"0\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"0\r\nHost: evil\r\n\r\n{}",
    b"0\r\nX: y\n\r\n{}", b"0\r\nX\r\n\r\n{}", b"0\r\n X: y\r\n\r\n{}", b"0\r\nX: \x00\r\n\r\n{}", b"0\r\nX: y\r\r\n\r\n{}", b"1\r\n\r\n0\r\n\r\n{}",
    b"\x001\r\na\r\n0\r\n\r\n{}", b"1;" + b"e" * 9000 + b"\r\na\r\n0\r\n\r\n{}", b"1;a=\"b\r\nc\"\r\na\r\n0\r\n\r\n{}", b"0\r\n",
    b"0\r\n\r{}", b"0\r\n\r\n\r\n{}", b"\xd9\xa1\r\na\r\n0\r\n\r\n{}",
]
# Request lines; {} is the path.
LINES = [
    b"POST {} HTTP/1.1", b"POST\t{}\tHTTP/1.1", b"POST  {}  HTTP/1.1", b"POST {} HTTP/1.0", b"POST {} HTTP/1.2", b"POST {} HTTP/2.0",
    b"POST {} HTTP/0.9", b"POST {} http/1.1", b"POST {} HTTP/1.1 ", b"POST {} HTTP/1.1 HTTP/1.1", b"POST {}", b"POST {} HTTP/11",
    b"POST {} HTTP/1.1\x00", b" POST {} HTTP/1.1", b"\r\nPOST {} HTTP/1.1", b"\nPOST {} HTTP/1.1", b"\r\n\r\nPOST {} HTTP/1.1",
    b"POST http://localhost{} HTTP/1.1", b"POST http://evil{} HTTP/1.1", b"POST http://a@localhost{} HTTP/1.1", b"POST //evil{} HTTP/1.1",
    b"POST {}#x HTTP/1.1", b"POST {}?a b HTTP/1.1", b"POST {}%0d%0aX:y HTTP/1.1", b"POST {}\x7f HTTP/1.1", b"POST {}\xc3\xa6 HTTP/1.1",
    b"POST {}\\..\\ HTTP/1.1", b"POST {}/../ HTTP/1.1", b"P\x00ST {} HTTP/1.1", b"P(ST {} HTTP/1.1", b"GET {} HTTP/1.1", b"HEAD {} HTTP/1.1",
    b"DELETE {} HTTP/1.1", b"OPTIONS {} HTTP/1.1", b"TRACE {} HTTP/1.1", b"CONNECT {} HTTP/1.1", b"CONNECT localhost:80 HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0", b"get {} HTTP/1.1", b"POST {} HTTP/1.1\rX: y", b"POST {} HTTP/1.1\nX: y",
]
# Other lines of a head that two sides may take otherwise.
FIELDS = [
    b"Host: localhost\r\nHost: evil", b"Host: localhost, evil", b"Host: localhost evil", b"Host:", b"Host: localhost\x00", b"Host : localhost",
    b"Host: localhost/x", b"Host: a@localhost", b"Host: localhost\r\n Host: evil", b"X-Host: localhost", b"Host: [::1", b"Host: localhost:99999999",
    b"Host: localhost\r\nExpect: 100-continue", b"Host: localhost\r\nExpect: 100-continuee", b"Host: localhost\r\nExpect:\r\n 100-continue",
    b"Host: localhost\r\nExpect: y 100-continue", b"Host: localhost\r\nConnection: Host", b"Host: localhost\r\nConnection: keep-alive, Host",
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade", b"Host: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Host: localhost\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade", b"Host: localhost\r\nX-HTTP-Method-Override: GET", b"Host: localhost\r\nX", b"Host: localhost\r\n: y",
    b"Host: localhost\r\nX: \r\n\ty", b"Host: localhost\r\nX\xff: y", b"Host: localhost\r\nX: y\x00z", b"Host: localhost\r\nX: a\rb", b"Host: localhost\r\nX: a\nb",
    b"Host: localhost\r\n" + b"X: y\r\n" * 200 + b"X: y", b"Host: localhost\r\nX: " + b"y" * 70000, b"Host: localhost\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x",
    b"Host: localhost\r\nTrailer: Content-Length", b"Host: localhost\r\nKeep-Alive: 0", b"Host: localhost\r\nProxy-Connection: close", b"Host: localhost\r\nContent-Type: message/http",
]


def head(line, *fields):
    return CRLF.join((line, *fields)) + CRLF + CRLF


def corpus(mutations, seed):
    """Each case: a function of (path of the attack, what is to be smuggled) that gives bytes."""
    post = lambda path: b"POST " + path + b" HTTP/1.1"
    host = b"Host: localhost"
    cases = []
    for coding in CODINGS:
        def cl_te(path, hidden, coding=coding):
            body = b"0\r\n\r\n" + hidden
            return head(post(path), host, b"Content-Length: %d" % len(body), coding) + body
        def te_cl(path, hidden, coding=coding):
            return head(post(path), host, coding, b"Content-Length: 4") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
        def te(path, hidden, coding=coding):
            return head(post(path), host, coding) + b"0\r\n\r\n" + hidden
        def te_first(path, hidden, coding=coding):
            body = b"0\r\n\r\n" + hidden
            return head(b"GET " + path + b" HTTP/1.0", coding, host, b"Connection: keep-alive", b"Content-Length: %d" % len(body)) + body
        cases += [cl_te, te_cl, te, te_first]
    for length in LENGTHS:
        def cl(path, hidden, length=length):
            return head(post(path), host, length.replace(b"{}", b"%d" % len(hidden))) + hidden
        def cl_get(path, hidden, length=length):
            return head(b"GET " + path + b" HTTP/1.1", host, length.replace(b"{}", b"%d" % len(hidden))) + hidden
        cases += [cl, cl_get]
    for chunk in CHUNKS:
        def chunked(path, hidden, chunk=chunk):
            return head(post(path), host, b"Transfer-Encoding: chunked") + chunk.replace(b"{}", hidden)
        cases.append(chunked)
    for line in LINES:
        def cl_line(path, hidden, line=line):
            return head(line.replace(b"{}", path), host, b"Content-Length: %d" % len(hidden)) + hidden
        def te_line(path, hidden, line=line):
            return head(line.replace(b"{}", path), host, b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + hidden
        cases += [cl_line, te_line]
    for field in FIELDS:
        def cl_field(path, hidden, field=field):
            return head(post(path), field, b"Content-Length: %d" % len(hidden)) + hidden
        def no_body(path, hidden, field=field):
            return head(b"GET " + path + b" HTTP/1.1", field) + hidden
        cases += [cl_field, no_body]
    chance = random.Random(seed)
    known = list(cases)
    for _ in range(mutations):
        base, dice = chance.choice(known), chance.getrandbits(64)
        cases.append(lambda path, hidden, base=base, dice=dice: mutate(base(path, hidden), random.Random(dice)))
    return cases


def mutate(data, dice):
    end = data.find(b"\r\n\r\n") + 8
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(max(end, 1))
        what = dice.randrange(7)
        if what == 0:
            data = data[:at] + bytes([dice.choice([0, 9, 10, 11, 12, 13, 32, 44, 58, 59, 95, 127, 160, 255])]) + data[at:]
        elif what == 1:
            data = data[:at] + data[at + 1:]
        elif what == 2:
            data = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1:] if at < len(data) else data
        elif what == 3:
            data = data.replace(b"\r\n", b"\n", dice.randint(1, 3))
        elif what == 4:
            lines = data[:end].split(b"\r\n")
            one = dice.randrange(len(lines))
            lines.insert(one, lines[dice.randrange(len(lines))])
            data = b"\r\n".join(lines) + data[end:]
        elif what == 5:
            lines = data[:end].split(b"\r\n")
            dice.shuffle(lines[1:-2])
            data = b"\r\n".join(lines) + data[end:]
        else:
            data = data.replace(b": ", dice.choice([b":", b" : ", b":\t", b": \t", b":\r\n "]), 1)
    return data


# HTTP/2: fields that become lines of HTTP/1.1 towards the app. Each is (name, value) beside the pseudo-fields.
def frames_of(path, fields, body=b"", pseudo=None, end_with_head=False):
    def literal(name, value):
        return b"\x00" + number(len(name)) + name + number(len(value)) + value
    def number(value):
        if value < 127:
            return bytes([value])
        value -= 127
        out = b"\x7f"
        while value >= 128:
            out += bytes([value % 128 + 128])
            value //= 128
        return out + bytes([value])
    listed = pseudo or [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    block = b"".join(literal(name, value) for name, value in [*listed, *fields])
    frame = lambda kind, flags, stream, payload: len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    out += frame(1, 5 if end_with_head else 4, 1, block)
    return out if end_with_head else out + frame(0, 1, 1, body)


def downgrades():
    cases = []
    plain = lambda path: [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    lines = [
        (b"transfer-encoding", b"chunked"), (b"Transfer-Encoding", b"chunked"), (b"transfer-encoding ", b"chunked"), (b"x\r\ntransfer-encoding", b"chunked"),
        (b"x", b"y\r\nTransfer-Encoding: chunked"), (b"x", b"y\nTransfer-Encoding: chunked"), (b"x", b"y\rTransfer-Encoding: chunked"), (b"x: y\r\ntransfer-encoding", b"chunked"),
        (b"content-length", b"0"), (b"content-length", b"3"), (b"content-length", b"+5"), (b"content-length", b"5, 5"), (b"content-length", b"99999"), (b"content-length\x00", b"0"),
        (b"connection", b"transfer-encoding"), (b"connection", b"keep-alive"), (b"upgrade", b"websocket"), (b"proxy-connection", b"x"), (b"keep-alive", b"x"), (b"te", b"chunked"),
        (b"host", b"evil"), (b"host", b"localhost\r\nX: y"), (b"x", b"\x00"), (b"x", b" y "), (b"x\x00", b"y"), (b"", b"y"), (b":path", b"/evil"), (b":x", b"y"), (b"x y", b"z"), (b"x:", b"y"),
        (b"expect", b"100-continue"), (b"cookie", b"a\r\nContent-Length: 0"), (b"trailer", b"content-length"), (b"x", b"\x7f"), (b"x", b"\xff"), (b"x(", b"y"),
    ]
    for name, value in lines:
        for before in (b"0\r\n\r\n", b""):
            cases.append(lambda path, hidden, n=name, v=value, b=before: frames_of(path, [(n, v)], b + hidden))
        cases.append(lambda path, hidden, n=name, v=value: frames_of(path, [(n, v), (b"content-length", b"%d" % len(hidden))], hidden))
    pseudos = [
        lambda path, hidden: [*plain(path)[:3], (b":path", path + b" HTTP/1.1\r\nX: y")],
        lambda path, hidden: [*plain(path)[:3], (b":path", path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" + hidden)],
        lambda path, hidden: [*plain(path)[:3], (b":path", path + b"\r\n")],
        lambda path, hidden: [*plain(path)[:3], (b":path", path + b" x")],
        lambda path, hidden: [*plain(path)[:3], (b":path", path[1:])],
        lambda path, hidden: [*plain(path)[:3], (b":path", b"")],
        lambda path, hidden: [*plain(path)[:3], (b":path", b"http://localhost" + path)],
        lambda path, hidden: [*plain(path)[:3], (b":path", path), (b":path", path)],
        lambda path, hidden: [(b":method", b"POST " + path + b" HTTP/1.1\r\nX:"), *plain(path)[1:]],
        lambda path, hidden: [(b":method", b"GET\r\n"), *plain(path)[1:]],
        lambda path, hidden: [(b":method", b""), *plain(path)[1:]],
        lambda path, hidden: [(b":method", b"CONNECT"), *plain(path)[1:]],
        lambda path, hidden: [plain(path)[0], (b":scheme", b"http\r\nX: y"), *plain(path)[2:]],
        lambda path, hidden: [plain(path)[0], (b":scheme", b""), *plain(path)[2:]],
        lambda path, hidden: [*plain(path)[:2], (b":authority", b"localhost\r\nX: y"), plain(path)[3]],
        lambda path, hidden: [*plain(path)[:2], (b":authority", b"a@localhost"), plain(path)[3]],
        lambda path, hidden: [*plain(path)[:2], (b":authority", b""), plain(path)[3]],
        lambda path, hidden: [*plain(path)[:2], plain(path)[3]],
        lambda path, hidden: [(b"x", b"y"), *plain(path)],
    ]
    for make in pseudos:
        cases.append(lambda path, hidden, make=make: frames_of(path, [], hidden, pseudo=make(path, hidden)))
        cases.append(lambda path, hidden, make=make: frames_of(path, [], pseudo=make(path, hidden), end_with_head=True))
    return cases


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def dial(port, protocol):
    wire = socket.create_connection(("127.0.0.1", port), 5)
    wire.settimeout(PATIENCE)
    if protocol is None:
        return wire
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(wire, server_hostname="localhost")


def read_some(wire):
    """What comes until nothing does; the wait is for an edge that waits for more itself."""
    got = b""
    try:
        while True:
            more = wire.recv(65536)
            if not more:
                break
            got += more
            wire.settimeout(0.15)
    except (TimeoutError, ssl.SSLError, OSError):
        pass
    return got


class Run:
    """What one corpus gave against one app."""

    def __init__(self):
        self.sent = self.passed = self.refused = self.silent = 0
        self.robbed = []
        self.lock = threading.Lock()


def attack(run, port, app, number, case, protocol):
    path = f"/{app}/a-{number}".encode()
    hidden = f"GET /{app}/s-{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    data = case(path, hidden)
    got = b""
    try:
        with dial(port, protocol) as wire:
            wire.sendall(data)
            got = read_some(wire)
            if protocol != "h2":
                wire.settimeout(PATIENCE)
                wire.sendall(f"GET /{app}/f-{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                read_some(wire)
    except (OSError, ssl.SSLError):
        pass
    robbed = None
    # Somebody else, who has done nothing wrong.
    try:
        with dial(port, protocol and "http/1.1") as wire:
            wire.settimeout(10)
            wire.sendall(f"GET /{app}/v-{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while more := wire.recv(65536):
                answer += more
        if f"/{app}/v-{number}".encode() not in answer:
            robbed = answer[:200]
    except (OSError, ssl.SSLError) as error:
        robbed = repr(error).encode()
    with run.lock:
        run.sent += 1
        if robbed is not None:
            run.robbed.append((number, robbed))
        elif not got:
            run.silent += 1
        elif b"HTTP/1.1 4" in got[:12] or protocol == "h2" and b"/a-" not in got:
            run.refused += 1
        else:
            run.passed += 1


def marks(lines):
    """How often each marked path was seen."""
    return Counter(mark for line in lines for mark in MARK.findall(line)[:1])


def hunt(port, app, cases, first, protocol):
    run = Run()
    with ThreadPoolExecutor(12) as pool:
        for offset, case in enumerate(cases):
            pool.submit(attack, run, port, app, first + offset, case, protocol)
    return run


class Naive(threading.Thread):
    """A proxy that believes Content-Length and nothing else: it must be caught."""

    def __init__(self, app_port):
        super().__init__(daemon=True)
        self.app_port, self.seen = app_port, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(wire,), daemon=True).start()

    def serve(self, wire):
        wire.settimeout(2)
        try:
            with wire, socket.create_connection(("127.0.0.1", self.app_port), 5) as app:
                app.settimeout(0.3)
                data = b""
                while True:
                    while b"\r\n\r\n" not in data:
                        more = wire.recv(65536)
                        if not more:
                            return
                        data += more
                    top, data = data.split(b"\r\n\r\n", 1)
                    length = re.search(rb"(?im)^content-length:\s*(\d+)", top)
                    length = int(length[1]) if length else 0
                    while len(data) < length:
                        more = wire.recv(65536)
                        if not more:
                            return
                        data += more
                    self.seen.append(top.split(b"\r\n")[0])
                    app.sendall(top + b"\r\n\r\n" + data[:length])
                    data = data[length:]
                    wire.sendall(read_some(app))
                    app.settimeout(0.3)
        except OSError:
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--klar", type=Path, default=Path("target/release/klar"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutations", type=int, default=300)
    parser.add_argument("--apps", default="nginx,node,gunicorn")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="klar-smuggling-", dir="/var/lib"))
    app = folder / "app"
    for name in ("run-nginx", "run-node", "run-gunicorn"):
        (app / name).mkdir(parents=True)
    (app / "nginx.conf").write_text(NGINX)
    (app / "app.js").write_text(NODE)
    (app / "app.py").write_text(GUNICORN)
    port = free_port()
    (app / "klar.toml").write_text(KLAR % (port, free_port()))
    env = {**os.environ, "KLAR_STATE": str(folder / "state")}

    def klar(*args):
        done = subprocess.run([str(given.klar), *args], cwd=app, env=env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"klar {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    failed = False
    os.chmod(folder, 0o755)
    try:
        klar("up")
        status = json.loads(klar("status", "--json"))
        ports = {service["name"]: service["instances"][0]["port"] for service in status["apps"][0]["services"]}
        logs = {name: next((folder / "state").glob(f"apps/*/writable/run-{name}/seen.log")) for name in ports}
        cases, streams = corpus(given.mutations, given.seed), downgrades()
        print(f"{len(cases)} cases in HTTP/1.1, {len(streams)} in HTTP/2\n")
        print("| app | through | sent | passed on | refused | no answer | smuggled | robbed |")
        print("|---|---|---|---|---|---|---|---|")
        number = 1
        for name in given.apps.split(","):
            naive = Naive(ports[name])
            naive.start()
            # Framing only: what is mutated adds nothing here.
            few = [case for case in corpus(0, given.seed)]
            rounds = [("a proxy that believes Content-Length", naive.port, few, None)]
            rounds += [("klar, HTTP/1.1", port, cases, "http/1.1"), ("klar, HTTP/2", port, streams, "h2")]
            for through, where, which, protocol in rounds:
                start = logs[name].stat().st_size
                run = hunt(where, name, which, number, protocol)
                number += len(which)
                came = marks(logs[name].read_bytes()[start:].splitlines())
                if protocol is None:
                    told = marks(naive.seen)
                else:
                    told = Counter()
                    # Records come in batches.
                    for _ in range(50):
                        told = passed_on(klar("logs", "--access", "--json", "-n", "100000"))
                        if all(told[mark] >= count for mark, count in came.items()):
                            break
                        time.sleep(0.2)
                smuggled = sorted(mark.decode() for mark, count in came.items() if count > told[mark])
                print(f"| {name} | {through} | {run.sent} | {run.passed} | {run.refused} | {run.silent} | {len(smuggled)} | {len(run.robbed)} |", flush=True)
                if protocol is None and not smuggled:
                    failed = True
                    print("  the proxy that smuggles was not caught: the rest says nothing")
                if protocol is not None and (smuggled or run.robbed or sum(came.values()) == 0):
                    failed = True
                    print(f"  smuggled: {smuggled[:10]}; robbed: {run.robbed[:5]}; {sum(came.values())} requests came")
            naive.listener.close()
    finally:
        # It may not have come up, which is told by then.
        subprocess.run([str(given.klar), "down", "--all"], cwd=app, env=env, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


def passed_on(records):
    told = Counter()
    for line in records.splitlines():
        record = json.loads(line)
        for mark in MARK.findall(record["path"].encode())[:1]:
            told[mark] += record["attempts"]
    return told


if __name__ == "__main__":
    main()
