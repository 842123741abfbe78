#!/usr/bin/env python3
"""The app behind a firewall under test: `POST /reflect` is answered with what its JSON body asks for, all else with OK.

It does what the Core Rule Set's own test backend (albedo) does, so that the rules for responses have responses to read.

    bench/waf/reflect.py PORT
"""

import base64
import binascii
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# How Go's net/http names a body that nobody has named; rules look at HTML and text only, so the name decides.
HTML = re.compile(
    rb"\s*<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >]|\s*<!--", re.I
)
MAGIC = [(b"%PDF-", "application/pdf"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"),
         (b"GIF8", "image/gif"), (b"PK\x03\x04", "application/zip"), (b"\x1f\x8b\x08", "application/x-gzip")]
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def content_type(body):
    start = body[:512]
    if HTML.match(start):
        return "text/html; charset=utf-8"
    if start.lstrip(b"\t\n\x0c\r ").startswith(b"<?xml"):
        return "text/xml; charset=utf-8"
    for magic, name in MAGIC:
        if start.startswith(magic):
            return name
    return "application/octet-stream" if BINARY.search(start) else "text/plain; charset=utf-8"


def reflect(method, path, body):
    """Status, headers and body for a request."""
    plain = [("Content-Type", "text/plain; charset=utf-8")]
    if method != "POST" or path.split("?")[0].rstrip("/") != "/reflect":
        return 200, plain, b"OK"
    try:
        wanted = json.loads(body)
        status, headers = wanted.get("status", 200), wanted.get("headers", {})
        said = wanted.get("body", "").encode() or base64.b64decode(wanted.get("encodedBody", ""))
        headers = [(str(name), str(value)) for name, value in headers.items()]
        if not 100 <= status <= 599:
            raise ValueError
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return 400, plain, b"Invalid JSON in request body"
    if said and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", content_type(said)))
    return status, headers, said


def raw_response(method, path, body):
    status, headers, said = reflect(method, path, body)
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Reflected'}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
    lines += [f"Content-Length: {len(said)}"]
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + (b"" if method == "HEAD" else said)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def answer(self):
        self.wfile.write(raw_response(self.command, self.path, self.body()))

    def __getattr__(self, name):
        # Whatever the method is called.
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_):
        pass


class Backend(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(port=0):
    """In a thread of its own; returns the server, whose `server_port` is the one that was free."""
    backend = Backend(("127.0.0.1", port), Handler)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    return backend


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Backend(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
