#!/usr/bin/env python3
"""The regression suite of the OWASP Core Rule Set, run against a firewall: how many of its tests pass, and why the others fail.

    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/suite.py [options] modsecurity
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/suite.py [options] program 'COMMAND'
    KLAR_CRS_DIR=/path/to/coreruleset bench/waf/suite.py [options] klar target/release/klar

The format is that of go-ftw, and requests are made as go-ftw makes them, byte for byte: what it completes is completed,
what is broken stays broken. A test passes when each of its stages does. Where a target has no log text, an expectation
of one is judged by whether the rule that the test is for has matched.
Exit codes: 0 all passed, 1 some failed, 2 could not be run.
"""

import argparse
import base64
import json
import os
import re
import sys
import time
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import reflect
import targets

try:
    import yaml
except ImportError:
    targets.stop("PyYAML is not there: python3 -m venv .venv && .venv/bin/pip install pyyaml, then run this with .venv/bin/python")

HERE = Path(__file__).parent
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FORM = "application/x-www-form-urlencoded"
# The one thing of Go's templates that the suite makes use of.
REPEAT = re.compile(r'\{\{\s*"([^"]*)"\s*\|\s*repeat\s+(\d+)\s*\}\}')
INPUT = {"dest_addr", "port", "protocol", "method", "uri", "version", "headers", "data", "encoded_data", "encoded_request",
         "autocomplete_headers", "stop_magic", "save_cookie"}
OUTPUT = {"log", "status", "expect_error", "response_contains", "retry_once", "isolated"}
LOG = {"expect_ids", "no_expect_ids", "match_regex", "no_match_regex"}


@dataclass
class Stage:
    """One request, and what should come of it."""

    raw: bytes
    response: bytes | None
    expected: dict


@dataclass
class Test:
    """A test of one rule; `id` is the rule's, a dash, and the number within its file."""

    id: str
    rule: int
    family: str
    description: str
    stages: list
    may_be_refused: bool = False


def has(headers, name):
    return any(one.lower() == name.lower() for one in headers)


def value(headers, name):
    return next((said for one, said in headers.items() if one.lower() == name.lower()), "")


def form_encoded(data):
    """Names and values encoded, unless there is any sign that somebody has done so already."""
    if b"%" in data or b"+" in data:
        return data
    pairs = (pair.partition(b"=") for pair in data.split(b"&"))
    return b"&".join(quote_plus(name).encode() + equals + quote_plus(said).encode() for name, equals, said in pairs)


