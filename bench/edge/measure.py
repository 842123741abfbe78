#!/usr/bin/env python3
"""What a request costs the edge, beside nginx, HAProxy and Varnish in the same run.

The figure is CPU seconds of the proxy's processes for 100,000 requests. The proxy runs on core 0, the generator and
the app on core 1; every server proxies to the same instance of the same app, which klar runs. Rounds are interleaved,
their order reversed every second time; what counts is the median. As root, with nginx, haproxy, varnish, wrk and
nghttp2-client installed.

    cargo build --release --package klar
    bench/edge/measure.py [http1 | http2 | cores] [--klar target/release/klar] [--rounds 3] [--seconds 2]

`http1` (the default) is HTTP/1.1, by wrk; over plain HTTP klar serves only proxies that it is told to trust
(`plain_http`), which here is this machine. `http2` is HTTP/2 over TLS, by h2load. `cores` is klar with two workers
beside nginx with two: there are two cores, so wrk and the app run on the same ones, and the rate is what is left
beside them; CPU for each request is what can be compared.
"""

import http.client
import sys

import rig

CONNECTIONS = (64, 512)
# Connections, and streams at once on each.
STREAMS = ((64, 1), (16, 32))


def must_be_kept(port, who):
    """The app makes each answer anew: one that comes twice was kept."""
    made = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/cached", headers={"Host": "localhost"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        made.append((answer.status, answer.getheader("X-Made")))
    if made[0] != made[1] or made[0][0] != 200 or not made[0][1]:
        sys.exit(f"{who} does not answer from its cache: {made}")


def secure(path, **those):
    return [(name, f"https://127.0.0.1:{one.https}{path}", one.pids) for name, one in those.items()]


def plain(path, **those):
    return [(name, f"http://127.0.0.1:{one.http}{path}", one.pids) for name, one in those.items()]


def table(given, cases, loads, shoot, **more):
    """Of `cases` the first server of each is what the others are compared with."""
    rig.header("case", "connections", "server", "CPU s / 100k requests", "of nginx", "requests/s", "p99 ms", "RSS MB",
               "cores busy")
    for case, those in cases:
        for load in loads:
            connections, streams = load if isinstance(load, tuple) else (load, None)
            these = {**more, "streams": streams} if streams else more
            middle = rig.in_turns(those, given.rounds,
                                  lambda url, pids: rig.measure(shoot, url, pids, connections, given.seconds, **these))
            for name, of in middle.items():
                ratio = of["cpu"] / middle[those[0][0]]["cpu"]
                rig.row(case, f"{connections} of {streams} streams" if streams else connections, name, f"{of['cpu']:.2f}",
                        f"{ratio:.2f}", f"{of['rate']:,.0f}", "" if of["p99"] is None else f"{of['p99']:.1f}",
                        f"{of['rss']:.0f}", f"{of['busy']:.0%}")


def http1(given, stage):
    klar, nginx, haproxy, varnish = stage.klar, rig.nginx(stage), rig.haproxy(stage), rig.varnish(stage)
    # The others do less than klar does: it is told apart by one that does the same.
    alike = rig.nginx(stage, config=rig.NGINX_ALIKE, name="nginx-alike")
    for one in (klar, nginx, alike, varnish):
        must_be_kept(one.http, one.name)
    table(given, [
        ("TLS proxy, 1 KiB", secure("/", nginx=nginx, haproxy=haproxy, **{"nginx alike": alike}, klar=klar)),
        ("TLS, file of 1 KiB", secure("/files/1k.txt", nginx=nginx, **{"nginx alike": alike}, klar=klar)),
        ("plain proxy, 1 KiB", plain("/", nginx=nginx, haproxy=haproxy, **{"nginx alike": alike}, klar=klar)),
        ("cache hit, 1 KiB", plain("/files/1k.txt", **{"nginx, file": nginx})
         + plain("/cached", **{"nginx, proxy_cache": nginx, "nginx alike, proxy_cache": alike}, varnish=varnish,
                 klar=klar)),
    ], CONNECTIONS, rig.wrk)


def http2(given, stage):
    klar, nginx, haproxy = stage.klar, rig.nginx(stage), rig.haproxy(stage)
    for one in (klar, nginx):
        must_be_kept(one.http, one.name)
    table(given, [
        ("HTTP/2 proxy, 1 KiB", secure("/", nginx=nginx, haproxy=haproxy, klar=klar)),
        ("HTTP/2, file of 1 KiB", secure("/files/1k.txt", nginx=nginx, klar=klar)),
        ("HTTP/2 cache hit, 1 KiB", secure("/files/1k.txt", **{"nginx, file": nginx})
         + secure("/cached", **{"nginx, proxy_cache": nginx}, klar=klar)),
    ], STREAMS, rig.h2load)


def cores(given, stage):
    klar, nginx = stage.klar, rig.nginx(stage, "0,1")
    table(given, [
        ("two workers: TLS proxy, 1 KiB", secure("/", nginx=nginx, klar=klar)),
        ("two workers: TLS, file of 1 KiB", secure("/files/1k.txt", nginx=nginx, klar=klar)),
        ("two workers: plain proxy, 1 KiB", plain("/", nginx=nginx, klar=klar)),
        ("two workers: cache hit, 1 KiB", plain("/cached", nginx=nginx, klar=klar)),
    ], CONNECTIONS, rig.wrk, threads=2, cores="0,1")


def main():
    given = rig.options(__doc__, 3, 2, cases={"nargs": "?", "choices": ("http1", "http2", "cores"), "default": "http1"})
    # One core to run on makes one worker.
    with rig.quiet(given), rig.stage(given, "0,1" if given.cases == "cores" else "0") as stage:
        print(f"`{given.cases}`, {given.rounds} rounds of {given.seconds} s; medians\n")
        {"http1": http1, "http2": http2, "cores": cores}[given.cases](given, stage)


main()
