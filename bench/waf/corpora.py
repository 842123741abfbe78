#!/usr/bin/env python3
"""The two corpora of requests: benign ones that must pass, and attacks that must not.

    bench/waf/corpora.py [--out target/waf-corpora] [--check]

`--check` writes all but `tune` for the check of the firewall (crates/klar-prove/firewall). Otherwise it writes a file
for each part, such as benign/tune.jsonl and attacks/held-out.jsonl, the same each time.
corpus/README.md says what may be looked at.
"""

import argparse
import base64
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import wire
from corpus import build, fresh
from corpus.attacks import bodies, payloads, protocol
from corpus.benign import apis, browsing, uploads, words

HALVES = ("tune", "check", "held-out")
PARTS = {"benign": (words, uploads, apis, browsing, fresh), "attacks": (payloads, bodies, protocol, fresh)}
AT_LEAST = {"benign": 2400, "attacks": 2000}


def make(kind):
    """(half, request) for each request of one corpus."""
    corpus = build.Corpus(kind)
    for part in PARTS[kind]:
        part.fill(corpus)
    if len(corpus.requests) < AT_LEAST[kind]:
        raise ValueError(f"{len(corpus.requests)} {kind} requests are too few")
    for _, one in corpus.requests:
        if not re.fullmatch(r"[\x21-\x7e]+", one["path"]) or re.search(r"[\r\n\x00]", str(one["headers"])):
            raise ValueError(f"{one['id']} would not be one request")
    return corpus.requests


def raw(one):
    """The bytes of a request."""
    body = base64.b64decode(one["body_b64"]) if "body_b64" in one else one.get("body", "").encode()
    return wire.request(one["method"], one["path"], one["headers"], body)


def write_check():
    """What an HTTP client can send: malformed requests, and headers that say how a request is sent, are left out."""
    folder = Path(__file__).resolve().parents[2] / "crates/klar-prove/firewall"
    folder.mkdir(exist_ok=True)
    own = {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "te"}
    for kind in PARTS:
        lines = []
        for half, one in make(kind):
            if half == "tune" or one.get("class") in ("protocol", "smuggling"):
                continue
            host = next((value for name, value in one["headers"] if name.lower() == "host"), "")
            keys = ("id", "class", "method", "path", "body", "body_b64")
            kept = {key: one[key] for key in keys if key in one}
            kept |= {"held_out": True} if half == "held-out" else {}
            kept["headers"] = [pair for pair in one["headers"] if pair[0].lower() not in own]
            lines.append(json.dumps({**kept, "host": host}, ensure_ascii=False, separators=(",", ":")))
        (folder / f"{kind}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), 9, mtime=0))
        print(f"{kind}: {len(lines)} requests")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("target/waf-corpora"))
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.check:
        write_check()
        return
    for kind in PARTS:
        requests = make(kind)
        folder = given.out / kind
        folder.mkdir(parents=True, exist_ok=True)
        for half in HALVES:
            file = folder / f"{half}.jsonl"
            file.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for its, one in requests if its == half))
            print(f"{file}: {sum(its == half for its, _ in requests)} requests, {file.stat().st_size // 1024} KB")
        if kind == "attacks":
            print("  " + ", ".join(f"{number} {name}" for name, number in Counter(one["class"] for _, one in requests).most_common()))


if __name__ == "__main__":
    main()
