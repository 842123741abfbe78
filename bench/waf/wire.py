"""Requests and answers as bytes: nothing here mends what it is given, since broken requests are half of what is sent."""

import re
import socket

CRLF = b"\r\n"
HEADER = re.compile(rb"^([^:\r\n]+):[ \t]*(.*?)[ \t]*\r?$", re.M)
INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d ")


def request(method, path, headers, body=b""):
    """HTTP/1.1 with these headers in this order, and none but these."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return CRLF.join(line.encode("utf-8", "surrogateescape") for line in lines) + CRLF * 2 + body


class Answer:
    """What came back on a connection; `status` is None if that was nothing that HTTP knows."""

    def __init__(self, raw):
        while INTERIM.match(raw):
            raw = raw.partition(CRLF * 2)[2]
        self.head, _, self.body = raw.partition(CRLF * 2)
        line = re.match(rb"HTTP/1\.[01] (\d{3})", raw)
        self.status = int(line[1]) if line else None
        self.headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in HEADER.findall(self.head)}

    def whole(self, to_head):
        """Whether the end is known to have come; an answer without a length ends with its connection."""
        if not self.status:
            return False
        if to_head or self.status in (204, 304):
            return True
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return self.body.endswith(b"0\r\n\r\n")
        length = self.headers.get("content-length")
        return length is not None and len(self.body) >= int(length)


def exchange(address, raw, patience_s=5.0):
    """Sends one request on a connection of its own. An answer without status: the other side closed, or said nothing."""
    came = b""
    try:
        with socket.create_connection(address, patience_s) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Who refuses a request early closes while its body is still on the way: what was answered is read all the same.
            try:
                connection.sendall(raw)
            except (BrokenPipeError, ConnectionResetError):
                pass
            while part := connection.recv(65536):
                came += part
                if CRLF * 2 in came and Answer(came).whole(raw.startswith(b"HEAD ")):
                    break
    except OSError:
        pass
    return Answer(came)
