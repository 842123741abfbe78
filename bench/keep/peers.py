#!/usr/bin/env python3
"""Bases, what a second one adds, and restores of 2.5 GB: klar beside Debian's pgBackRest, in one run.

    cargo build --release -p klar-keep --example keep
    sudo bench/keep/peers.py target/release/examples/keep [FOLDER [SCALE [EVENTS]]]

Needs `apt-get install postgresql pgbackrest`, root (servers run as `postgres`), and about 15 GB in FOLDER
(/var/tmp/klar-keep-bench). Prints a line of JSON for each step, and writes nothing elsewhere. pgBackRest's copies
after the first are by file (its increments by block came in 2.46).
"""
import json, os, pwd, resource, shutil, subprocess, sys, time

KLAR = os.path.abspath(sys.argv[1])
HOME = sys.argv[2] if len(sys.argv) > 2 else "/var/tmp/klar-keep-bench"
SCALE = int(sys.argv[3]) if len(sys.argv) > 3 else 130
EVENTS = int(sys.argv[4]) if len(sys.argv) > 4 else 2_000_000
BIN = "/usr/lib/postgresql/15/bin/"
USER = pwd.getpwnam("postgres")
DATA = HOME + "/data"


def as_postgres(args, **more):
    return subprocess.Popen(args, user=USER.pw_uid, group=USER.pw_gid, extra_groups=[], cwd="/", **more)


def run(args, who=None, out=subprocess.PIPE, env=None):
    """Runs to the end; wall and processor seconds, peak memory of the largest process, and what it said."""
    begun = time.monotonic()
    user = {"user": USER.pw_uid, "group": USER.pw_gid, "extra_groups": []} if who == "postgres" else {}
    process = subprocess.Popen(args, stdout=out, cwd="/", env=env, **user)
    said = process.stdout.read().decode() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{args}: {status}\n{said}")
    return {"wall": round(time.monotonic() - begun, 2), "cpu": round(used.ru_utime + used.ru_stime, 2),
            "rss_mb": used.ru_maxrss // 1024}, said


def tell(step, **found):
    print(json.dumps({"step": step, **found}), flush=True)


def psql(sql):
    return subprocess.run(["psql", "-XAtqh", HOME, "-U", "klar", "-c", sql, "postgres"], check=True,
                          capture_output=True, text=True).stdout.strip()


def size(folder):
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names)


shutil.rmtree(HOME, ignore_errors=True)
os.makedirs(HOME)
os.chmod(HOME, 0o755)
os.chown(HOME, USER.pw_uid, USER.pw_gid)
run([BIN + "initdb", "-D", DATA, "-U", "klar", "--data-checksums", "--auth=trust", "--locale=C.UTF-8"], "postgres")

REST = f"{HOME}/pgbackrest.conf"
with open(REST, "w") as conf:
    conf.write(f"""[global]
repo1-path={HOME}/rest
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=bench
repo1-retention-full=9
compress-type=zst
compress-level=3
process-max=2
start-fast=y
log-level-console=error
log-path={HOME}/rest-log
lock-path={HOME}/rest-lock
spool-path={HOME}/rest-spool
[main]
pg1-path={DATA}
pg1-socket-path={HOME}
pg1-user=klar
""")
for name in ("rest", "rest-log", "rest-lock", "rest-spool"):
    os.makedirs(f"{HOME}/{name}")
    os.chown(f"{HOME}/{name}", USER.pw_uid, USER.pw_gid)
PGBACKREST = ["pgbackrest", f"--config={REST}", "--stanza=main"]
server = as_postgres([BIN + "postgres", "-D", DATA, "-c", "listen_addresses=", "-c", f"unix_socket_directories={HOME}",
                      "-c", "wal_level=replica", "-c", "archive_mode=on", "-c", "max_wal_size=4GB",
                      "-c", "archive_command=" + " ".join(PGBACKREST) + " archive-push %p"],
                     stderr=open(HOME + "/server.log", "w"))
try:
    while subprocess.run(["psql", "-XAtqh", HOME, "-U", "klar", "-c", "select 1", "postgres"], capture_output=True).returncode:
        time.sleep(0.1)
    run(PGBACKREST + ["stanza-create"], "postgres")
    subprocess.run(["pgbench", "-h", HOME, "-U", "klar", "-iq", "-s", str(SCALE), "postgres"], check=True, capture_output=True)
    psql(f"create table events as select n, md5(n::text) || md5((n * 7)::text) as payload, now() as at from generate_series(1, {EVENTS}) n")
    psql("vacuum freeze")
    psql("checkpoint")
    tell("database", bytes=int(psql("select sum(pg_database_size(oid)) from pg_database")))

    for round_ in ("full", "again after 1 % of the pages changed"):
        if round_ != "full":
            for table, key in (("pgbench_accounts", "aid"), ("events", "n")):
                psql(f"update {table} set {key} = {key} where ctid in (select ('(' || p || ',1)')::tid "
                     f"from generate_series(0, pg_relation_size('{table}') / 8192 - 1, 100) p)")
            psql("checkpoint")
        used, said = run([KLAR, "base", HOME, DATA, HOME + "/klar"])
        tell(f"klar {round_}", **used, **json.loads(said))
        before = size(HOME + "/rest/backup")
        kind = "full" if round_ == "full" else "incr"
        used, _ = run(PGBACKREST + [f"--type={kind}", "backup"], "postgres")
        tell(f"pgbackrest {round_}", **used, added=size(HOME + "/rest/backup") - before)
finally:
    server.send_signal(2)
    server.wait()

# Three times, in turns: memory that was never used before costs whoever comes first.
for peer in ("pgbackrest", "klar", "klar", "pgbackrest", "pgbackrest", "klar"):
    target = f"{HOME}/back-{peer}"
    os.makedirs(target)
    os.chown(target, USER.pw_uid, USER.pw_gid)
    os.sync()
    if peer == "klar":
        used, said = run([KLAR, "restore", HOME + "/klar", target, str(USER.pw_uid), str(USER.pw_gid)])
        tell("klar restore", **used, **json.loads(said))
    else:
        used, _ = run(PGBACKREST + [f"--pg1-path={target}/data", "restore"], "postgres")
        begun = time.monotonic()
        server = as_postgres([BIN + "postgres", "-D", target + "/data", "-c", "listen_addresses=",
                              "-c", f"unix_socket_directories={target}", "-c", "archive_mode=off"],
                             stderr=open(target + "/server.log", "w"))
        while subprocess.run(["psql", "-XAtqh", target, "-U", "klar", "-c", "select 1 where not pg_is_in_recovery()",
                              "postgres"], capture_output=True, text=True).stdout.strip() != "1":
            time.sleep(0.05)
        tell("pgbackrest restore", **used, writable_seconds=round(used["wall"] + time.monotonic() - begun, 2))
        server.send_signal(2)
        server.wait()
    shutil.rmtree(target)
