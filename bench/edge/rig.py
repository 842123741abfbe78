"""What the scripts beside this file share: the edge of klar with an app behind it, and its peers in front of the same
app; what a process costs; and whether the machine is quiet enough for a figure to mean something.

The proxy that is measured runs on core 0, whoever asks and the app on core 1; so does klar's core, which writes the
records of requests, and whose CPU time counts as the edge's own. What counts is CPU time of the proxy's processes: rates say more of who asks and of the neighbours.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MB = 1024 * 1024
# Processes whose CPU time counts and whose memory does not: klar's core, which writes down the records of requests.
BESIDE = set()

# One kilobyte from memory: the cheapest app there is. What is sent to /up is read to its end before it is answered.
APP_NGINX = """
daemon off; worker_processes 1; error_log stderr crit; pid app.pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000; keepalive_timeout 60s; sendfile on;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  client_max_body_size 0; client_body_buffer_size 2m;
  server { listen unix:run/read.sock; access_log off; return 204; }
  server {
    listen 127.0.0.1:@PORT@ backlog=4096; default_type text/plain;
    location / { return 200 "@BODY@"; }
    location /cached { add_header Cache-Control "public, max-age=3600"; add_header X-Made $request_id; return 200 "@BODY@"; }
    location /down/ { alias @ROOT@/big/; }
    location /up { proxy_pass http://unix:run/read.sock:/; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
  }
}
"""

KLAR = """
[app]
name = "bench"

[services.web]
run = 'sed "s/@PORT@/$PORT/; s#@ROOT@#$PWD#" nginx.conf > run/nginx.conf && exec /usr/sbin/nginx -e stderr -p run -c nginx.conf'
writable = ["run"]
instances = 1

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
waf = "off"
connections = 30000
"""

NGINX = """
worker_processes %(workers)d; error_log stderr crit; pid %(folder)s/nginx.pid; daemon off;
events { worker_connections 16384; multi_accept on; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 180s; server_tokens off;
  open_file_cache max=1000 inactive=60s; client_max_body_size 10m;
  upstream app { server 127.0.0.1:%(app)d; keepalive 256; keepalive_requests 1000000; }
  client_body_temp_path %(folder)s/t1; proxy_temp_path %(folder)s/t2; fastcgi_temp_path %(folder)s/t3;
  uwsgi_temp_path %(folder)s/t4; scgi_temp_path %(folder)s/t5;
  proxy_cache_path %(folder)s/cache levels=1 keys_zone=answers:8m;
  ssl_session_cache shared:sessions:8m;
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

# What klar does by default, as far as nginx can: a record of each request, limits for each visitor, an id, headers for
# browsers, and a look into the cache.
NGINX_ALIKE = NGINX.replace("  access_log off; sendfile on;", """
  log_format record escape=json '{"time":"$time_iso8601","id":"$request_id","client":"$remote_addr","host":"$host",'
    '"method":"$request_method","path":"$uri","protocol":"$server_protocol","status":$status,"in":$request_length,'
    '"out":$bytes_sent,"took":$request_time,"upstream":"$upstream_addr","upstream_took":"$upstream_response_time",'
    '"cache":"$upstream_cache_status","agent":"$http_user_agent","referer":"$http_referer"}';
  access_log %(folder)s/access.log record buffer=64k flush=1s;
  limit_req_zone $binary_remote_addr zone=rate:1m rate=1000000r/s; limit_req zone=rate burst=10000 nodelay;
  limit_conn_zone $binary_remote_addr zone=open:1m; limit_conn open 30000;
  add_header X-Request-Id $request_id always; add_header X-Content-Type-Options nosniff always;
  add_header X-Frame-Options SAMEORIGIN always; add_header Referrer-Policy strict-origin-when-cross-origin always;
  add_header Strict-Transport-Security "max-age=31536000" always;
  add_header Content-Security-Policy-Report-Only "default-src 'self'" always;
  add_header Cross-Origin-Opener-Policy same-origin always; add_header Permissions-Policy "camera=()" always;
  sendfile on;""").replace("    proxy_set_header X-Forwarded-For $remote_addr;", """
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;
    proxy_next_upstream error timeout;""").replace("{ proxy_pass http://app; }", "{ proxy_pass http://app; proxy_cache answers; }")

HAPROXY = """
global
  maxconn 9000
  nbthread %(workers)d
  ssl-server-verify none
defaults
  mode http
  timeout connect 5s
  timeout client 180s
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


def cpu_seconds(pids):
    """Of some processes together, in user space and in the kernel."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def resident_mb(pids):
    """Of some processes together; what they share is counted once for each."""
    pids = [pid for pid in pids if pid not in BESIDE]
    return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) for pid in pids) / 1024


