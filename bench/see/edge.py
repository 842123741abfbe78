#!/usr/bin/env python3
"""What telemetry costs a request: the CPU time of its record in the edge, and how long visitors wait while telemetry runs,
is stalled (SIGSTOP), or is killed whenever it was started again (SIGKILL, looked for five times a second).

Requests come at a constant rate that no answer slows down (crates/klar-edge/examples/pace.rs), so a request that had to
wait is charged for it. The edge runs on core 0; the generator, the app, klar's core and telemetry on core 1, where the
generator and the app have the right of way (nice -20): what they would wait for the others is not the edge's doing.

The record: perf samples the edge at 5,000 Hz meanwhile. All that the thread `report` does (it hands records to the core)
counts, and of the workers all functions of `records.rs` and the end of a `Story` with what it calls that is a copy, a
number made text, or memory. The share of samples times the CPU time of a request is the price.

    cargo build --release --package klar && cargo build --release --package klar-edge --example pace
    bench/see/edge.py [--klar target/release/klar] [--rate 6000] [--rounds 5] [--seconds 8]

As root, with nginx and perf (the package linux-perf).
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "edge"))

import rig

CONNECTIONS = 64
PAUSE_S = 0.2
RECORD = re.compile(r"klar_edge::records|klar_edge::story::Story as core::ops::drop::Drop|klar_edge::story::agent")


def telemetry(klar):
    """Its process, once it runs: after many kills klar waits before it starts it again."""
    for _ in range(120):
        if pid := json.loads(klar.run("status", "--json"))["see"]["pid"]:
            return pid
        time.sleep(1)
    sys.exit("telemetry does not run")


class Fault:
    """Telemetry as it is while visitors ask."""

    def __init__(self, kind, klar):
        self.kind, self.klar, self.over, self.killed = kind, klar, threading.Event(), 0

    def __enter__(self):
        if self.kind == "stalled":
            self.pid = telemetry(self.klar)
            os.kill(self.pid, signal.SIGSTOP)
        elif self.kind == "killed":
            self.thread = threading.Thread(target=self.kill)
            self.thread.start()
        return self

    def kill(self):
        # Found without asking klar: a question would be work of its own.
        core = self.klar.pids[1]
        while not self.over.wait(PAUSE_S):
            for pid in rig.children(core) + rig.children(os_parent(core)):
                try:
                    if b"\0see\0" in Path(f"/proc/{pid}/cmdline").read_bytes() + b"\0":
                        os.kill(pid, signal.SIGKILL)
                        self.killed += 1
                except OSError:
                    pass

    def __exit__(self, *_):
        if self.kind == "stalled":
            os.kill(self.pid, signal.SIGCONT)
        elif self.kind == "killed":
            self.over.set()
            self.thread.join()


def os_parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def paced(pace, klar, kind, given, perf=None):
    command = ["nice", "-n", "-20", "taskset", "-c", "1", str(pace), f"127.0.0.1:{klar.http}", "plain", "/", str(given.rate), str(given.seconds),
               str(CONNECTIONS)]
    rig.pin(telemetry(klar), 1)
    with Fault(kind, klar) as fault:
        before = rig.cpu_seconds([klar.edge])
        sampling = perf and subprocess.Popen(
            ["perf", "record", "-q", "-F", "5000", "-p", str(klar.edge), "-o", perf, "--", "sleep", str(given.seconds)],
            stderr=subprocess.DEVNULL)
        done = subprocess.run(command, capture_output=True, text=True, timeout=given.seconds + 60)
        used = rig.cpu_seconds([klar.edge]) - before
        if sampling:
            sampling.wait()
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    said = json.loads(done.stdout)
    said["cpu_us"] = used / said["sent"] * 1e6
    said["killed"] = fault.killed
    return {key: float("inf") if value is None else value for key, value in said.items()}


def shares(perf):
    """Of all samples: those of the thread that hands over, and those of workers in what writes a record."""
    said = subprocess.run(["perf", "report", "-i", perf, "--stdio", "-s", "comm,symbol", "--percent-limit", "0"],
                          capture_output=True, text=True, check=True).stdout
    handing, writing, found = 0.0, 0.0, []
    for line in said.splitlines():
        parts = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[[.k]\]\s+(.*)", line)
        if not parts:
            continue
        share, thread, symbol = float(parts[1]) / 100, parts[2], parts[3]
        if thread == "report":
            handing += share
        elif RECORD.search(symbol):
            writing += share
            found.append((share, symbol))
    return handing, writing, found


def main():
    given = rig.options(__doc__, 5, 8, rate={"type": int, "default": 6000}, pace={"type": Path})
    pace = given.pace or given.klar.parent / "examples" / "pace"
    if not pace.exists():
        sys.exit(f"{pace} is not there: cargo build --release --package klar-edge --example pace, or --pace")
    with rig.quiet(given), rig.stage(given) as stage:
        klar = stage.klar
        rig.wrk(f"http://127.0.0.1:{klar.http}/", CONNECTIONS, 2)
        status = json.loads(klar.run("status", "--json"))
        shim = next(one["pid"] for service in status["apps"][0]["services"] for one in service["instances"])
        for pid in [shim, *rig.children(shim)]:
            os.setpriority(os.PRIO_PROCESS, pid, -20)
        those = [(kind, kind) for kind in ("running", "stalled", "killed")]
        middle = rig.in_turns(those, given.rounds, lambda kind: paced(pace, klar, kind, given))
        print(f"{given.rate:,} requests a second for {given.seconds} s on {CONNECTIONS} connections, {given.rounds} rounds; medians\n")
        rig.header("telemetry", "p50 ms", "p90 ms", "p99 ms", "p99 of running", "p99.9 ms", "max ms", "wrong",
                   "not answered in time", "kills", "CPU of the edge, µs a request")
        for name, of in middle.items():
            rig.row(name, *(f"{of[key]:.3f}" for key in ("p50", "p90", "p99")), f"{of['p99'] / middle['running']['p99']:.2f}",
                    f"{of['p999']:.2f}", f"{of['max']:.1f}", f"{of['wrong']:.0f}", f"{of['late']:.0f}", f"{of['killed']:.0f}",
                    f"{of['cpu_us']:.1f}")
        with tempfile.NamedTemporaryFile() as file:
            one = paced(pace, klar, "running", given, file.name)
            handing, writing, found = shares(file.name)
        # Sampling itself is work: the time of a request is that of the rounds before.
        cpu = middle["running"]["cpu_us"]
        print(f"\nThe record of a request: {writing * cpu:.2f} µs to write it and {handing * cpu:.2f} µs to hand it over, "
              f"{(writing + handing) * cpu:.2f} µs of {cpu:.1f} µs ({one['sent']:.0f} requests sampled). Written in:\n")
        for share, symbol in sorted(found, reverse=True):
            print(f"- {share * cpu:.2f} µs {symbol}")


main()
