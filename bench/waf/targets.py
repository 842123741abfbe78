"""Who is judged: nginx with libmodsecurity, a program that answers JSON lines, or klar.

Each target is a context manager whose `ask_all` takes (request, response) pairs of raw bytes, the response being what an
app would answer (None: it does not matter), and yields a `Verdict` for each, in order.
"""

import base64
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import reflect
import wire

DEBIAN = Path("/usr/share/modsecurity-crs")
RULE = re.compile(r'\[id "(\d+)"\]')
# What a server answers that could not read a request. 413 and 431 say that it is too large, 501 and 505 that it is
# of another HTTP.
REFUSED = (400, 405, 411, 413, 414, 421, 431, 501, 505)
# Rules that say the sum is too high, in CRS 3 and 4 and in klar-core, for requests and for responses: who only detects blocks by these.
TOO_HIGH = {949110, 949111, 959100, 959101, 91900001, 91900002, 91900003}


def stop(why):
    """Ends with the code that says: nothing is proven either way."""
    print(why, file=sys.stderr)
    sys.exit(2)


@dataclass
class Verdict:
    """What a firewall made of one request."""

    matched: list = field(default_factory=list)
    status: int | None = None
    refused: str | None = None
    log: str | None = None

    @property
    def blocked(self):
        return self.status in (403, *REFUSED) or bool(self.refused) or not TOO_HIGH.isdisjoint(self.matched)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


ENGINE = """
SecRuleEngine %(engine)s
SecRequestBodyAccess On
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 131072
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 512
SecArgumentsLimit 1000
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecResponseBodyLimit 1048576
SecResponseBodyLimitAction ProcessPartial
SecPcreMatchLimit 100000
SecPcreMatchLimitRecursion 100000
SecArgumentSeparator &
SecCookieFormat 0
SecTmpDir %(folder)s
SecDataDir %(folder)s
SecUnicodeMapFile %(unicode)s 20127
SecAuditEngine Off

SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\\+|/)|text/)xml" \\
  "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" \\
  "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" \\
  "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" \\
  "id:200002,phase:2,t:none,log,deny,status:400,msg:'Failed to parse request body.',logdata:'%%{reqbody_error_msg}',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" \\
  "id:200003,phase:2,t:none,log,deny,status:400,msg:'Multipart request body failed strict validation.'"
"""

# What the suite's README asks for: nothing blocks, every level speaks, and limits low enough to be passed by a test.
SUITE_SETUP = """
SecAction "id:900005,phase:1,nolog,pass,%(engine)sctl:ruleRemoveById=910000,\\
  setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,\\
  setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,\\
  setvar:tx.combined_file_sizes=65535"
"""

NGINX = """
worker_processes 1; error_log %(folder)s/error.log info; pid %(folder)s/nginx.pid; daemon off;
load_module /usr/lib/nginx/modules/ngx_http_modsecurity_module.so;
events { worker_connections 256; }
http {
  access_log off; client_max_body_size 20m; client_body_timeout 1s; client_header_timeout 1s; keepalive_timeout 60s;
  client_body_temp_path %(folder)s/t1; proxy_temp_path %(folder)s/t2; fastcgi_temp_path %(folder)s/t3;
  uwsgi_temp_path %(folder)s/t4; scgi_temp_path %(folder)s/t5; proxy_buffers 16 64k; proxy_buffer_size 64k;
  server {
    listen 127.0.0.1:%(port)d;
    modsecurity on; modsecurity_rules_file %(folder)s/rules.conf;
    location / { proxy_pass http://127.0.0.1:%(backend)d; }
  }
  server { listen 127.0.0.1:%(marker)d; keepalive_requests 10000000; keepalive_timeout 600s; return 204; }
}
"""


def setup_file(crs):
    """The settings of a checkout, or of Debian's package, which keeps them elsewhere."""
    if crs == DEBIAN:
        return Path("/etc/modsecurity/crs/crs-setup.conf")
    own = crs / "crs-setup.conf"
    return own if own.exists() else crs / "crs-setup.conf.example"


def paranoia(level, methods=None):
    """Settings for both generations of the rule set, whose variables have different names."""
    names = ("paranoia_level", "executing_paranoia_level", "blocking_paranoia_level", "detection_paranoia_level")
    values = [f"setvar:tx.{name}={level}" for name in names]
    if methods:
        values.append(f"setvar:'tx.allowed_methods={methods}'")
    return f'SecAction "id:900000,phase:1,nolog,pass,{",".join(values)}"\n'