def alive(pids):
    return all(Path(f"/proc/{pid}/stat").exists() for pid in pids)


def wait_for_port(port, who):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{who} does not listen on port {port}")


class Klar:
    """The app, and the edge in front of it; as many workers as `cores` ("0" or "0,1"). `before` are commands that come
    before `klar up`."""

    def __init__(self, program, folder, ends, cores="0", config=KLAR, before=()):
        self.name, self.program = "klar", str(program)
        self.env = {**os.environ, "KLAR_STATE": str(folder / "state")}
        self.folder = folder / "app"
        for name in ("files", "run", "big"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "files" / "1k.txt").write_text("x" * 1024)
        for name in ("files", "big"):
            (self.folder / name / "1m.bin").write_bytes(os.urandom(MB))
        (self.folder / "nginx.conf").write_text(APP_NGINX.replace("@BODY@", "x" * 1024))
        self.https, self.http = free_port(), free_port()
        (self.folder / "klar.toml").write_text(config % (self.https, self.http))
        ends.append(self.end)
        for command in before:
            self.run(*command)
        self.run("up", taskset=cores)
        status = json.loads(self.run("status", "--json"))
        self.edge = status["edge"]["pid"]
        # Its record is part of a request.
        self.pids = [self.edge, status["core_pid"]]
        BESIDE.add(status["core_pid"])
        instance = next(one for service in status["apps"][0]["services"] for one in service["instances"])
        self.app_port = instance["port"]
        for pid in [status["core_pid"], instance["pid"], *children(instance["pid"])]:
            pin(pid, 1 if cores == "0" else "0,1")
        pin(self.edge, cores)

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

    def __init__(self, name, command, folder, app, ends, config=None, cores="0"):
        self.name = name
        self.https, self.http = free_port(), free_port()
        known = {"folder": folder, "https": self.https, "http": self.http, "app": app, "workers": 1 + cores.count(",")}
        file = folder / f"{name}.conf"
        file.write_text((config or "") % known)
        command = [part % {**known, "file": file} for part in command]
        # Varnish, which has no file, tells its whole life on stderr.
        quiet = None if config else subprocess.DEVNULL
        self.process = subprocess.Popen(["taskset", "-c", cores, *command], stdout=subprocess.DEVNULL, stderr=quiet)
        ends.append(self.end)
        wait_for_port(self.http, name)
        # nginx and Varnish serve from their children, HAProxy in the foreground by itself.
        self.pids = children(self.process.pid) or [self.process.pid]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def nginx(stage, cores="0", config=NGINX, name="nginx"):
    command = ["nginx", "-e", "stderr", "-c", "%(file)s"]
    one = Peer(name, command, stage.folder, stage.klar.app_port, stage.ends, config, cores)
    # The keepers of its cache are no workers; and it listens before it has any.
    wanted, parent = 1 + cores.count(","), one.process.pid
    for _ in range(200):
        one.pids = [pid for pid in children(parent) if "worker process" in Path(f"/proc/{pid}/cmdline").read_text()]
        if len(one.pids) == wanted:
            return one
        time.sleep(0.05)
    sys.exit(f"nginx has {len(one.pids)} workers, not {wanted}")


def haproxy(stage, cores="0"):
    command = ["haproxy", "-db", "-f", "%(file)s"]
    return Peer("haproxy", command, stage.folder, stage.klar.app_port, stage.ends, HAPROXY, cores)


def varnish(stage):
    command = ["varnishd", "-F", "-j", "none", "-n", "%(folder)s/varnish", "-s", "default,64m",
               "-a", "127.0.0.1:%(http)d", "-b", "127.0.0.1:%(app)d"]
    return Peer("varnish", command, stage.folder, stage.klar.app_port, stage.ends)


def certificate(folder):
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem && cat cert.pem key.pem > both.pem",
        shell=True, check=True, cwd=folder, stderr=subprocess.DEVNULL,
    )


class Stage:
    """A folder, the edge with its app, and who has to be ended."""

    def __init__(self, program, folder, cores, config, before):
        self.folder, self.ends = folder, []
        certificate(folder)
        self.program, self.cores, self.config, self.before = program, cores, config, before

    def begin(self):
        self.klar = Klar(self.program, self.folder, self.ends, self.cores, self.config, self.before)


