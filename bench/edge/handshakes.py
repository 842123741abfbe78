#!/usr/bin/env python3
"""What a TLS handshake costs the edge, beside nginx and HAProxy in the same run.

Each visitor connects, shakes hands (TLS 1.3, X25519, a certificate on P-256), asks for one kilobyte and hangs up. In
full: each handshake is the first of its visitor. Resumed: each visitor has a ticket, and it is counted only if the
server took it. The figure is CPU of the proxy's processes for one such visit: the visitor of the same is written in
Python and no match for a proxy, so how many handshakes a core can do is worked out, not seen.

    bench/edge/handshakes.py [--klar target/release/klar] [--rounds 5] [--seconds 3]

As root, with nginx and haproxy installed. The proxy runs on core 0, the visitors and the app on core 1.
"""

import os
import socket
import ssl
import sys
import time

import rig

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def visit(context, port, session=None):
    """One visit; its session, which has its ticket only once the answer was read, and whether one was resumed."""
    with socket.create_connection(("127.0.0.1", port), 10) as tcp:
        with context.wrap_socket(tcp, server_hostname="localhost", session=session) as tls:
            tls.sendall(ASK)
            answer = b""
            while part := tls.recv(16384):
                answer += part
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"port {port}: {answer[:80]!r}")
            return tls.session, tls.session_reused


def shake(port, pids, seconds, resumed):
    context = trusting()
    session = None
    if resumed:
        session, _ = visit(context, port)
    visit(context, port, session)
    before, begun, done, taken = rig.cpu_seconds(pids), time.monotonic(), 0, 0
    while time.monotonic() < begun + seconds:
        # A ticket is for one visit (RFC 8446, appendix C.4); each visit brings the next.
        got, was_resumed = visit(context, port, session)
        session = got if resumed else None
        done, taken = done + 1, taken + was_resumed
    used, took = rig.cpu_seconds(pids) - before, time.monotonic() - begun
    return {"ms": used / done * 1000, "resumed": taken / done, "rate": done / took, "busy": used / took}


def main():
    given = rig.options(__doc__, 5, 3)
    with rig.quiet(given), rig.stage(given) as stage:
        servers = [rig.nginx(stage), rig.haproxy(stage), stage.klar]
        # The visitors are this program.
        os.sched_setaffinity(0, {1})
        print(f"{given.rounds} rounds of {given.seconds} s; medians\n")
        rig.header("visits", "server", "CPU ms each", "of nginx", "a core could do, each second", "seen each second",
                   "resumed", "core busy")
        for what, resumed in (("full handshake", False), ("resumed handshake", True)):
            those = [(one.name, one.https, one.pids) for one in servers]
            middle = rig.in_turns(those, given.rounds, lambda port, pids: shake(port, pids, given.seconds, resumed))
            for name, of in middle.items():
                if resumed and of["resumed"] < 0.99:
                    print(f"**{name} took only {of['resumed']:.0%} of the tickets.**", file=sys.stderr)
                # Less than a tick of the clock was used: nothing can be worked out.
                could = f"{1000 / of['ms']:,.0f}" if of["ms"] else "?"
                ratio = of["ms"] / middle["nginx"]["ms"] if middle["nginx"]["ms"] else float("nan")
                rig.row(what, name, f"{of['ms']:.3f}", f"{ratio:.2f}", could, f"{of['rate']:,.0f}", f"{of['resumed']:.0%}",
                        f"{of['busy']:.0%}")


main()
