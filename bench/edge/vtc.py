#!/usr/bin/env python3
"""What the edge does when an app misbehaves, as scripts that play both the app and the visitor (vtc/*.vtc, varnishtest).

Each script runs against an edge of its own (crates/klar-edge/examples/stand.rs: nobody but the script talks to the
app), and against an nginx of its own with a cache and the same clocks. A script states what klar promises; where nginx
does otherwise the table says what it did, and that need not be wrong.

    cargo build --package klar-edge --example stand
    bench/edge/vtc.py [--stand target/debug/examples/stand] [--only WORD] [--verbose]

With varnish and nginx installed. Exit status 1 if a script fails against the edge.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import rig

NGINX = """
daemon off; worker_processes 1; error_log stderr crit; pid %(folder)s/nginx.pid; events { worker_connections 64; }
http {
  access_log off; client_body_temp_path %(folder)s/t1; proxy_temp_path %(folder)s/t2; fastcgi_temp_path %(folder)s/t3;
  uwsgi_temp_path %(folder)s/t4; scgi_temp_path %(folder)s/t5;
  proxy_cache_path %(folder)s/cache levels=1 keys_zone=answers:1m;
  upstream app { server 127.0.0.1:%(app)d; keepalive 8; }
  server {
    listen 127.0.0.1:%(port)d;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_read_timeout 2s;
    proxy_request_buffering off; proxy_cache answers; proxy_cache_revalidate on; proxy_cache_convert_head off; proxy_cache_use_stale error timeout http_500;
    location / { proxy_pass http://app; }
  }
}
"""


def start_klar(stand, app, _):
    process = subprocess.Popen([stand, str(app)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL)
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{stand} does not start")
    return process, int(line)


def start_nginx(_, app, folder):
    port = rig.free_port()
    (folder / "nginx.conf").write_text(NGINX % {"folder": folder, "app": app, "port": port})
    process = subprocess.Popen(["nginx", "-e", "stderr", "-c", folder / "nginx.conf"], stdin=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    rig.wait_for_port(port, "nginx")
    return process, port


def play(script, start, stand):
    """Nothing if it went as the script says, else what was expected in vain, and the whole log."""
    folder = Path(tempfile.mkdtemp(prefix="klar-vtc-"))
    folder.chmod(0o755)
    app = rig.free_port()
    process, port = start(stand, app, folder)
    try:
        done = subprocess.run(["varnishtest", "-D", f"edge={port}", "-D", f"app={app}", "-t", "30", "-v", script],
                              capture_output=True, text=True, errors="replace", env={"PATH": "/usr/sbin:/usr/bin:/bin", "TMPDIR": str(folder)})
        if done.returncode == 0:
            return None, done.stdout
        # The last line of who failed begins with four dashes.
        why = re.findall(r"^---- (\S+)\s+(.*)$", done.stdout, re.MULTILINE)
        return " ".join(why[0]) if why else f"varnishtest ended with {done.returncode}", done.stdout
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stand", type=Path, default=Path("target/debug/examples/stand"))
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true", help="the log of each script that fails")
    given = parser.parse_args()
    if not given.stand.exists():
        sys.exit(f"{given.stand} is not there: cargo build --package klar-edge --example stand, or --stand")
    failed = count = as_nginx = 0
    rig.header("script", "what klar promises", "nginx", "klar")
    for script in sorted((Path(__file__).parent / "vtc").glob("*.vtc")):
        if given.only not in script.stem:
            continue
        said = re.search(r'^varnishtest "(.*)"$', script.read_text(), re.MULTILINE)[1]
        results = {}
        for name, start in (("nginx", start_nginx), ("klar", start_klar)):
            results[name], log = play(script, start, given.stand)
            if results[name] and given.verbose:
                print(log, file=sys.stderr)
        count, failed, as_nginx = count + 1, failed + bool(results["klar"]), as_nginx + (not results["nginx"])
        rig.row(script.stem, said, *(f"otherwise: {why.replace('|', '/')}" if why else "so" for why in results.values()))
    print(f"\n{count} scripts: klar does as it promises in {count - failed}, nginx does the same in {as_nginx}.")
    sys.exit(1 if failed or not count else 0)


main()
