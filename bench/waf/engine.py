#!/usr/bin/env python3
"""klar's engine as the program that `suite.py` and `judge.py` ask: rules, settings and level as for the other targets.

    cargo build --release --package klar-waf --example judge
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/suite.py program bench/waf/engine.py
    bench/waf/judge.py --crs /path/to/coreruleset --rest program bench/waf/engine.py
    bench/waf/judge.py program 'bench/waf/engine.py --rules klar-core'

KLAR_JUDGE names the program where it is not in target/release/examples. PUT, PATCH and DELETE are allowed.
"""

import argparse
import os
import tempfile
from pathlib import Path

import targets

METHODS = "GET HEAD POST OPTIONS PUT PATCH DELETE"
KLAR_CORE = Path(__file__).parents[2] / "crates/klar-waf/rules/klar-core"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", choices=["crs", "klar-core", "both"], default="crs")
    parser.add_argument("--core", type=Path, default=KLAR_CORE, help="klar's own rules, if others than these, such as older ones")
    given = parser.parse_args()
    chosen = given.rules
    crs = Path(os.environ.get("KLAR_CRS_DIR", targets.DEBIAN))
    blocks, level = os.environ.get("KLAR_WAF_MODE") == "block", os.environ.get("KLAR_WAF_PARANOIA", "1")
    # Read once at the start, and small: left for whoever cleans up temporary files.
    folder = Path(tempfile.mkdtemp(prefix="klar-waf-"))
    # Who only wants to know what matches is the suite, which has limits of its own.
    suite = targets.SUITE_SETUP % {"engine": "ctl:ruleEngine=DetectionOnly,"}
    settings = targets.paranoia(level, METHODS) if blocks else suite
    engine = targets.ENGINE % {"engine": "On" if blocks else "DetectionOnly", "folder": folder, "unicode": folder / "none"}
    for name, text in (("engine.conf", engine), ("settings.conf", settings)):
        (folder / name).write_text(text)
    judge = os.environ.get("KLAR_JUDGE", "target/release/examples/judge")
    core = sorted(given.core.glob("*.conf")) if chosen != "crs" else []
    # klar-core has settings of its own; only whether it blocks is decided here.
    (folder / "mode.conf").write_text(f"SecRuleEngine {'On' if blocks else 'DetectionOnly'}\n")
    if chosen == "klar-core":
        files = [*core, folder / "mode.conf"]
    else:
        rules = sorted((crs / "rules").glob("*.conf"))
        files = [*core, folder / "engine.conf", targets.setup_file(crs), folder / "settings.conf", *rules]
    os.execv(judge, [judge, *map(str, files)])


main()
