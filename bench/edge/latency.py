#!/usr/bin/env python3
"""How long visitors wait at 70 % of what nginx can do, beside nginx and HAProxy in the same run.

First wrk finds out how many requests each second nginx answers when it is asked as fast as it can (median of the
rounds); then each server gets the same share of that, at a constant rate that no answer slows down (an open model,
crates/klar-edge/examples/pace.rs). A request counts from the moment when it should have been sent, so one that had to
wait for others is charged for it (no coordinated omission).

    cargo build --release --package klar && cargo build --release --package klar-edge --example pace
    bench/edge/latency.py [--klar target/release/klar] [--share 0.7] [--rounds 3] [--seconds 8]

As root, with nginx, haproxy and wrk installed; `pace` is looked for in `examples` beside klar. The proxy runs on core
0; the generator and the app share core 1, and what they wait for each other is in the figures of all alike: `floor` is
the app asked without any proxy.
"""

import json
import subprocess
import sys
from pathlib import Path

import rig

CONNECTIONS = 64


def paced(pace, port, kind, rate, seconds, pids):
    command = ["taskset", "-c", "1", str(pace), f"127.0.0.1:{port}", kind, "/", str(rate), str(seconds), str(CONNECTIONS)]
    before = rig.cpu_seconds(pids)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    said = json.loads(done.stdout)
    said["busy"] = (rig.cpu_seconds(pids) - before) / seconds
    # Nobody can say how long those would have waited.
    return {key: float("inf") if value is None else value for key, value in said.items()}


def main():
    given = rig.options(__doc__, 3, 8, share={"type": float, "default": 0.7}, pace={"type": Path})
    pace = given.pace or given.klar.parent / "examples" / "pace"
    if not pace.exists():
        sys.exit(f"{pace} is not there: cargo build --release --package klar-edge --example pace, or --pace")
    with rig.quiet(given), rig.stage(given) as stage:
        servers = [rig.nginx(stage), rig.haproxy(stage), stage.klar]
        nginx, app = servers[0], stage.klar.app_port
        tables = []
        for kind, scheme in (("plain", "http"), ("tls", "https")):
            def port(one):
                return one.https if kind == "tls" else one.http
            url = f"{scheme}://127.0.0.1:{port(nginx)}/"
            most = rig.in_turns([("nginx", url)], given.rounds, lambda url: rig.measure(
                rig.wrk, url, nginx.pids, CONNECTIONS, min(given.seconds, 3)))["nginx"]["rate"]
            rate = int(most * given.share)
            those = [(one.name, port(one), kind, one.pids) for one in servers]
            if kind == "plain":
                those.append(("floor", app, kind, []))
            middle = rig.in_turns(those, given.rounds, lambda port, kind, pids: paced(
                pace, port, kind, rate, given.seconds, pids))
            tables.append((kind, most, rate, middle))
        print(f"{given.share:.0%} of nginx's rate for {given.seconds} s on {CONNECTIONS} connections, {given.rounds} rounds; medians\n")
        rig.header("proxy, 1 KiB", "server", "nginx can, each second", "asked, each second", "p50 ms", "p90 ms", "p99 ms",
                   "p99 of nginx", "p99.9 ms", "max ms", "wrong", "not answered in time", "core busy")
        for kind, most, rate, middle in tables:
            for name, of in middle.items():
                times = [f"{of[key]:.2f}" for key in ("p50", "p90", "p99")]
                rig.row({"plain": "plain", "tls": "TLS"}[kind], name, f"{most:,.0f}", f"{rate:,}", *times,
                        f"{of['p99'] / middle['nginx']['p99']:.2f}", f"{of['p999']:.2f}", f"{of['max']:.1f}",
                        f"{of['wrong']:.0f}", f"{of['late']:.0f}", f"{of['busy']:.0%}")


main()
