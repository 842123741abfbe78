#!/usr/bin/env python3
"""What judging a request costs, beside libmodsecurity with the same rules in the same run.

    cargo build --release --package klar-waf --example judge
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/cost.py [--judge target/release/examples/judge] [--rounds 5]

Both are used as libraries, one processor core each, in turns: CPU time of one transaction from its first header to the
end of its body (phases 1, 2 and 5), at paranoia level 1 and in blocking mode. klar is asked twice: the same request again
and again, and with other letters and digits in all values of the query, the cookies and the body each time, so that it
knows none of them. libmodsecurity remembers nothing, and is asked the same one. Without KLAR_CRS_DIR, Debian's rules are
used. Needs libmodsecurity3 and modsecurity-crs.
"""

import argparse
import base64
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEBIAN = Path("/usr/share/modsecurity-crs")
ENGINE = """
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit 13107200
SecResponseBodyAccess Off
SecAuditEngine Off
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
"""
BROWSER = [
    ("Host", "shop.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "nb-NO,nb;q=0.9,no;q=0.8,en-US;q=0.7,en;q=0.6"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "https://shop.example.com/catalogue/shoes?page=2"),
    ("Cookie", "session=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA; theme=dark; consent=all; _ga=GA1.2.1234567890.1700000000"),
    ("Cache-Control", "max-age=0"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Connection", "keep-alive"),
]


def order():
    """A JSON body of about two kilobytes."""
    lines = [
        {"sku": f"SHOE-{number:04}", "name": f"Trail runner {number}", "quantity": number % 3 + 1, "price": 1299.5,
         "colour": "forest green", "gift": False, "note": "Please leave it at the neighbour's door"}
        for number in range(11)
    ]
    return json.dumps({"customer": {"name": "Kari Nordmann", "email": "kari@example.no"}, "lines": lines}).encode()


FORM = "&".join(f"field{number}=some+ordinary+value+number+{number}" for number in range(10)).encode()


def request(method, target, body=b"", kind=None):
    headers = [*BROWSER]
    if kind:
        headers += [("Content-Type", kind), ("Content-Length", str(len(body)))]
    return {"method": method, "target": target, "headers": headers, "body": body}


WORKLOADS = {
    "benign GET, 3 arguments": (request("GET", "/catalogue/search?q=running+shoes&size=42&sort=price_asc"), None),
    "JSON of 2 KB": (request("POST", "/api/orders", order(), "application/json"), None),
    "form of 10 fields": (request("POST", "/account/profile", FORM, "application/x-www-form-urlencoded"), None),
    "attack, blocked": (request("GET", "/catalogue/search?q=1%27%20UNION%20SELECT%20password%20FROM%20users--%20-&size=42"), 403),
}


def raw(one):
    head = [f"{one['method']} {one['target']} HTTP/1.1", *(f"{name}: {value}" for name, value in one["headers"])]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + one["body"]


class Interruption(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("pause", ctypes.c_int), ("url", ctypes.c_char_p), ("log", ctypes.c_char_p),
                ("disruptive", ctypes.c_int)]


class ModSecurity:
    """The library itself, by its C interface."""

    def __init__(self, files):
        self.lib = lib = ctypes.CDLL("libmodsecurity.so.3")
        for name in ("msc_init", "msc_create_rules_set", "msc_new_transaction"):
            getattr(lib, name).restype = ctypes.c_void_p
        self.engine = ctypes.c_void_p(lib.msc_init())
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: None)
        lib.msc_set_log_cb(self.engine, self.quiet)
        self.rules = ctypes.c_void_p(lib.msc_create_rules_set())
        error = ctypes.c_char_p()
        for file in files:
            if lib.msc_rules_add_file(self.rules, str(file).encode(), ctypes.byref(error)) < 0:
                sys.exit(f"libmodsecurity: {file}: {error.value}")

    def judge(self, one):
        """The status that it answers with, 200 if it lets the request pass."""
        lib = self.lib
        transaction = ctypes.c_void_p(lib.msc_new_transaction(self.engine, self.rules, None))
        said = Interruption(200, 0, None, None, 0)

        def is_over():
            return lib.msc_intervention(transaction, ctypes.byref(said)) != 0

        lib.msc_process_connection(transaction, b"127.0.0.1", 40000, b"127.0.0.1", 443)
        lib.msc_process_uri(transaction, one["target"].encode(), one["method"].encode(), b"1.1")
        for name, value in one["headers"]:
            lib.msc_add_request_header(transaction, name.encode(), value.encode())
        lib.msc_process_request_headers(transaction)
        if not is_over():
            lib.msc_append_request_body(transaction, one["body"], len(one["body"]))
            lib.msc_process_request_body(transaction)
            is_over()
        lib.msc_process_logging(transaction)
        lib.msc_transaction_cleanup(transaction)
        return said.status

    def cost(self, one, count):
        begun = time.process_time()
        for _ in range(count):
            self.judge(one)
        return (time.process_time() - begun) / count


class Klar:
    def __init__(self, judge, files):
        self.command = [str(judge), *map(str, files)]

    def run(self, one, *options):
        """What it says of a request."""
        line = json.dumps({"n": 1, "request": base64.b64encode(raw(one)).decode()}) + "\n"
        done = subprocess.run([*self.command, *options], input=line, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{self.command[0]}: {done.stderr}")
        return json.loads(done.stdout)

    def judge(self, one):
        return self.run(one)["status"] or 200

    def cost(self, one, count, *options):
        """CPU seconds of one transaction, once the first half of them has warmed it up."""
        return self.run(one, "--count", str(2 * count), *options)["ns"] / 1e9


def files(crs, folder):
    if crs:
        setup = crs / "crs-setup.conf.example"
        rules = sorted((crs / "rules").glob("*.conf"))
    else:
        setup, rules = Path("/etc/modsecurity/crs/crs-setup.conf"), sorted((DEBIAN / "rules").glob("*.conf"))
    (folder / "engine.conf").write_text(ENGINE)
    return [folder / "engine.conf", setup, *rules]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--judge", type=Path, default=Path("target/release/examples/judge"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=20_000, help="transactions of klar in each round; a fiftieth of libmodsecurity")
    given = parser.parse_args()
    crs = Path(os.environ["KLAR_CRS_DIR"]) if "KLAR_CRS_DIR" in os.environ else None
    with tempfile.TemporaryDirectory() as folder:
        those = files(crs, Path(folder))
        klar, peer = Klar(given.judge, those), ModSecurity(those)
        print(f"Rules: {crs.name if crs else 'of Debian'}; {given.rounds} rounds, medians\n")
        print("| request | libmodsecurity µs | klar µs | klar of it | other values: klar µs | klar of it |\n|---|---|---|---|---|---|")
        for name, (one, status) in WORKLOADS.items():
            for judge in (klar, peer):
                if (said := judge.judge(one)) != (status or 200):
                    sys.exit(f"{name}: {type(judge).__name__} says {said}, not {status or 200}")
            rounds = [(peer.cost(one, max(given.count // 50, 20)), klar.cost(one, given.count), klar.cost(one, max(given.count // 10, 20), "--vary")) for _ in range(given.rounds)]
            slow, fast, other = (statistics.median(column) * 1e6 for column in zip(*rounds))
            print(f"| {name} | {slow:,.0f} | {fast:,.1f} | 1/{slow / fast:.0f} | {other:,.1f} | 1/{slow / other:.0f} |", flush=True)


if __name__ == "__main__":
    main()
