#!/usr/bin/env python3
"""How a firewall takes the corpora: which honest requests it blocks, and which attacks it lets through.

    bench/waf/judge.py [options] modsecurity
    bench/waf/judge.py [options] program 'COMMAND'
    bench/waf/judge.py [options] klar target/release/klar

For `modsecurity`, --crs and --paranoia decide what it runs; a program finds them in its environment, and a server runs
what it was started with. A request is blocked when it is answered with 403 or refused as broken, or when the rule matched
that says that its score is too high. Sums alone are printed of the held-out half: corpus/README.md says why.
"""

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from pathlib import Path

import corpora
from corpus import fresh
import targets

# Rules that add scores up, tell of them, or let a request through; none of them is the reason of a block.
SUMS = {949059, 949060, 949110, 949111, 949159, 949160, 949161, 959100, 959101, 980130, 980140, 980170, 901340, 91900001, 91900002, 91900003}


def requests(kind, half):
    if half == "fresh":
        ids = {f"{one['id']}-1" for one in fresh.read(half, kind)}
        return [(its, one) for its, one in corpora.make(kind) if one["id"] in ids]
    return [(its, one) for its, one in corpora.make(kind) if half in (its, "both")]


def reasons(verdict):
    return [one for one in verdict.matched if one not in SUMS]


def share(part, whole):
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"


def table(columns, rows):
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def judge_benign(judged, names):
    blocked = [(one, verdict) for one, verdict in judged if verdict.blocked]
    print(f"**Benign**: {share(len(blocked), len(judged))} blocked.\n")
    by_rule, alone = Counter(), Counter()
    for _, verdict in blocked:
        rules = reasons(verdict) or [verdict.refused or f"status {verdict.status}"]
        by_rule.update(rules)
        if len(rules) == 1:
            alone.update(rules)
    table(["rule", "blocked requests it matched", "and no other rule did"], [(rule, number, alone[rule]) for rule, number in by_rule.most_common(40)])
    by_note = Counter(one["note"] for one, _ in blocked)
    print()
    table(["kind of request", "blocked"], by_note.most_common(25))
    if names:
        print()
        for one, verdict in blocked:
            print(f"- {one['id']} ({one['note']}): {', '.join(map(str, reasons(verdict))) or verdict.refused or verdict.status}")
    return {"requests": len(judged), "blocked": len(blocked), "rules": dict(by_rule)}


def judge_attacks(judged, names):
    stopped = sum(verdict.blocked for _, verdict in judged)
    print(f"**Attacks**: {share(stopped, len(judged))} blocked.\n")
    sums = {}
    for what in ("class", "placement"):
        seen = defaultdict(lambda: [0, 0])
        for one, verdict in judged:
            seen[one[what]][0] += verdict.blocked
            seen[one[what]][1] += 1
        table([what, "blocked", "of", "share"], [(name, good, of, f"{good / of:.1%}") for name, (good, of) in sorted(seen.items())])
        print()
        sums[what] = {name: {"blocked": good, "of": of} for name, (good, of) in seen.items()}
    places = sorted({one["placement"] for one, _ in judged})
    cells = defaultdict(lambda: [0, 0])
    for one, verdict in judged:
        cell = cells[one["class"], one["placement"]]
        cell[0] += verdict.blocked
        cell[1] += 1
    kinds = sorted({one["class"] for one, _ in judged})
    table(["blocked/of", *places], [(kind, *("/".join(map(str, cells[kind, place])) if (kind, place) in cells else "" for place in places)) for kind in kinds])
    if names:
        print()
        for one, verdict in judged:
            if not verdict.blocked:
                print(f"- {one['id']} ({one['encoding']}): {one['method']} {one['path'][:80]} {one.get('body', '')[:80]!r}, matched {reasons(verdict) or 'nothing'}")
    return {"requests": len(judged), "blocked": stopped, **sums}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", choices=["benign", "attacks", "all"], default="all")
    parser.add_argument("--half", choices=[*corpora.HALVES, "fresh", "both"], default="held-out")
    parser.add_argument("--paranoia", type=int, choices=[1, 2, 3, 4], default=1)
    parser.add_argument("--crs", help="a checkout of the Core Rule Set, or `debian` for the package; default: KLAR_CRS_DIR, else debian")
    parser.add_argument("--rest", action="store_true", help="allow PUT, PATCH and DELETE, as whoever runs an API would")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the sums there, and each verdict of the parts that rules may be tuned on")
    targets.add_arguments(parser)
    given = parser.parse_args()

    crs = given.crs or os.environ.get("KLAR_CRS_DIR", "debian")
    crs = targets.DEBIAN if crs == "debian" else Path(crs).resolve()
    methods = "GET HEAD POST OPTIONS PUT PATCH DELETE" if given.rest else None
    settings = targets.paranoia(given.paranoia, methods)
    kinds = ["benign", "attacks"] if given.corpus == "all" else [given.corpus]
    kept = {"target": given.target, "crs": str(crs), "paranoia": given.paranoia, "rest": given.rest, "half": given.half}
    names = given.half in ("tune", "check")
    for kind in kinds:
        chosen = requests(kind, given.half)
        begun = time.monotonic()
        with targets.chosen(given, crs, settings, given.paranoia, detect=False) as target:
            verdicts = list(target.ask_all((corpora.raw(one), None) for _, one in chosen))
        judged = [(one, verdict) for (_, one), verdict in zip(chosen, verdicts, strict=True)]
        kept[kind] = (judge_benign if kind == "benign" else judge_attacks)(judged, names)
        if names:
            kept[kind]["verdicts"] = {one["id"]: {"blocked": verdict.blocked, "status": verdict.status, "matched": verdict.matched, "refused": verdict.refused} for one, verdict in judged}
        print(f"\n{len(chosen)} requests in {time.monotonic() - begun:.0f} s.\n")
    if given.json:
        given.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
