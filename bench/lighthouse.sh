#!/bin/sh
# Lighthouse (mobile preset) over the pages of a running shop, five times each; prints the medians.
#
#   cargo xtask demo              # in another terminal
#   bench/lighthouse.sh [URL]     # https://localhost:8443
#
# Lighthouse and the Node it needs are installed from npm into a folder below ${TMPDIR:-/tmp}. Needs Chromium and jq.
set -eu
url=${1:-https://localhost:8443}
folder=${TMPDIR:-/tmp}/klar-lighthouse
mkdir -p "$folder"
cd "$folder"
[ -d node_modules/lighthouse ] || npm install --silent --no-audit --no-fund node@24 lighthouse@13.5.0
for path in / /sign-in /help; do
    for run in 1 2 3 4 5; do
        CHROME_PATH=${CHROMIUM:-/usr/bin/chromium} node_modules/.bin/node node_modules/lighthouse/cli/index.js "$url$path" \
            --chrome-flags="--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --ignore-certificate-errors --disable-background-networking" \
            --output=json --output-path="run-$run.json" --quiet
    done
    printf '%s ' "$path"
    jq -s -c '
        def median(f): map(f) | sort | .[2];
        {
            performance: (median(.categories.performance.score) * 100 | round),
            accessibility: (median(.categories.accessibility.score) * 100 | round),
            best_practices: (median(.categories["best-practices"].score) * 100 | round),
            fcp_ms: (median(.audits["first-contentful-paint"].numericValue) | round),
            lcp_ms: (median(.audits["largest-contentful-paint"].numericValue) | round),
            tbt_ms: (median(.audits["total-blocking-time"].numericValue) | round),
            cls: median(.audits["cumulative-layout-shift"].numericValue)
        }' run-?.json
done
