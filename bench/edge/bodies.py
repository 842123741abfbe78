#!/usr/bin/env python3
"""What large bodies cost the edge, beside nginx and HAProxy in the same run: CPU seconds for a gigabyte.

Bodies of 1 MiB, down from the app, down from a file, and up to the app, over TLS with HTTP/1.1 by wrk on 16
connections. The app reads what is sent to it to the end before it answers, and every server proxies to the same
app. nginx keeps whole bodies that go up, and answers that the visitor is slower than, in memory or on disk, as it does
unless told otherwise.

    bench/edge/bodies.py [--klar target/release/klar] [--rounds 5] [--seconds 3]

As root, with nginx, haproxy and wrk installed. The proxy runs on core 0, wrk and the app on core 1.
"""

import rig

CONNECTIONS = 16
UP = """
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
wrk.headers["Content-Type"] = "application/octet-stream"
"""


def main():
    given = rig.options(__doc__, 5, 3)
    with rig.quiet(given), rig.stage(given) as stage:
        klar, nginx, haproxy = stage.klar, rig.nginx(stage), rig.haproxy(stage)
        script = stage.folder / "up.lua"
        script.write_text(UP)
        print(f"{given.rounds} rounds of {given.seconds} s; medians\n")
        rig.header("bodies of 1 MiB", "server", "CPU s / GB", "of nginx", "MB/s", "RSS MB", "core busy")
        for what, path, servers, script in [
            ("down, from the app", "/down/1m.bin", [nginx, haproxy, klar], None),
            ("down, from a file", "/files/1m.bin", [nginx, klar], None),
            ("up, to the app", "/up", [nginx, haproxy, klar], str(script)),
        ]:
            those = [(one.name, f"https://127.0.0.1:{one.https}{path}", one.pids) for one in servers]
            middle = rig.in_turns(those, given.rounds, lambda url, pids: rig.measure(
                rig.wrk, url, pids, CONNECTIONS, given.seconds, script=script))
            for name, of in middle.items():
                for_a_gigabyte = of["cpu"] / 100_000 / rig.MB * 1e9
                rig.row(what, name, f"{for_a_gigabyte:.2f}", f"{of['cpu'] / middle['nginx']['cpu']:.2f}",
                        f"{of['rate'] * rig.MB / 1e6:,.0f}", f"{of['rss']:.0f}", f"{of['busy']:.0%}")


main()
