#!/bin/sh
# How many instructions the edge spends on a request, outside the kernel: a figure that no neighbour disturbs.
#
# Runs crates/klar-edge/examples/drive.rs under callgrind twice, with few and with many requests over one
# connection, and divides the difference. Counted are the threads of the edge: its workers, and who sends the records.
#
#     bench/edge/instructions.sh [CASE...]          proxy hit, also plain; with a valgrind that knows openat2 file page
#     FUNCTIONS=40 bench/edge/instructions.sh hit   and where they went, the dearest functions first
set -eu
few=100 many=1100
cd "$(dirname "$0")/../.."
${CARGO:-cargo} build --quiet --release --package klar-edge --example drive
drive=${CARGO_TARGET_DIR:-target}/release/examples/drive
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

count() { # CASE REQUESTS: instructions of the edge's threads
    valgrind --quiet --tool=callgrind --separate-threads=yes --callgrind-out-file="$out/$1.$2" "$drive" "$1" "$2"
    for thread in "$out/$1.$2"-*; do
        # What the workers and the thread that sends records are known by, inlined or not.
        if grep -qE "klar_edge::(serve|records|control)" "$thread"; then
            sed -n 's/^\(summary\|totals\): //p' "$thread" | head -1
            mv "$thread" "$thread.edge"
        fi
    done | awk '{ sum += $1 } END { print sum }'
}

echo "| case | instructions a request |"
echo "|---|---|"
for case in ${*:-proxy hit}; do
    echo "| $case | $((($(count "$case" $many) - $(count "$case" $few)) / (many - few))) |"
    if [ -n "${FUNCTIONS:-}" ]; then
        callgrind_annotate --threshold=100 "$out/$case.$many"-*.edge | grep -E '^ *[0-9,]+ \(' | head -n "$FUNCTIONS"
    fi
done
