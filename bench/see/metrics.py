#!/usr/bin/env python3
"""Metrics: klar's telemetry beside Prometheus and VictoriaMetrics, one after the other, the same bytes in.

    bench/see/metrics.py [--series 5000] [--hours 6] [--rounds 3]

Needs the Debian packages prometheus and victoria-metrics. CPU is user and system time of the server alone; the sender and
whoever asks are other processes. Each server starts with an empty folder. Writes one JSON object, and a table to stderr.
"""
import argparse, base64, http.client, json, os, shutil, signal, subprocess, sys, tempfile, time, urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
TICK = os.sysconf("SC_CLK_TCK")
KEY = "Basic " + base64.b64encode(b"klar:bench").decode()


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_mb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


def size(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


class Server:
    def __init__(self, name, port, command, write, headers, api=""):
        self.name, self.port, self.write, self.headers, self.api = name, port, write, headers, api
        self.folder = tempfile.mkdtemp(prefix=f"klar-see-{name}-")
        self.process = subprocess.Popen(
            command(self.folder, port), stdout=subprocess.DEVNULL, stderr=open(f"{self.folder}.log", "w"))
        self.pid = self.process.pid
        for _ in range(200):
            try:
                self.get("/-/healthy" if name != "victoriametrics" else "/health")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{name} does not answer: see {self.folder}.log")

    def get(self, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, headers=self.headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{self.name} {path}: {answer.status} {body[:300]}")
        return body

    def end(self):
        self.process.send_signal(signal.SIGTERM if self.name != "klar" else signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.remove(f"{self.folder}.log")


def servers():
    yield lambda: Server("klar", 19401, lambda folder, port: [f"{TARGET}/release/examples/alone", folder, str(port)],
                         "/api/v1/write", {"authorization": KEY})
    yield lambda: Server("prometheus", 19402, lambda folder, port: [
        "prometheus", "--config.file=/dev/null", f"--storage.tsdb.path={folder}", "--web.enable-remote-write-receiver",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api", "--log.level=error"], "/api/v1/write", {})
    yield lambda: Server("victoriametrics", 19403, lambda folder, port: [
        "victoria-metrics", f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}",
        "-search.disableCache", "-retentionPeriod=1y", "-loggerLevel=ERROR"], "/api/v1/write", {})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--hours", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asks", type=int, default=9)
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "klar-see", "--examples"], cwd=ROOT, check=True)
    samples = int(options.hours * 240)
    results = {}
    for _ in range(options.rounds):
        for make in servers():
            server = make()
            if options.only and server.name not in options.only:
                server.end()
                continue
            end = int(time.time()) // 15 * 15 - 15
            before = cpu(server.pid)
            begun = time.time()
            command = [f"{TARGET}/release/examples/push", f"127.0.0.1:{server.port}", server.write,
                       str(options.series), str(samples), str(end)]
            if server.headers:
                command.append(server.headers["authorization"])
            pushed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found = {"ingest_cpu_s": cpu(server.pid) - before, "waited_s": pushed["waited_s"],
                     "wall_s": time.time() - begun, "peak_mb": peak_mb(server.pid)}
            found["samples_per_cpu_s"] = pushed["samples"] / found["ingest_cpu_s"]
            time.sleep(3)
            start = end - (samples - 1) * 15
            for name, query in [
                ("rate_1000", 'rate(http_requests_total{job="j0"}[5m])'),
                ("sum_by_1000", 'sum by (route) (rate(http_requests_total{job="j0"}[5m]))'),
                ("sum_by_4000", 'sum by (route) (rate(http_requests_total[5m]))'),
            ]:
                form = urllib.parse.urlencode({"query": query, "start": start + 1807, "end": end - 8, "step": 60})
                walls, begun_cpu, total = [], cpu(server.pid), 0.0
                for _ in range(options.asks):
                    begun = time.perf_counter()
                    body = server.get(f"/api/v1/query_range?{form}")
                    walls.append((time.perf_counter() - begun) * 1000)
                data = json.loads(body)["data"]["result"]
                total = sum(float(value) for one in data for _, value in one["values"])
                walls.sort()
                found[name] = {"min_ms": walls[0], "median_ms": walls[len(walls) // 2],
                               "cpu_ms": (cpu(server.pid) - begun_cpu) / options.asks * 1000,
                               "series": len(data), "sum": round(total, 3)}
            if server.name == "victoriametrics":
                server.get("/internal/force_flush")
                server.get("/internal/force_merge")
                time.sleep(20)
                found["bytes_per_sample"] = size(server.folder) / pushed["samples"]
            elif server.name == "klar":
                # What is older than an hour and a half goes to blocks within a minute or two.
                for _ in range(140):
                    text = server.get("/metrics").decode()
                    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
                    in_blocks = float(values["klar_see_block_samples"])
                    if in_blocks:
                        break
                    time.sleep(1)
                found["block_samples"] = in_blocks
                found["bytes_per_sample"] = float(values['klar_see_disk_bytes{of="blocks"}']) / in_blocks
            else:
                # Its blocks are cut when it is told to; what it has not cut is not counted.
                blocks = [os.path.join(server.folder, name) for name in os.listdir(server.folder) if len(name) == 26]
                count = sum(json.load(open(f"{block}/meta.json"))["stats"]["numSamples"] for block in blocks)
                found["block_samples"] = count
                if count:
                    found["bytes_per_sample"] = sum(size(block) for block in blocks) / count
            found["peak_mb_in_the_end"] = peak_mb(server.pid)
            results.setdefault(server.name, []).append(found)
            print(server.name, json.dumps(found), file=sys.stderr, flush=True)
            server.end()
    print(json.dumps(results))


main()
