#!/usr/bin/env python3
"""What the firewall costs a request through the edge: with it and without it, in the same run.

One edge on core 0, the generator and the app on core 1, as in `bench/edge/measure.py`. Each request is a browser's GET
with another query string, which no cache answers and no verdict of before fits. The route without a firewall is
compared with the same app behind klar's own rules and behind the Core Rule Set (KLAR_CRS_DIR, or Debian's).

    cargo build --release --package klar
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/edge.py [--klar target/release/klar] [--rounds 5]

As root, with nginx and wrk.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "edge"))

import rig

WAF = rig.KLAR.replace('waf = "off"', 'waf = "block"\nwaf_rules = "%s"').replace(
    '"/files/*" = "files"', '"/open/*" = { to = "web", waf = "off" }\n"/files/*" = "files"')
# A browser's request; the number in the query is never the same twice.
LUA = """
local number = 0
local headers = {
  ["Host"] = "localhost",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  ["Accept-Language"] = "nb-NO,nb;q=0.9,no;q=0.8,en-US;q=0.7,en;q=0.6",
  ["Referer"] = "https://shop.example.com/catalogue/shoes?page=2",
  ["Cookie"] = "session=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA; theme=dark; consent=all; _ga=GA1.2.1234567890.1700000000",
}
request = function()
  number = number + 1
  return wrk.format("GET", wrk.path .. "?page=" .. number .. "&sort=price&q=running+shoes", headers)
end
"""


def measured(given, rules, lua):
    crs = os.environ.get("KLAR_CRS_DIR")
    before = [["waf", "add", crs]] if rules == "crs" and crs else []
    with rig.stage(given, config=WAF.replace("%s", rules), before=before) as one:
        klar = one.klar
        of = f"http://127.0.0.1:{klar.http}"
        places = [("off", f"{of}/open/x", klar.pids), (rules, f"{of}/x", klar.pids)]
        return rig.in_turns(places, given.rounds, lambda url, pids: rig.measure(
            lambda *a, **k: rig.wrk(*a, **k, script=lua), url, pids, 64, given.seconds))


def main():
    given = rig.options(__doc__, rounds=5, seconds=3)
    lua = Path("/tmp") / f"klar-waf-{os.getpid()}.lua"
    lua.write_text(LUA)
    try:
        with rig.quiet(given):
            rig.header("rules", "CPU s / 100k requests", "of none", "requests/s", "of none", "p99 ms", "RSS MB")
            for rules in ("core", "crs"):
                middle = measured(given, rules, lua)
                for name, of in middle.items():
                    none = middle["off"]
                    rig.row(name if name != "off" else f"none, beside {rules}", f"{of['cpu']:.2f}", f"{of['cpu'] / none['cpu']:.2f}",
                            f"{of['rate']:,.0f}", f"{of['rate'] / none['rate']:.2f}", f"{of['p99']:.1f}", f"{of['rss']:.0f}")
    finally:
        lua.unlink()


main()
