#!/bin/sh
# How does klar's cache behave, as http-tests/cache-tests sees it (https://cache-tests.fyi)?
#
#     git clone https://github.com/http-tests/cache-tests && (cd cache-tests && npm install)
#     bench/cache-tests.sh cache-tests [ID]
#
# Runs the suite's server as an app behind klar, and its client against klar. Prints how many of the tests pass,
# counted as the results that are published there: `true` in the client's JSON, which is left in
# cache-tests/klar.json. With ID: only that test, with every message. KLAR names the program, otherwise it is built.
set -eu

suite=$(cd "${1:?usage: bench/cache-tests.sh SUITE [ID]}" && pwd)
id=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
klar=${KLAR:-}
if [ -z "$klar" ]; then
    (cd "$here" && cargo build --quiet --release -p klar)
    klar=${CARGO_TARGET_DIR:-$here/target}/release/klar
fi

work=$(mktemp -d)
# As root klar gives users of their own to what it runs; they have to get here.
chmod 755 "$work"
log=$work/klar.log
port=${PORT_HTTPS:-18443}
export KLAR_STATE="$work/state"
end() {
    [ ! -d "$work/state" ] || "$klar" down --all > "$log" 2>&1 || true
    rm -rf "$work"
}
trap end EXIT INT TERM

# The suite keeps what it saw in the memory of its server, so there is one instance.
mkdir "$work/app"
[ -d "$suite/node_modules" ] || { echo "cache-tests.sh: run \`npm install\` in $suite first" >&2; exit 2; }
cp -r "$suite/test-engine" "$suite/tests" "$suite/package.json" "$work/app/"
cat > "$work/app/klar.toml" <<TOML
app.name = "cachetests"

[services.web]
run = "npm_config_protocol=http npm_config_port=\$PORT npm_config_pidfile=/dev/null node test-engine/server/server.mjs"
instances = 1

[edge]
https_port = $port
http_port = $((port - 1))
csp = "off"
TOML

url=https://localhost:$port
(cd "$work/app" && "$klar" up) > "$log" 2>&1 || { cat "$log" >&2; exit 2; }

# A client that checks certificates, and trusts the authority of this klar alone.
(cd "$work/app" && "$klar" trust --print) > "$work/ca.pem"
cd "$suite"
NODE_EXTRA_CA_CERTS=$work/ca.pem npm_config_base=$url npm_config_id=$id npm_package_config_id= \
    node --no-warnings test-engine/cli.mjs > "$work/result" || { cat "$work/result" "$log" >&2; exit 2; }
if [ -n "$id" ]; then
    cat "$work/result"
    exit 0
fi
cp "$work/result" klar.json
node -e '
const results = JSON.parse(require("fs").readFileSync("klar.json"))
const all = Object.entries(results)
console.log(`${all.filter(([, result]) => result === true).length} of ${all.length} pass`)
for (const [id, result] of all) if (result !== true) console.log(`  ${id}: ${result[0]}: ${result[1]}`)
'
