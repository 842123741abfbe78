#!/bin/sh
# What rows cost (crates/klar-rows): ten million access records, ten million lines of logs, and the same questions put to
# DuckDB over the same files.
#
#   bench/see/rows.sh [ROWS]        default: 10000000
#
# Builds the examples (release), and a folder with a Python that has DuckDB; both folders of rows are removed in the end.
set -eu
cd "$(dirname "$0")/../.."
export ROWS="${1:-10000000}"
folder=$(mktemp -d "${TMPDIR:-/tmp}/klar-rows-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cargo build --quiet --release -p klar-rows --examples
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0
examples="${CARGO_TARGET_DIR:-target}/release/examples"
uname -srm; nproc; uptime

duck() {
  "$folder/venv/bin/python" - "$@" <<'PY'
import resource, sys, time
import duckdb

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

duckdb.sql("set threads = 2")
files, *questions = sys.argv[1:]
for question in questions:
    name, query = question.split(": ", 1)
    walls, before, times = [], cpu(), 7
    for _ in range(times):
        since = time.perf_counter()
        found = duckdb.sql(query.replace("ROWS", f"read_parquet('{files}')")).fetchall()
        walls.append((time.perf_counter() - since) * 1e3)
    walls.sort()
    each = (cpu() - before) * 1e3 / times
    said = found[0][0] if len(found) == 1 else f"{len(found)} rows"
    print(f"DuckDB, {name}: wall {walls[0]:.1f} ms (median {walls[times // 2]:.1f}), CPU {each:.1f} ms; {said}")
PY
}

echo "== access records"
"$examples/access" "$folder/access"
duck "$folder/access/signal=access/*/*/*.parquet" \
  "p95 by route: select route, approx_quantile(latency_us, 0.95) from ROWS group by route" \
  "p95 by route, status 500: select route, approx_quantile(latency_us, 0.95) from ROWS where status = 500 group by route"
echo "== lines of logs"
"$examples/lines" "$folder/lines"
duck "$folder/lines/signal=log/*/*/*.parquet" \
  "rare text: select count(*) from ROWS where contains(body, 'feedc0de5ca1ab1e')" \
  "common text: select count(*) from ROWS where contains(body, 'upstream 10.0')" \
  "short text: select count(*) from ROWS where contains(body, 'goroutine 471 ')"
