#!/bin/sh
# Every measurement and every attack in this folder, one after another, about half an hour: what they print goes into
# OUT, a file for each, and what failed is said in the end. As root, on a machine that has nothing else to do.
#
#   bench/edge/all.sh OUT [--quick]           --quick tries the scripts; the figures mean nothing
#   H2SPEC=PATH bench/edge/all.sh OUT         also h2spec (see h2spec.sh)
#
# Needs nginx, haproxy, varnish, wrk and nghttp2-client; builds klar and two examples first.
set -eu
out=$(mkdir -p "${1:?a folder for what they print}" && realpath "$1")
shift
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
"$cargo" build --quiet --profile dist --package klar
"$cargo" build --quiet --profile dist --package klar-edge --example pace
"$cargo" build --quiet --package klar-edge --example stand
target=${CARGO_TARGET_DIR:-target}
klar="$target/dist/klar"
failed=
run() { # NAME COMMAND...
    name=$1
    shift
    printf '%s\n' "$name" >&2
    "$@" > "$out/$name.md" 2> "$out/$name.err" || failed="$failed $name"
}
for cases in http1 http2 cores; do run "measure-$cases" bench/edge/measure.py "$cases" --klar "$klar" "$@"; done
for script in handshakes bodies idle latency floods; do run "$script" "bench/edge/$script.py" --klar "$klar" "$@"; done
run vtc bench/edge/vtc.py --stand "$target/debug/examples/stand"
if [ -n "${H2SPEC:-}" ]; then run h2spec bench/edge/h2spec.sh "$H2SPEC" "$klar"; fi
[ -z "$failed" ] || { echo "failed:$failed; see $out" >&2; exit 1; }
