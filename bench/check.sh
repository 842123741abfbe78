#!/bin/sh
# How long `klar check` takes on the demo shop: the planted faults, then what disturbs nobody or little (three times),
# then everything, with a rig. As root. Usage: bench/check.sh [debug|release]
set -eu
cd "$(dirname "$0")/.."
profile=${1:-debug}
[ "$profile" = release ] && flag=--release || flag=
cargo build --quiet --package klar $flag
target=$(cargo metadata --format-version 1 --no-deps --offline | jq -r .target_directory)
klar="$target/$profile/klar"
folder=$(mktemp -d /var/lib/klar-bench-XXXXXX)
chmod 711 "$folder"
export KLAR_STATE="$folder/state"
trap 'exit 1' INT TERM HUP
trap 'cd /; "$klar" down --all >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
cp -r demo/lisens "$folder/lisens"
cd "$folder/lisens"
rm -rf node_modules web/node_modules coverage
printf 'https_port = 18443\nhttp_port = 18080\n' >>klar.toml # [edge] is the last table
"$klar" up >/dev/null 2>&1
timed() {
    name=$1
    shift
    began=$(date +%s%N)
    "$klar" check "$@" >"$folder/said" 2>&1 || [ $? -eq 1 ] || { cat "$folder/said"; exit 1; }
    took=$((($(date +%s%N) - began) / 100000000))
    printf '%-42s %4d.%d s  %s\n' "$name" $((took / 10)) $((took % 10)) "$(grep -E '^→ ' "$folder/said" | tr '\n' ' ')"
}
timed 'planted faults' --prove-probes
for run in 1 2 3; do timed "what disturbs nobody or little ($run)"; done
timed 'everything, with a rig' --full
"$klar" check --all --format text 2>/dev/null | head -14
