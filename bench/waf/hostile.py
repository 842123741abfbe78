#!/usr/bin/env python3
"""What bodies cost that are made to cost much: a megabyte each, with the Core Rule Set at paranoia level 1, blocking.

    cargo build --release --package klar-waf --example judge
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/hostile.py [--judge target/release/examples/judge] [--only NAME]

Limits are those of the edge, as crates/klar-waf/rules/base.conf has them: a megabyte is looked at, and what is more work
than SecRequestWorkLimit allows is refused. With --modsecurity they are those that ModSecurity recommends: 128 KiB of a
body without its files (SecRequestBodyNoFilesLimit), and what has more is refused by rule 200002. With --no-limit all of
each body is looked at, whatever work it is. With --core klar's own rules are asked, with their own limits. Time is processor time of the thread,
memory is what one request allocates at most at a time, when automata and what is known of values are warm.
Exit code 1 if one is dearer than 40 ns a byte or takes more than 4 MB.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cost

SIZE = 1_000_000
NS_MAX, BYTES_MAX = 40, 4_000_000
FORM, JSON, XML = "application/x-www-form-urlencoded", "application/json", "text/xml"
PARTS = "multipart/form-data; boundary=b"

LIMITS = """
SecRequestBodyNoFilesLimit 131072
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,severity:2"
"""


# Those of the edge; bodies with an error are not refused here, so that what reading them costs is seen as well.
EDGE = "SecRequestWorkLimit 20971520\n"
CORE = Path(__file__).resolve().parents[2] / "crates/klar-waf/rules/klar-core"


def filled(piece, size=SIZE):
    return (piece * (size // len(piece) + 1))[:size]


def part(name, value):
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


BODIES = {
    "JSON, nested": (JSON, "[" * (SIZE // 2) + "]" * (SIZE // 2)),
    "JSON, objects nested": (JSON, filled('{"a":')),
    "JSON, one text": (JSON, '{"a":"' + filled("lorem ipsum dolor sit amet ") + '"}'),
    "JSON, one text of quotes": (JSON, '{"a":"' + filled("\\\"'") + '"}'),
    "JSON, many keys": (JSON, "{" + ",".join(f'"k{number}":{number}' for number in range(SIZE // 14)) + "}"),
    "one byte": (FORM, "a=" + filled("a")),
    "one phrase": (FORM, "a=" + filled("select ")),
    "brackets": (FORM, "a=" + filled("((((")),
    "dots and slashes": (FORM, "a=" + filled("../")),
    "command words": (FORM, "a=" + filled(";cat $(a) `b` |")),
    "near to expressions": (FORM, "a=" + filled("union all sele <scrip onloa = javascript : ${ $( exec( ")),
    "multipart, open": (PARTS, part("a", "b") + "--b\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n" + filled("x" * 60 + "\r\n--")),
    "multipart, many parts": (PARTS, "".join(part(f"n{number}", "v") for number in range(SIZE // 68)) + "--b--\r\n"),
    "form, many arguments": (FORM, "&".join(f"k{number}=v" for number in range(SIZE // 9))),
    "form, separators": (FORM, filled("&")),
    "XML, nested": (XML, filled("<a>")),
    "XML, entities": (XML, '<!DOCTYPE a [<!ENTITY b "' + "c" * 50 + '">]><a>' + filled("&b;") + "</a>"),
    "percent signs": (FORM, "a=" + filled("%25")),
    "percent signs, twice": (FORM, "a=" + filled("%2525%u0025")),
    "SQL, operators": (FORM, "a=" + filled("1'||1-'/**/'!=")),
    "SQL, comments": (FORM, "a=" + filled("/*'")),
    "HTML, open tags": (FORM, "a=" + filled("<a b=' ")),
    "HTML, entities": (FORM, "a=" + filled("&#x3c;")),
    "backslashes": (FORM, "a=" + filled("\\")),
    "all bytes": (FORM, "a=" + "".join(chr(byte) for byte in range(1, 127) if byte != 38) * (SIZE // 125)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--judge", type=Path, default=Path("target/release/examples/judge"))
    parser.add_argument("--only", help="bodies with this in their names")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-limit", action="store_true", help="look at all of each body")
    parser.add_argument("--modsecurity", action="store_true", help="limits as ModSecurity recommends them")
    parser.add_argument("--core", action="store_true", help="klar's own rules")
    given = parser.parse_args()
    crs = Path(os.environ["KLAR_CRS_DIR"]) if "KLAR_CRS_DIR" in os.environ else None
    asked = []
    for name, (kind, body) in BODIES.items():
        if given.only and given.only not in name:
            continue
        body = body.encode()
        asked.append((name, len(body), cost.request("POST", "/a", body, kind)))
    lines = "".join(json.dumps({"n": number, "request": base64.b64encode(cost.raw(one)).decode()}) + "\n" for number, (*_, one) in enumerate(asked))
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "limits.conf"
        own = "SecRequestWorkLimit 1000000000000\n" if given.no_limit else LIMITS if given.modsecurity else "" if given.core else EDGE
        settings.write_text(own)
        rules = sorted(CORE.glob("*.conf")) if given.core else cost.files(crs, Path(folder))
        command = [given.judge, *rules, settings, "--count", str(given.rounds)]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said, _ = run.communicate(lines)
    is_bad = False
    print("| body of 1 MB | ns a byte | memory, MB | work, MB | status | rules |\n|---|---|---|---|---|---|")
    for (name, size, _), line in zip(asked, said.splitlines(), strict=True):
        one = json.loads(line)
        ns, memory = one["ns"] / size, one["bytes"]
        is_dear = ns > NS_MAX or memory > BYTES_MAX
        is_bad |= is_dear
        rules = ", ".join(map(str, one["matched"][:4])) + (", ..." if len(one["matched"]) > 4 else "")
        print(f"| {name} | {ns:.1f} | {memory / 1e6:.1f} | {one['work'] / 1e6:.1f} | {one['status'] or 200} | {rules} |{' <--' if is_dear else ''}")
    sys.exit(1 if is_bad else 0)


if __name__ == "__main__":
    main()
