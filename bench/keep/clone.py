#!/usr/bin/env python3
"""How long a copy of a database takes until it can be used: `klar clone` beside a full restore, through klar itself.

    cargo build --release
    sudo bench/keep/clone.py target/release/klar [FOLDER [SCALE [EVENTS]]]

Makes an app with a PostgreSQL that klar runs in FOLDER (/var/lib/klar-clone-bench), fills it with 2.5 GB, takes a point,
and then brings copies back in turns: a `klar clone` that finds the base lying ready, one right after it, for which all
files come from the repository, and `klar restore --into`, whose files outlive a loss of power. About 15 GB. Prints a line of JSON for each step; removes all it has made.
"""
import json, os, shutil, subprocess, sys, time

KLAR = os.path.abspath(sys.argv[1])
HOME = sys.argv[2] if len(sys.argv) > 2 else "/var/lib/klar-clone-bench"
SCALE = int(sys.argv[3]) if len(sys.argv) > 3 else 130
EVENTS = int(sys.argv[4]) if len(sys.argv) > 4 else 2_000_000
ROUNDS = 3
APP = HOME + "/app"


def klar(*args, check=True):
    done = subprocess.run([KLAR, "--state", HOME + "/state", *args], cwd=APP, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"klar {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout


def tell(step, **found):
    print(json.dumps({"step": step, **found}), flush=True)


def psql(*args, at):
    return subprocess.run(["psql", "-XAtq", *at, *args], check=True, capture_output=True, text=True).stdout.strip()


shutil.rmtree(HOME, ignore_errors=True)
os.makedirs(APP)
with open(APP + "/klar.toml", "w") as toml:
    toml.write('[app]\nname = "cloned"\n[services.web]\nrun = "node server.js"\n[data.db]\npostgres = "managed"\n'
               '[edge]\nhttps_port = 18443\nhttp_port = 18080\n')
with open(APP + "/server.js", "w") as server:
    server.write("require('http').createServer((q, a) => a.end(process.env.DATABASE_URL)).listen(process.env.PORT);")
try:
    klar("up")
    URL = subprocess.run(["curl", "-sk", "https://localhost:18443/"], capture_output=True, text=True).stdout
    subprocess.run(["pgbench", "-iq", "-s", str(SCALE), URL], check=True, capture_output=True)
    psql("-c", f"create table events as select n, md5(n::text) || md5((n * 7)::text) as payload, now() as at "
         f"from generate_series(1, {EVENTS}) n", at=[URL])
    begun = time.monotonic()
    proof = json.loads(klar("backup", "now", "--json").strip().splitlines()[-1])
    tell("point", wall=round(time.monotonic() - begun, 2), rto_ms=proof["rto_ms"],
         bytes=int(psql("-c", "select sum(pg_database_size(oid)) from pg_database", at=[URL])))
    for round_ in range(ROUNDS):
        # The base is laid ready again, and the copies of the round before are gone.
        time.sleep(90)
        for kind in ("from the base that lies ready", "all from the repository"):
            begun = time.monotonic()
            copy = json.loads(klar("clone", "--for", "1m", "--json").strip().splitlines()[-1])
            rows = psql("-c", "insert into events values (0, 'x', now()) returning n",
                        at=["-h", copy["socket"], "-U", "klar", copy["database"]])
            tell(f"klar clone, {kind}", wall=round(time.monotonic() - begun, 2), ms=copy["ms"], row=int(rows))
        begun = time.monotonic()
        klar("restore", "latest", "--into", HOME + "/full")
        tell("klar restore --into", wall=round(time.monotonic() - begun, 2))
        shutil.rmtree(HOME + "/full")
finally:
    klar("down", "--all", check=False)
    shutil.rmtree(HOME, ignore_errors=True)
