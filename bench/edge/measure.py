#!/usr/bin/env python3
"""What a request costs the edge, beside nginx and HAProxy in the same run.

The figure is CPU seconds of the proxy's process for 100,000 requests: rates say more of the load generator and of
the neighbours. The proxy runs on core 0, the generator and the app on core 1; every server proxies to the same
instance of the same app, which klar runs. Rounds are interleaved, their order reversed every second time; what
counts is the median. As root, with nginx, haproxy and wrk installed.

    cargo build --release --package klar
    bench/edge/measure.py [--klar target/release/klar] [--rounds 5] [--seconds 3]
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = (64, 512)

# One kilobyte from memory: the cheapest app there is.
APP_NGINX = """
daemon off; worker_processes 1; error_log stderr crit; pid app.pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000; keepalive_timeout 60s;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  server { listen 127.0.0.1:@PORT@ backlog=4096; location / { default_type text/plain; return 200 "@BODY@"; } }
}
"""

KLAR = """
[app]
name = "bench"

[services.web]
run = 'sed "s/@PORT@/$PORT/" nginx.conf > run/nginx.conf && exec /usr/sbin/nginx -e stderr -p run -c nginx.conf'
writable = ["run"]

[services.files]
static = "files"

[routes]
"/*" = "web"
"/files/*" = "files"

[edge]
https_port = %d
http_port = %d
"""

NGINX = """
worker_processes 1; error_log stderr crit; pid %(folder)s/nginx.pid; daemon off;
events { worker_connections 8192; multi_accept on; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 60s; server_tokens off;
  open_file_cache max=1000 inactive=60s;
  upstream app { server 127.0.0.1:%(app)d; keepalive 256; keepalive_requests 1000000; }
  client_body_temp_path %(folder)s/t1; proxy_temp_path %(folder)s/t2; fastcgi_temp_path %(folder)s/t3;
  uwsgi_temp_path %(folder)s/t4; scgi_temp_path %(folder)s/t5;
  server {
    listen 127.0.0.1:%(port)d ssl http2 backlog=4096;
    ssl_certificate %(folder)s/cert.pem; ssl_certificate_key %(folder)s/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; }
    location /files/ { alias %(folder)s/app/files/; }
  }
}
"""

HAPROXY = """
global
  maxconn 5000
  nbthread 1
  ssl-server-verify none
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:%(port)d ssl crt %(folder)s/both.pem alpn h2,http/1.1
  option forwardfor
  default_backend app
backend app
  server app 127.0.0.1:%(app)d
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def pin(pid, core):
    subprocess.run(["taskset", "-apc", str(core), str(pid)], check=True, stdout=subprocess.DEVNULL)


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def wait_for_port(port, who):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{who} does not listen on port {port}")


class Klar:
    """The app, and the edge in front of it."""

    def __init__(self, program, folder, ends):
        self.program = str(program)
        self.env = {**os.environ, "KLAR_STATE": str(folder / "state")}
        self.folder = folder / "app"
        (self.folder / "files").mkdir(parents=True)
        (self.folder / "run").mkdir()
        (self.folder / "files" / "1k.txt").write_text("x" * 1024)
        (self.folder / "nginx.conf").write_text(APP_NGINX.replace("@BODY@", "x" * 1024))
        self.port = free_port()
        (self.folder / "klar.toml").write_text(KLAR % (self.port, free_port()))
        ends.append(self.end)
        # One core to run on makes one worker.
        self.run("up", taskset="0")
        status = json.loads(self.run("status", "--json"))
        self.edge = status["edge"]["pid"]
        instance = next(one for service in status["apps"][0]["services"] for one in service["instances"])
        self.app_port = instance["port"]
        for pid in [status["core_pid"], instance["pid"], *children(instance["pid"])]:
            pin(pid, 1)
        pin(self.edge, 0)

    def run(self, *args, taskset=None):
        command = [self.program, *args]
        if taskset is not None:
            command = ["taskset", "-c", taskset, *command]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"klar {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def end(self):
        self.run("down", "--all")


class Peer:
    """A proxy of somebody else's."""

    def __init__(self, name, command, config, folder, app):
        self.name, self.port = name, free_port()
        file = folder / f"{name}.conf"
        file.write_text(config % {"folder": folder, "port": self.port, "app": app})
        self.process = subprocess.Popen(["taskset", "-c", "0", *command, str(file)])
        wait_for_port(self.port, name)
        # nginx serves from its child, HAProxy in the foreground by itself.
        self.pid = next(iter(children(self.process.pid)), self.process.pid)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def certificate(folder):
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem && cat cert.pem key.pem > both.pem",
        shell=True, check=True, cwd=folder, stderr=subprocess.DEVNULL,
    )


def shoot(url, connections, seconds):
    """Requests answered, requests that went wrong, 99th percentile in ms."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", "Host: localhost", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", said)[1])
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: (.*)", said)
    if errors:
        print(f"  {url}: {errors[0]}", file=sys.stderr)
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    return requests, int(wrong[1]) if wrong else 0, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure(url, pid, connections, seconds):
    shoot(url, connections, 1)
    before, begun = cpu_seconds(pid), time.monotonic()
    requests, wrong, p99 = shoot(url, connections, seconds)
    used, took = cpu_seconds(pid) - before, time.monotonic() - begun
    if wrong:
        sys.exit(f"{url}: {wrong} of {requests} answers were no 200")
    return {"cpu": used / requests * 100_000, "rate": requests / seconds, "p99": p99, "rss": resident_mb(pid),
            "busy": used / took}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--klar", type=Path, default=Path("target/release/klar"))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3)
    given = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="klar-bench-", dir="/var/lib"))
    folder.chmod(0o711)
    ends = []
    try:
        certificate(folder)
        klar = Klar(given.klar.resolve(), folder, ends)
        nginx = Peer("nginx", ["nginx", "-e", "stderr", "-c"], NGINX, folder, klar.app_port)
        ends.append(nginx.end)
        haproxy = Peer("haproxy", ["haproxy", "-db", "-f"], HAPROXY, folder, klar.app_port)
        ends.append(haproxy.end)
        servers = [("nginx", nginx.port, nginx.pid), ("haproxy", haproxy.port, haproxy.pid),
                   ("klar", klar.port, klar.edge)]
        cases = [("TLS proxy, 1 KiB", "/", servers), ("TLS, file of 1 KiB", "/files/1k.txt", servers[::2])]
        print(f"load average {os.getloadavg()[0]:.1f}; {given.rounds} rounds of {given.seconds} s; medians\n")
        print("| case | connections | server | CPU s / 100k requests | of nginx | requests/s | p99 ms | RSS MB | core busy |")
        print("|---|---|---|---|---|---|---|---|---|")
        for case, path, those in cases:
            for connections in CONNECTIONS:
                seen = {name: [] for name, _, _ in those}
                for number in range(given.rounds):
                    for name, port, pid in those if number % 2 == 0 else those[::-1]:
                        seen[name].append(measure(f"https://127.0.0.1:{port}{path}", pid, connections, given.seconds))
                middle = {name: {key: statistics.median(one[key] for one in all) for key in all[0]}
                          for name, all in seen.items()}
                for name, of in middle.items():
                    ratio = of["cpu"] / middle["nginx"]["cpu"]
                    print(f"| {case} | {connections} | {name} | {of['cpu']:.2f} | {ratio:.2f} | {of['rate']:,.0f} | "
                          f"{of['p99']:.1f} | {of['rss']:.0f} | {of['busy']:.0%} |", flush=True)
    finally:
        for end in reversed(ends):
            end()
        shutil.rmtree(folder, ignore_errors=True)


main()
