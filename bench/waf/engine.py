#!/usr/bin/env python3
"""klar's engine as the program that `suite.py` and `judge.py` ask: rules, settings and level as for the other targets.

    cargo build --release --package klar-waf --example judge
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/suite.py program bench/waf/engine.py
    bench/waf/judge.py --crs /path/to/coreruleset --rest program bench/waf/engine.py

KLAR_JUDGE names the program where it is not in target/release/examples. PUT, PATCH and DELETE are allowed.
"""

import os
import tempfile
from pathlib import Path

import targets

METHODS = "GET HEAD POST OPTIONS PUT PATCH DELETE"


def main():
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
    rules = sorted((crs / "rules").glob("*.conf"))
    files = [folder / "engine.conf", targets.setup_file(crs), folder / "settings.conf", *rules]
    os.execv(judge, [judge, *map(str, files)])


main()
