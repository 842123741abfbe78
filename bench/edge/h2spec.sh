#!/bin/sh
# What h2spec (github.com/summerwind/h2spec, 146 cases and one of --strict) says of the edge, nginx and HAProxy.
#
#   bench/edge/h2spec.sh H2SPEC [KLAR]        default: target/release/klar
#
# H2SPEC is the program, or a clone of its repository: that is built with what Debian 12 has
# (apt-get install golang-go golang-github-spf13-cobra-dev golang-github-fatih-color-dev golang-golang-x-net-dev).
# As root, with nginx and haproxy installed. Exit status 1 if a case fails at the edge.
set -eu
h2spec=$(realpath "${1:?the program h2spec, or a clone of its repository}")
klar=$(realpath "${2:-target/release/klar}")
folder=$(mktemp -d /var/lib/klar-h2spec-XXXXXX)
chmod 711 "$folder"
export KLAR_STATE="$folder/state"
pids=
trap '"$klar" down --all > /dev/null 2>&1 || true; [ -z "$pids" ] || kill $pids; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM HUP
if [ -d "$h2spec" ]; then
    git clone --quiet "$h2spec" "$folder/go/src/github.com/summerwind/h2spec"
    (cd "$folder/go/src/github.com/summerwind/h2spec" &&
        GO111MODULE=off GOCACHE="$folder/go-cache" GOPATH="$folder/go:/usr/share/gocode" go build -o "$folder/h2spec" ./cmd/h2spec)
    h2spec="$folder/h2spec"
fi
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
klar_port=$(free) http_port=$(free) nginx_port=$(free) haproxy_port=$(free)

mkdir -p "$folder/app/pages"
cd "$folder/app"
# Longer than the first window, for the cases that look at windows.
head -c 100000 /dev/zero | tr '\0' x > pages/index.html
cat > klar.toml <<TOML
[app]
name = "h2spec"
[services.web]
static = "pages"
[edge]
https_port = $klar_port
http_port = $http_port
TOML
"$klar" up > up.txt 2>&1 || { cat up.txt; exit 1; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout key.pem -out cert.pem 2> /dev/null
cat cert.pem key.pem > both.pem
cat > nginx.conf <<CONF
daemon off; error_log stderr crit; pid $folder/nginx.pid; events { worker_connections 1024; }
http { access_log off; client_body_temp_path $folder/t1; proxy_temp_path $folder/t2; fastcgi_temp_path $folder/t3;
  uwsgi_temp_path $folder/t4; scgi_temp_path $folder/t5; default_type text/html;
  server { listen 127.0.0.1:$nginx_port ssl http2; ssl_certificate $folder/app/cert.pem; ssl_certificate_key $folder/app/key.pem;
    root $folder/app/pages; error_page 405 =200 /index.html; } }
CONF
nginx -e stderr -c "$folder/app/nginx.conf" &
pids=$!
# HAProxy serves no files: it gets them from nginx.
cat > haproxy.cfg <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:$haproxy_port ssl crt $folder/app/both.pem alpn h2,http/1.1
  default_backend app
backend app
  server app 127.0.0.1:$nginx_port ssl verify none
CONF
haproxy -db -q -f haproxy.cfg &
pids="$pids $!"
for port in "$nginx_port" "$haproxy_port"; do
    for _ in $(seq 100); do
        if python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2> /dev/null; then break; fi
        sleep 0.1
    done
done

said=0
echo "| server | cases | passed | skipped | failed |"
echo "|---|---|---|---|---|"
for server in "nginx $nginx_port" "haproxy $haproxy_port" "klar $klar_port"; do
    name=${server% *}
    timeout 400 "$h2spec" --tls --insecure --strict --host localhost --port "${server#* }" > "$folder/$name.txt" 2>&1 ||
        [ "$name" != klar ] || said=1
    counts=$(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) passed, \([0-9]*\) skipped, \([0-9]*\) failed$/\1 | \2 | \3 | \4/p' "$folder/$name.txt")
    [ -n "$counts" ] || { tail -5 "$folder/$name.txt"; exit 1; }
    echo "| $name | $counts |"
done
for name in nginx haproxy klar; do
    if grep -q '^Failures:' "$folder/$name.txt"; then
        echo
        echo "What fails at $name:"
        sed -n '/^Failures:/,$p' "$folder/$name.txt" | sed '/^ *$/d; /^Finished/,$d; 1d'
    fi
done
exit "$said"
