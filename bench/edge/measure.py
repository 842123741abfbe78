#!/usr/bin/env python3
"""What a request costs the edge, beside nginx, HAProxy and Varnish in the same run.

The figure is CPU seconds of the proxy's process for 100,000 requests: rates say more of the load generator and of
the neighbours. The proxy runs on core 0, the generator and the app on core 1; every server proxies to the same
instance of the same app, which klar runs. Rounds are interleaved, their order reversed every second time; what
counts is the median. As root, with nginx, haproxy, varnish and wrk installed.

Over plain HTTP klar serves only proxies that it is told to trust (`plain_http`), which here is this machine.

    cargo build --release --package klar
    bench/edge/measure.py [--klar target/release/klar] [--rounds 5] [--seconds 3]
"""

import argparse
import http.client
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
  server {
    listen 127.0.0.1:@PORT@ backlog=4096; default_type text/plain;
    location / { return 200 "@BODY@"; }
    location /cached { add_header Cache-Control "public, max-age=3600"; add_header X-Made $request_id; return 200 "@BODY@"; }
  }
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
trusted_proxies = ["127.0.0.1"]
plain_http = "trusted"
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
  proxy_cache_path %(folder)s/cache levels=1 keys_zone=answers:8m;
  server {
    listen 127.0.0.1:%(http)d backlog=4096;
    listen 127.0.0.1:%(https)d ssl http2 backlog=4096;
    ssl_certificate %(folder)s/cert.pem; ssl_certificate_key %(folder)s/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    location / { proxy_pass http://app; }
    location /cached { proxy_pass http://app; proxy_cache answers; }
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
  bind 127.0.0.1:%(http)d
  bind 127.0.0.1:%(https)d ssl crt %(folder)s/both.pem alpn h2,http/1.1
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
        self.https, self.http = free_port(), free_port()
        (self.folder / "klar.toml").write_text(KLAR % (self.https, self.http))
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
    """A proxy of somebody else's, by its configuration or by its arguments alone."""

    def __init__(self, name, command, folder, app, ends, config=None):
        self.https, self.http = free_port(), free_port()
        known = {"folder": folder, "https": self.https, "http": self.http, "app": app}
        file = folder / f"{name}.conf"
        file.write_text((config or "") % known)
        command = [part % {**known, "file": file} for part in command]
        # Varnish, which has no file, tells its whole life on stderr.
        quiet = None if config else subprocess.DEVNULL
        self.process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=quiet)
        ends.append(self.end)
        wait_for_port(self.http, name)
        # nginx and Varnish serve from their child, HAProxy in the foreground by itself.
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
    if not requests:
        sys.exit(f"{url}: nothing was answered in {seconds} s")
    if wrong:
        sys.exit(f"{url}: {wrong} of {requests} answers were no 200")
    return {"cpu": used / requests * 100_000, "rate": requests / seconds, "p99": p99, "rss": resident_mb(pid),
            "busy": used / took}


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
        nginx = Peer("nginx", ["nginx", "-e", "stderr", "-c", "%(file)s"], folder, klar.app_port, ends, NGINX)
        haproxy = Peer("haproxy", ["haproxy", "-db", "-f", "%(file)s"], folder, klar.app_port, ends, HAPROXY)
        varnish = Peer("varnish", ["varnishd", "-F", "-j", "none", "-n", "%(folder)s/varnish", "-s", "default,64m",
                                   "-a", "127.0.0.1:%(http)d", "-b", "127.0.0.1:%(app)d"], folder, klar.app_port, ends)
        for port, who in [(klar.http, "klar"), (nginx.http, "nginx"), (varnish.http, "varnish")]:
            must_be_kept(port, who)

        def secure(path, **those):
            return [(name, f"https://127.0.0.1:{one.https}{path}", one.pid) for name, one in those.items()]

        def plain(path, **those):
            return [(name, f"http://127.0.0.1:{one.http}{path}", one.pid) for name, one in those.items()]

        klar.pid = klar.edge
        # The first of each is what the others are compared with.
        cases = [
            ("TLS proxy, 1 KiB", secure("/", nginx=nginx, haproxy=haproxy, klar=klar)),
            ("TLS, file of 1 KiB", secure("/files/1k.txt", nginx=nginx, klar=klar)),
            ("plain proxy, 1 KiB", plain("/", nginx=nginx, haproxy=haproxy, klar=klar)),
            ("cache hit, 1 KiB", plain("/files/1k.txt", **{"nginx, file": nginx})
             + plain("/cached", **{"nginx, proxy_cache": nginx}, varnish=varnish, klar=klar)),
        ]
        print(f"load average {os.getloadavg()[0]:.1f}; {given.rounds} rounds of {given.seconds} s; medians\n")
        print("| case | connections | server | CPU s / 100k requests | of nginx | requests/s | p99 ms | RSS MB | core busy |")
        print("|---|---|---|---|---|---|---|---|---|")
        for case, those in cases:
            for connections in CONNECTIONS:
                seen = {name: [] for name, _, _ in those}
                for number in range(given.rounds):
                    for name, url, pid in those if number % 2 == 0 else those[::-1]:
                        seen[name].append(measure(url, pid, connections, given.seconds))
                middle = {name: {key: statistics.median(one[key] for one in all) for key in all[0]}
                          for name, all in seen.items()}
                for name, of in middle.items():
                    ratio = of["cpu"] / middle[those[0][0]]["cpu"]
                    print(f"| {case} | {connections} | {name} | {of['cpu']:.2f} | {ratio:.2f} | {of['rate']:,.0f} | "
                          f"{of['p99']:.1f} | {of['rss']:.0f} | {of['busy']:.0%} |", flush=True)
    finally:
        for end in reversed(ends):
            end()
        shutil.rmtree(folder, ignore_errors=True)


main()