@contextmanager
def stage(given, cores="0", config=KLAR, before=()):
    """Everything is ended and removed, whatever happens."""
    if not given.klar.exists():
        sys.exit(f"{given.klar} is not there: cargo build --release --package klar, or --klar")
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: sys.exit("told to end"))
    folder = Path(tempfile.mkdtemp(prefix="klar-bench-", dir="/var/lib"))
    folder.chmod(0o711)
    one = Stage(given.klar.resolve(), folder, cores, config, before)
    try:
        one.begin()
        yield one
    finally:
        for end in reversed(one.ends):
            end()
        shutil.rmtree(folder, ignore_errors=True)


def options(doc, rounds, seconds, **more):
    """What every script takes. `--quick` is for trying a script, not for figures."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--klar", type=Path, default=Path("target/release/klar"))
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=int, default=seconds, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of one second: the figures mean nothing")
    parser.add_argument("--anyway", action="store_true", help="also on a machine that is not quiet")
    for name, those in more.items():
        parser.add_argument(f"--{name}" if "nargs" not in those else name, **those)
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 1
    return given


def processor_ticks():
    """All, idle, stolen by the host; of all cores together."""
    ticks = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4], ticks[7]


@contextmanager
def quiet(given):
    """Refuses to measure on a machine that has other things to do, and says afterwards what was stolen from it."""
    before = processor_ticks()
    time.sleep(3)
    now = processor_ticks()
    busy = 1 - (now[1] - before[1]) / (now[0] - before[0])
    if busy > 0.05:
        said = f"the machine is not quiet: {busy:.0%} of its cores are busy, load average {os.getloadavg()[0]:.1f}"
        if not (given.anyway or given.quick):
            sys.exit(f"{said}; wait, or --anyway")
        print(f"**Not for the record**: {said}.\n")
    begun = time.monotonic()
    yield
    end = processor_ticks()
    stolen = (end[2] - now[2]) / (end[0] - now[0])
    print(f"\nTook {time.monotonic() - begun:.0f} s; {busy:.1%} of the cores were busy before, {stolen:.1%} was stolen by the host.")
    if stolen > 0.01:
        print("**Not for the record**: the host took too much of the processor.")


def raise_nofile(wanted=40_000):
    """As many open files as may be; says how many those are. Children inherit it."""
    for hard in (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def wrk(url, connections, seconds, threads=1, cores="1", script=None):
    """Requests answered, requests that went wrong, 99th percentile in ms; HTTP/1.1, each connection asks again at once."""
    command = ["taskset", "-c", cores, "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency",
               "-H", "Host: localhost", *(["-s", script] if script else []), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", said)[1])
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: (.*)", said)
    if errors:
        print(f"  {url}: {errors[0]}", file=sys.stderr)
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    return requests, int(wrong[1]) if wrong else 0, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def h2load(url, connections, seconds, streams):
    """As `wrk`, but HTTP/2 over TLS with so many streams at once on each connection; h2load knows no percentiles here."""
    _, _, address = url.partition("://")
    port = address.split(":")[1].split("/")[0]
    command = ["taskset", "-c", "1", "h2load", f"--connect-to=127.0.0.1:{port}", "-t1", f"-c{connections}", f"-m{streams}",
               "-D", str(seconds), url.replace("127.0.0.1", "localhost")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Application protocol: h2" not in said:
        sys.exit(f"{url} does not speak HTTP/2: {said}")
    done, failed = re.search(r"(\d+) succeeded, (\d+) failed", said).groups()
    # A status may have come whose answer had not ended when time was up.
    others = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said).groups()
    return int(done), int(failed) + sum(map(int, others)), None


def measure(shoot, url, pids, connections, seconds, **more):
    """CPU seconds of these processes for 100,000 requests, and what else is seen meanwhile."""
    shoot(url, connections, 1, **more)
    before, begun = cpu_seconds(pids), time.monotonic()
    requests, wrong, p99 = shoot(url, connections, seconds, **more)
    used, took = cpu_seconds(pids) - before, time.monotonic() - begun
    if not requests:
        sys.exit(f"{url}: nothing was answered in {seconds} s")
    if wrong:
        sys.exit(f"{url}: {wrong} of {requests} answers were no 200")
    return {"cpu": used / requests * 100_000, "rate": requests / seconds, "p99": p99, "rss": resident_mb(pids),
            "busy": used / took}


def in_turns(those, rounds, once):
    """Medians of what `once` gives for each of `those`, (name, ...); the order is reversed every second round."""
    seen = {name: [] for name, *_ in those}
    for number in range(rounds):
        for name, *rest in those if number % 2 == 0 else those[::-1]:
            seen[name].append(once(*rest))
    return {name: {key: None if all_[0][key] is None else statistics.median(one[key] for one in all_) for key in all_[0]}
            for name, all_ in seen.items()}


def header(*columns):
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