def raw_request(given):
    """The bytes that go-ftw would send."""
    if "encoded_request" in given:
        return base64.b64decode(given["encoded_request"])
    method, uri, version = given.get("method", "GET"), given.get("uri", "/"), given.get("version", "HTTP/1.1")
    headers = {str(name): str(said) for name, said in (given.get("headers") or {}).items()}
    if "encoded_data" in given:
        data = base64.b64decode(given["encoded_data"])
    else:
        data = REPEAT.sub(lambda found: found[1] * int(found[2]), given.get("data") or "").encode()
    complete = given.get("autocomplete_headers", not given.get("stop_magic", False))
    if data and complete:
        if not has(headers, "Content-Type"):
            headers["Content-Type"] = FORM
        if value(headers, "Content-Type") == FORM:
            data = form_encoded(data)
    if "multipart/form-data;" in value(headers, "Content-Type"):
        data = data.replace(b"\n", b"\r\n")
    if complete:
        if not has(headers, "Connection"):
            headers["Connection"] = "close"
        takes_body = method.startswith("POST") or "PUT" in method or "PATCH" in method or method.endswith("DELETE")
        if not has(headers, "Content-Length") and (data or takes_body):
            headers["Content-Length"] = str(len(data))
    lines = [f"{method} {uri} {version}", *(f"{name}: {said}" for name, said in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def stage_of(given, where, family):
    for kind, known in (("input", INPUT), ("output", OUTPUT)):
        if unknown := set(given[kind]) - known:
            targets.stop(f"{where}: {kind} has {', '.join(sorted(unknown))}, which this runner does not know")
    if unknown := set(given["output"].get("log") or {}) - LOG:
        targets.stop(f"{where}: log has {', '.join(sorted(unknown))}, which this runner does not know")
    raw = raw_request(given["input"])
    method, uri = given["input"].get("method", "GET"), given["input"].get("uri", "/")
    # Rules that read responses need one; for all others whatever an app says makes no difference.
    response = None
    if uri.startswith("/reflect") or family.startswith("RESPONSE"):
        response = reflect.raw_response(method, uri, raw.partition(b"\r\n\r\n")[2])
    return Stage(raw, response, given["output"])


def read_tests(crs, wanted):
    folder = crs / "tests" / "regression" / "tests"
    if not folder.is_dir():
        targets.stop(f"{folder} is not there: KLAR_CRS_DIR has to name a checkout of the Core Rule Set with its tests")
    tests = []
    for file in sorted(folder.glob("**/*.yaml")):
        known = yaml.load(file.read_text(), Loader=LOADER)
        if not known:
            continue
        for test in known["tests"]:
            name = f"{known['rule_id']}-{test['test_id']}"
            if wanted and not re.search(wanted, name):
                continue
            stages = [stage_of(stage, f"{file}: {name}", file.parent.name) for stage in test["stages"]]
            tests.append(Test(name, known["rule_id"], file.parent.name, " ".join((test.get("desc") or "").split()), stages))
    return tests


def override(tests, file):
    """What this target is known to do instead: from a TOML file of ours, or one of those that the suite brings along."""
    known = {}
    if file.suffix == ".toml":
        for one in tomllib.loads(file.read_text()).get("test", []):
            known[one["id"]] = one
    else:
        for one in yaml.load(file.read_text(), Loader=LOADER)["test_overrides"]:
            for number in one["test_ids"]:
                known[f"{one['rule_id']}-{number}"] = one
    for test in tests:
        if one := known.get(test.id):
            test.may_be_refused = one.get("refused", False)
            if not test.may_be_refused:
                for stage in test.stages:
                    stage.expected = one.get("output", {})
    return len(known)


def judge(test, stage, verdict):
    """What is wrong with what came back; empty if all is well."""
    expected, wrong = stage.expected, []
    if expected.get("expect_error"):
        return [] if verdict.refused else ["an error was expected"]
    log = expected.get("log") or {}
    status = verdict.status
    if status is None:
        status = 400 if verdict.refused else 200
    if "status" in expected and status != expected["status"]:
        wrong.append(f"status {status}, not {expected['status']}")
    if missing := set(log.get("expect_ids", ())).difference(verdict.matched):
        wrong.append(f"did not match: {', '.join(map(str, sorted(missing)))}")
    if found := set(log.get("no_expect_ids", ())).intersection(verdict.matched):
        wrong.append(f"matched: {', '.join(map(str, sorted(found)))}")
    for key, should in (("match_regex", True), ("no_match_regex", False)):
        if key in log:
            matches = test.rule in verdict.matched if verdict.log is None else bool(re.search(log[key], verdict.log))
            if matches != should:
                wrong.append(f"the log has {'no' if should else 'a'} line with {log[key]}")
    if expected.get("isolated") and len(verdict.matched) != 1:
        wrong.append(f"{len(verdict.matched)} rules matched, not one")
    if wrong and verdict.refused:
        wrong.append(f"refused: {verdict.refused}")
    return wrong


def judge_status(test, stage, verdict):
    """As the suite's cloud mode: a firewall that says nothing but yes or no."""
    log = stage.expected.get("log") or {}
    if "expect_ids" in log or "match_regex" in log:
        return [] if verdict.blocked else ["not blocked"]
    if "no_expect_ids" in log or "no_match_regex" in log:
        return ["blocked"] if verdict.status == 403 else []
    if "status" in stage.expected:
        return [] if verdict.blocked == (stage.expected["status"] >= 400) else [f"status {verdict.status}"]
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocking", action="store_true", help="judge by status alone: 403 or not")
    parser.add_argument("--only", metavar="REGEX", help="tests whose id (942100-1) matches")
    parser.add_argument("--overrides", type=Path, help="default: the suite's own for nginx, overrides.toml for the others")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every failure and every sum there")
    parser.add_argument("--quiet", action="store_true", help="sums only")
    targets.add_arguments(parser)
    given = parser.parse_args()

    if not os.environ.get("KLAR_CRS_DIR"):
        targets.stop("KLAR_CRS_DIR is not set: it names a checkout of the Core Rule Set, whose tests these are")
    crs = Path(os.environ["KLAR_CRS_DIR"]).resolve()
    tests = read_tests(crs, given.only)
    if given.target == "modsecurity":
        overrides = given.overrides or crs / "tests" / "regression" / "nginx-overrides.yaml"
    else:
        overrides = given.overrides or HERE / "overrides.toml"
    overridden = override(tests, overrides)

    settings = targets.SUITE_SETUP % {"engine": "" if given.blocking else "ctl:ruleEngine=DetectionOnly,"}
    target = targets.chosen(given, crs, settings, 4, not given.blocking)
    check = judge_status if given.blocking else judge
    begun, failures, passed = time.monotonic(), [], Counter()
    with target:
        verdicts = target.ask_all((stage.raw, stage.response) for test in tests for stage in test.stages)
        for test in tests:
            wrong = []
            for number, stage in enumerate(test.stages, 1):
                verdict = next(verdicts)
                if test.may_be_refused and (verdict.refused or verdict.status in targets.REFUSED):
                    continue
                said = check(test, stage, verdict)
                if said and len(test.stages) > 1:
                    said = [f"stage {number}: {one}" for one in said]
                wrong += said
            if wrong:
                failures.append({"id": test.id, "family": test.family, "description": test.description, "reasons": wrong,
                                 "matched": verdict.matched, "status": verdict.status, "refused": verdict.refused})
            else:
                passed[test.family] += 1
    took = time.monotonic() - begun

    families = defaultdict(lambda: {"passed": 0, "failed": 0})
    for family, number in passed.items():
        families[family]["passed"] = number
    for failure in failures:
        families[failure["family"]]["failed"] += 1
        if not given.quiet:
            print(f"{failure['id']}: {'; '.join(failure['reasons'])}  ({failure['description'][:90]})")
    print("\n| family | passed | failed |\n|---|---|---|")
    for family in sorted(families):
        print(f"| {family} | {families[family]['passed']} | {families[family]['failed']} |")
    good, requests = sum(passed.values()), sum(len(test.stages) for test in tests)
    print(f"\n{good} of {len(tests)} tests passed ({good / max(len(tests), 1):.1%}), {requests} requests in {took:.0f} s, "
          f"{overridden} known differences in {overrides.name}.")
    if given.json:
        said = {"target": given.target, "crs": str(crs), "blocking": given.blocking, "passed": good, "tests": len(tests),
                "seconds": round(took, 1), "families": families, "failures": failures}
        given.json.write_text(json.dumps(said, indent=1))
    sys.exit(0 if not failures else 1)


if __name__ == "__main__":
    main()
