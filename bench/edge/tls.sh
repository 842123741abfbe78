#!/bin/sh
# What outside judges say of the edge's TLS: sslyze (Mozilla's intermediate profile) and testssl.sh.
#
#   bench/edge/tls.sh [KLAR]        default: target/release/klar
#
# As root, with testssl.sh and python3-venv installed. sslyze goes into a folder that is removed in the end.
set -eu
klar=$(realpath "${1:-target/release/klar}")
folder=$(mktemp -d /var/lib/klar-tls-XXXXXX)
chmod 755 "$folder"
export KLAR_STATE="$folder/state"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
plain=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$folder/app/pages"
cd "$folder/app"
echo '<!doctype html><title>tls</title>' > pages/index.html
cat > klar.toml <<TOML
[app]
name = "tls"
[services.web]
static = "pages"
[edge]
https_port = $port
http_port = $plain
TOML
trap '"$klar" down --all > /dev/null; rm -rf "$folder"' EXIT
"$klar" up > up.txt 2>&1 || { cat up.txt; exit 1; }
"$klar" trust --print > "$folder/authority.pem"

echo "== sslyze, Mozilla intermediate"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sslyze==6.3.1
said=0
"$folder/venv/bin/sslyze" --mozilla_config=intermediate --certinfo_ca_file="$folder/authority.pem" \
  --sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 --certinfo --compression --elliptic_curves --heartbleed --openssl_ccs \
  --reneg --resum --robot --early_data --fallback --ems "localhost:$port" > sslyze.txt 2>&1 || said=$?
sed -n '/COMPLIANCE/,$p' sslyze.txt

echo "== testssl.sh: what is not OK or INFO"
testssl --quiet --color 0 --add-ca "$folder/authority.pem" --warnings off --jsonfile testssl.json --protocols --server-preference --server-defaults --fs --headers \
  --vulnerable "localhost:$port" > testssl.txt 2>&1 || true
python3 - <<'PY' || said=1
import json, sys
found = json.load(open("testssl.json"))
# klar's own authority signs for localhost alone and revokes nothing.
excused = ("cert_revocation",)
grave = [one for one in found if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL") and one["id"] not in excused]
for one in found:
    if one["severity"] in ("LOW", "WARN", "MEDIUM", "HIGH", "CRITICAL", "FATAL"):
        print(f'{one["severity"]:<9} {one["id"]}: {one["finding"]}')
print(f"{len(found)} findings, {len(grave)} of them MEDIUM or more ({', '.join(excused)} apart)")
sys.exit(1 if grave else 0)
PY
exit "$said"
