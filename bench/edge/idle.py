#!/usr/bin/env python3
"""What connections cost that are open and ask nothing: 512 and 10,000, plain and over TLS, beside nginx.

Each connection is answered once, over HTTP/1.1, and then kept. Memory is that of the proxy's processes, before
anybody came and with all of them idle; CPU is what they use while nothing is asked, in thousandths of a core; in the
end all of them ask again, and all have to be answered.

    bench/edge/idle.py [--klar target/release/klar] [--connections 512,10000] [--seconds 10]

As root, with nginx installed. The proxy runs on core 0, the visitors and the app on core 1. Connections are as many as
may be open in one process, if that is fewer.
"""

import os
import socket
import ssl
import sys
import time

import rig

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
# After so many seconds without a request klar closes a connection.
IDLE_TIME = 60
# Sockets and files that are something else than visitors.
OTHERS = 300


def asks(stream):
    """Whether it is answered with 200."""
    try:
        stream.sendall(ASK)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 1024:
            part = stream.recv(8192)
            if not part:
                return False
            answer += part
        return answer.startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def connect(port, context):
    tcp = socket.create_connection(("127.0.0.1", port), 30)
    return context.wrap_socket(tcp, server_hostname="localhost") if context else tcp


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def idle(port, pids, context, count, seconds):
    begun, visitors, first = time.monotonic(), [], 0
    for _ in range(count):
        visitors.append(connect(port, context))
        first += asks(visitors[-1])
    opened = time.monotonic() - begun
    # What was worked on when the last one was answered is done by then.
    time.sleep(1)
    used, begun, with_all = rig.cpu_seconds(pids), time.monotonic(), rig.resident_mb(pids)
    time.sleep(seconds)
    used = (rig.cpu_seconds(pids) - used) / (time.monotonic() - begun)
    again = sum(asks(visitor) for visitor in visitors)
    for visitor in visitors:
        visitor.close()
    return {"with": with_all, "cpu": used, "first": first, "again": again, "opened": opened}


def main():
    given = rig.options(__doc__, 1, 10, connections={"default": "512,10000"})
    files = rig.raise_nofile()
    counts = [min(int(count), files - OTHERS) for count in given.connections.split(",")]
    failed = False
    with rig.quiet(given), rig.stage(given) as stage:
        nginx = rig.nginx(stage)
        os.sched_setaffinity(0, {1})
        print(f"idle for {given.seconds} s\n")
        at_first = {one.name: rig.resident_mb(one.pids) for one in (nginx, stage.klar)}
        rig.header("idle connections", "server", "RSS MB at first", "RSS MB with them", "KB for each", "CPU of a core",
                   "answered at first", "answered again", "opened in s")
        for what, context in (("plain", None), ("TLS", trusting())):
            for count in counts:
                for one in (nginx, stage.klar):
                    port = one.https if context else one.http
                    of = idle(port, one.pids, context, count, given.seconds)
                    each = (of["with"] - at_first[one.name]) * 1024 / count
                    rig.row(f"{count:,} {what}", one.name, f"{at_first[one.name]:.0f}", f"{of['with']:.0f}", f"{each:.1f}",
                            f"{of['cpu']:.2%}", f"{of['first']:,}", f"{of['again']:,}", f"{of['opened']:.1f}")
                    failed |= of["first"] < count or of["again"] < count
                    if of["opened"] + given.seconds > IDLE_TIME:
                        print(f"{one.name}: it took so long to open them that the first had idled for too long", file=sys.stderr)
    if failed:
        sys.exit("not all were answered")


main()