class ModSecurity:
    """Debian's nginx with libmodsecurity in front of the reflecting app; which rules matched is read from its error log."""

    def __init__(self, crs, settings, detect):
        self.crs, self.settings, self.detect = crs, settings, detect

    def __enter__(self):
        # Who is told to end takes nginx along.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
        self.folder = Path(tempfile.mkdtemp(prefix="klar-waf-"))
        self.folder.chmod(0o777)
        self.backend = reflect.serve()
        self.port, self.marker = free_port(), free_port()
        unicode_map = Path("/usr/share/nginx/docs/modsecurity/unicode.mapping")
        known = {"folder": self.folder, "port": self.port, "marker": self.marker, "backend": self.backend.server_port,
                 "engine": "DetectionOnly" if self.detect else "On", "unicode": unicode_map}
        rules = ENGINE % known + f"Include {setup_file(self.crs)}\n" + self.settings + f"Include {self.crs}/rules/*.conf\n"
        (self.folder / "rules.conf").write_text(rules)
        (self.folder / "nginx.conf").write_text(NGINX % known)
        command = ["nginx", "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/nginx.conf"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(600):
            if self.process.poll() is not None:
                said = self.process.stderr.read().decode() + (self.folder / "error.log").read_text()
                stop(f"nginx did not start: {said}")
            try:
                self.marking = socket.create_connection(("127.0.0.1", self.marker), 10)
                break
            except OSError:
                time.sleep(0.05)
        else:
            stop("nginx does not listen")
        self.log = (self.folder / "error.log").open("rb")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.backend.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logged(self):
        """What was logged since the last call. The one worker takes events in order: once it has answered on another
        connection, all that it had to say of the request before has been said."""
        self.marking.sendall(b"GET / HTTP/1.1\r\nHost: marker\r\n\r\n")
        came = b""
        while wire.CRLF * 2 not in came:
            came += self.marking.recv(4096)
        return self.log.read().decode("utf-8", "replace")

    def ask_all(self, pairs):
        self.logged()
        for raw, _ in pairs:
            answer = wire.exchange(("127.0.0.1", self.port), raw)
            log = self.logged()
            matched = list(dict.fromkeys(int(one) for one in RULE.findall(log)))
            refused = None
            if answer.status is None:
                refused = "closed without an answer"
            elif answer.status in REFUSED and not {200002, 200003}.intersection(matched) and answer.body.startswith(b"<html>"):
                refused = f"nginx answered {answer.status}"
            yield Verdict(matched, answer.status, refused, log)


class Program:
    """A program that reads a JSON line for each request on stdin and answers a line for each on stdout, in order.

        {"n": 1, "request": "<base64 of all bytes>", "response": "<base64 of all bytes, or no such key>"}
        {"n": 1, "matched": [942100], "status": 403 or null, "error": null or "why the request could not be read"}

    It may answer late, as long as it answers all once its stdin has ended.
    """

    def __init__(self, command, crs=None, level=None, detect=True):
        self.command = shlex.split(command)
        self.env = dict(os.environ, KLAR_WAF_MODE="detect" if detect else "block")
        if crs:
            self.env["KLAR_CRS_DIR"] = str(crs)
        if level:
            self.env["KLAR_WAF_PARANOIA"] = str(level)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def feed(self, pairs):
        try:
            for number, (raw, response) in enumerate(pairs, 1):
                line = {"n": number, "request": base64.b64encode(raw).decode()}
                if response is not None:
                    line["response"] = base64.b64encode(response).decode()
                self.process.stdin.write(json.dumps(line).encode() + b"\n")
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def ask_all(self, pairs):
        # All are written while answers are read, since a program may answer only when its buffer is full.
        pairs = list(pairs)
        threading.Thread(target=self.feed, args=(pairs,), daemon=True).start()
        for number in range(1, len(pairs) + 1):
            line = self.process.stdout.readline()
            if not line:
                stop(f"the program ended before it answered request {number} of {len(pairs)}")
            said = json.loads(line)
            if said["n"] != number:
                stop(f"the program answered request {said['n']} where {number} was due")
            yield Verdict(said["matched"], said.get("status"), said.get("error"))


APP = """
[app]
name = "suite"

[services.web]
run = "python3 reflect.py $PORT"

[routes]
"/*" = { to = "web", cross_site = true }

[edge]
https_port = %(https)d
http_port = %(http)d
trusted_proxies = ["127.0.0.1"]
plain_http = "trusted"
waf = "%(mode)s"
waf_rules = "crs"
waf_paranoia = %(level)d
"""


class Klar:
    """klar as it is used, with an app behind it: which rules matched is in its access records. As root.

    A request that the edge refuses before its rules are asked (a broken head, a host that is nobody's) is `refused`.
    """

    PATIENCE_S = 1

    def __init__(self, program, crs, settings, level, detect):
        self.program, self.crs, self.settings = str(Path(program).resolve()), crs, settings
        self.known = {"https": free_port(), "http": free_port(), "mode": "detect" if detect else "block", "level": level or 1}

    def run(self, *args):
        env = dict(os.environ, KLAR_STATE=str(self.folder / "state"))
        done = subprocess.run([self.program, *args], cwd=self.folder / "app", env=env, capture_output=True, text=True)
        if done.returncode:
            stop(f"klar {' '.join(args)}: {done.stdout}{done.stderr}")

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="klar-suite-", dir="/var/lib"))
        self.folder.chmod(0o711)
        rules, app = self.folder / "set", self.folder / "app"
        shutil.copytree(self.crs / "rules", rules / "rules")
        (rules / "crs-setup.conf").write_text((self.crs / "crs-setup.conf.example").read_text() + (self.settings or ""))
        app.mkdir()
        shutil.copy(Path(__file__).with_name("reflect.py"), app)
        (app / "klar.toml").write_text(APP % self.known)
        self.run("waf", "add", str(rules))
        self.run("up")
        self.log, self.rest, self.seen = None, b"", {}
        return self

    def __exit__(self, *_):
        if self.log:
            self.log.close()
        self.run("down", "--all")
        shutil.rmtree(self.folder, ignore_errors=True)

    def record(self, number):
        """The record of a request, which comes a moment after its answer."""
        end, path = time.monotonic() + self.PATIENCE_S, self.folder / "state/apps/suite.prod/access/access.jsonl"
        while number not in self.seen:
            if not self.log and path.exists():
                self.log = path.open("rb")
            came = self.log.read() if self.log else b""
            *lines, self.rest = (self.rest + came).split(b"\n")
            for one in map(json.loads, lines):
                self.seen[one["request_id"]] = one
            if not came:
                if time.monotonic() > end:
                    return {}
                time.sleep(0.005)
        return self.seen.pop(number)

    def ask_all(self, pairs):
        for raw, _ in pairs:
            answer = wire.exchange(("127.0.0.1", self.known["http"]), raw)
            record = self.record(answer.headers["x-request-id"]) if "x-request-id" in answer.headers else {}
            finding = record.get("waf")
            matched = [one["rule"] for one in finding["matches"]] if finding else []
            refused = None
            if answer.status is None:
                refused = "closed without an answer"
            elif finding is None and record.get("decided_by", "refused") == "refused" and answer.status >= 400:
                refused = f"the edge answered {answer.status}: {record.get('error')}"
            yield Verdict(matched, answer.status, refused)


def add_arguments(parser):
    """The three targets, as subcommands; their own options come after their names."""
    kinds = parser.add_subparsers(dest="target", required=True, metavar="modsecurity | program COMMAND | klar PROGRAM")
    kinds.add_parser("modsecurity", help="nginx with libmodsecurity, started here")
    program = kinds.add_parser("program", help="a program that speaks JSON lines; it finds the rule set in KLAR_CRS_DIR, "
                                               "the level in KLAR_WAF_PARANOIA, detect or block in KLAR_WAF_MODE")
    program.add_argument("command")
    klar = kinds.add_parser("klar", help="klar itself, started here with an app behind it; asked over sockets")
    klar.add_argument("program")


def chosen(given, crs, settings, level, detect):
    if given.target == "modsecurity":
        return ModSecurity(crs, settings, detect)
    if given.target == "program":
        return Program(given.command, crs, level, detect)
    return Klar(given.program, crs, settings, level, detect)
