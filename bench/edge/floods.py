#!/usr/bin/env python3
"""What attacks on connections do to the edge: memory, the visitors of others, and what becomes of the attacker.

Each of the attacks in attacks.py goes on for some seconds, first against naive.py, which has no limit and has to count
it (an attack that the control does not see, or that it gets rid of, says nothing), then against nginx and the edge.
Meanwhile memory is sampled ten times a second, and a visitor with manners makes one connection after another and asks
on it. An attack is **held off** if the edge lives on in the same process, grows by no more than the limit, answers
every visitor with 200, and has ended the attacker's connections where it says that it does. Exit status 1 if one is
not.

    bench/edge/floods.py [--klar target/release/klar] [--seconds 3] [--only WORD] [--grow 128] [--without-nginx]

As root, with nginx installed. The edge runs with `headers_timeout = "3s"` and `timeout = "6s"`, so that what is slow
ends within ten seconds; all else is as it comes. The proxy runs on core 0, everybody else on core 1.
"""

import http.client
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time

import attacks
import rig

CONFIG = rig.KLAR.partition("trusted_proxies")[0] + 'headers_timeout = "3s"\ntimeout = "6s"\n'
NGINX = rig.NGINX.replace("keepalive_timeout 180s;", "client_header_timeout 3s; client_body_timeout 3s; send_timeout 6s;")
# What is slow gets so many seconds, since its clock has to run out.
SLOW = 8
# The control gets so many: it need not end anything.
CONTROL = 2
# The control has counted an attack if it saw at least so many.
FRAMES, BYTES = 1000, 2000
# A visitor gives up after this.
PATIENCE = 10


class Naive:
    """A new one for each attack."""

    name = "control"

    def __init__(self, folder):
        self.https, self.tells = rig.free_port(), rig.free_port()
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "naive.py")
        command = ["taskset", "-c", "0", sys.executable, program, str(self.https), str(self.tells), str(folder / "both.pem")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        rig.wait_for_port(self.tells, "naive.py")
        self.pids = [self.process.pid]

    def told(self):
        """What it has seen."""
        with socket.create_connection(("127.0.0.1", self.tells), 60) as asked:
            said = b""
            while part := asked.recv(65536):
                said += part
        return json.loads(said)

    def end(self):
        self.process.kill()
        self.process.wait()


def watch(pids, over, samples):
    while not over.wait(0.1) and rig.alive(pids):
        samples.append(rig.resident_mb(pids))


def visits(port, over):
    """Milliseconds that each visit took, and what went wrong with others."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    took, wrong = [], []
    while not over():
        begun = time.monotonic()
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
            connection.request("GET", "/", headers={"Host": "localhost"})
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) != 1024:
                wrong.append(f"{answer.status}")
            connection.close()
            took.append((time.monotonic() - begun) * 1000)
        except (OSError, http.client.HTTPException) as error:
            wrong.append(type(error).__name__)
        time.sleep(0.02)
    return took, wrong


def attacked(attack, port, seconds, pipe):
    os.sched_setaffinity(0, {1})
    pipe.send(attacks.run(attack, port, seconds))


def under(attack, server, seconds):
    """One attack on one server, and visitors for as long as it lasts."""
    samples, over = [rig.resident_mb(server.pids)], threading.Event()
    mine, theirs = multiprocessing.Pipe()
    attacker = multiprocessing.Process(target=attacked, args=(attack, server.https, seconds, theirs))
    watcher = threading.Thread(target=watch, args=(server.pids, over, samples))
    attacker.start()
    watcher.start()
    late = time.monotonic() + attacks.OPENING + seconds + 30
    took, wrong = visits(server.https, lambda: mine.poll() or time.monotonic() > late) if server.name != "control" else ([], [])
    seen = mine.recv() if mine.poll(max(0, late - time.monotonic())) else {"did not come back": 1}
    attacker.kill()
    attacker.join()
    # What ends with the attack has ended by then.
    time.sleep(1)
    over.set()
    watcher.join()
    ended = {key.removeprefix("ended: "): count for key, count in seen.items() if key.startswith("ended: ")}
    return {"seen": seen, "ended": ended, "at first": samples[0], "most": max(samples), "last": samples[-1],
            "took": took, "wrong": wrong, "alive": rig.alive(server.pids)}


def counted(attack, told):
    """Why the control says that this was no attack, if it does."""
    got = told.get(attack.counts, 0)
    wanted = {"connections": attack.connections, "bytes": BYTES, "": 0}.get(attack.counts, FRAMES)
    if attack.counts == "HEADERS":
        wanted = 100
    if attack.name.startswith("header bomb"):
        wanted = 10
    return f"the control counted {got:,} {attack.counts}, not {wanted:,}" if got < wanted else None


def verdict(attack, of, grow):
    """What is wrong, in words."""
    wrong = []
    if not of["alive"]:
        wrong.append("the process is gone")
    if of["most"] - of["at first"] > grow:
        wrong.append(f"grew by {of['most'] - of['at first']:.0f} MB")
    if of["wrong"]:
        wrong.append(f"{len(of['wrong'])} visits failed ({', '.join(sorted(set(of['wrong'])))})")
    if not of["took"]:
        wrong.append("no visitor was answered")
    if attack.must_end and not of["ended"]:
        wrong.append("the attacker's connections were not ended")
    return "; ".join(wrong)


def say(attack, server, of, said):
    ended = ", ".join(f"{count:,} {how}" for how, count in sorted(of["ended"].items())) or "none"
    seen = of["seen"]
    took = sorted(of["took"])
    times = [f"{len(took):,}", f"{len(of['wrong'])}", f"{statistics.median(took):.0f}", f"{took[-1]:.0f}"] if took else [
        "", f"{len(of['wrong'])}" if server.name != "control" else "", "", ""]
    rig.row(attack.name, server.name, f"{seen.get('opened', 0):,}", f"{seen.get('frames', 0):,}", ended,
            f"{seen.get('open', 0):,}", f"{of['at first']:.0f}", f"{of['most']:.0f}", f"{of['last']:.0f}", *times, said)


def main():
    given = rig.options(__doc__, 1, 3, only={"default": ""}, grow={"type": float, "default": 128.0},
                        **{"without-nginx": {"action": "store_true"}})
    rig.raise_nofile()
    failed = []
    with rig.quiet(given), rig.stage(given, config=CONFIG) as stage:
        peers = [] if given.without_nginx else [rig.nginx(stage, config=NGINX)]
        os.sched_setaffinity(0, {1})
        rig.header("attack", "on", "connections", "frames or bytes sent", "ended", "still open", "RSS MB at first", "most", "last",
                   "visits", "failed", "median ms", "longest ms", "")
        for attack in attacks.ATTACKS:
            if given.only not in attack.name:
                continue
            if attack.counts:
                control = Naive(stage.folder)
                try:
                    of = under(attack, control, min(given.seconds, CONTROL))
                    doubt = counted(attack, control.told())
                finally:
                    control.end()
                say(attack, control, of, doubt or "sees it")
                failed += [f"{attack.name}: {doubt}"] if doubt else []
            seconds = max(given.seconds, SLOW) if attack.pause else given.seconds
            for one in [*peers, stage.klar]:
                of = under(attack, one, seconds)
                wrong = verdict(attack, of, given.grow)
                say(attack, one, of, wrong or "held off")
                if wrong and one is stage.klar:
                    failed.append(f"{attack.name}: {wrong}")
    if failed:
        sys.exit("\n".join(failed))


main()
