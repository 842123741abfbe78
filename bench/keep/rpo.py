#!/usr/bin/env python3
"""What is lost when a machine and its disk are gone at once: `[backup] synchronous`, and without it.

    apt-get install openssh-server postgresql
    cargo build --release
    sudo bench/keep/rpo.py target/release/klar [ROUNDS [FOLDER]]

The other machine is an sshd in a network namespace of its own, with a disk of its own (a file system in a file). The
machine that is lost is a process namespace: all its processes are killed with one SIGKILL to the first of them, then its
folder is removed. Four writers note each row that was acknowledged. What is left is restored on a third machine, a new
folder, by `klar restore --from sftp://...`, and compared. Prints a line of JSON for each round and one for each mode;
removes all it has made.
"""
import json, os, random, shutil, signal, subprocess, sys, threading, time

KLAR = os.path.abspath(sys.argv[1])
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
HOME = sys.argv[3] if len(sys.argv) > 3 else "/var/lib/klar-rpo-bench"
NETNS, HERE, AWAY, PORT = "klar-away", "10.231.7.1", "10.231.7.2", 2222
DISK = HOME + "/away"
APP = HOME + "/app"
KEY = HOME + "/key"
random.seed(20261124)


def run(*args, check=True, **more):
    done = subprocess.run(args, capture_output=True, text=True, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def tell(**found):
    print(json.dumps(found), flush=True)


def other_machine():
    run("ip", "netns", "add", NETNS)
    run("ip", "link", "add", "klar-here", "type", "veth", "peer", "name", "klar-there", "netns", NETNS)
    run("ip", "addr", "add", HERE + "/30", "dev", "klar-here")
    run("ip", "link", "set", "klar-here", "up")
    for args in (["addr", "add", AWAY + "/30", "dev", "klar-there"], ["link", "set", "klar-there", "up"]):
        run("ip", "-n", NETNS, *args)
    run("truncate", "-s", "4G", HOME + "/disk")
    run("mkfs.ext4", "-q", HOME + "/disk")
    os.makedirs(DISK)
    run("mount", "-o", "loop", HOME + "/disk", DISK)
    os.makedirs("/run/sshd", exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", HOME + "/host")
    shutil.copy(KEY + ".pub", HOME + "/authorized")
    with open(HOME + "/sshd_config", "w") as config:
        config.write(f"ListenAddress {AWAY}:{PORT}\nHostKey {HOME}/host\nAuthorizedKeysFile {HOME}/authorized\n"
                     "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPidFile none\n"
                     "Subsystem sftp internal-sftp\n")
    return subprocess.Popen(["ip", "netns", "exec", NETNS, "/usr/sbin/sshd", "-D", "-e", "-f", HOME + "/sshd_config"],
                            stderr=subprocess.DEVNULL)


class Machine:
    """A process namespace, and a folder that is its disk."""

    def __init__(self, name):
        self.disk = f"{HOME}/{name}"
        os.makedirs(self.disk)
        loop = "while :; do sleep 1; done"
        self.first = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", loop])
        time.sleep(0.3)
        self.inside = int(run("pgrep", "-P", str(self.first.pid)).split()[0])

    def klar(self, *args, check=True):
        enter = ["nsenter", "--target", str(self.inside), "--pid", "--mount"]
        env = {**os.environ, "BACKUP_KEY": open(KEY).read()}
        return run(*enter, "env", "-C", APP, KLAR, "--state", self.disk + "/state", *args, check=check, env=env)

    def kill(self):
        os.kill(self.inside, signal.SIGKILL)
        self.first.wait()
        shutil.rmtree(self.disk)


def url():
    for _ in range(100):
        found = subprocess.run(["curl", "-sk", "https://localhost:18443/"], capture_output=True, text=True).stdout
        if found.startswith("postgres"):
            return found
        time.sleep(0.2)
    raise RuntimeError("the app does not answer")


def write(at, number, acked):
    psql = subprocess.Popen(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", at], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, bufsize=1)
    row = number
    try:
        while True:
            psql.stdin.write(f"insert into acked values ({row}, repeat('x', {row % 400}));\n\\echo {row}\n")
            psql.stdin.flush()
            if psql.stdout.readline().strip() != str(row):
                break
            acked.append((row, time.monotonic()))
            row += 4
    except BrokenPipeError:
        pass
    psql.kill()
    psql.wait()


def once(number, synchronous):
    place = f"sftp://root@{AWAY}:{PORT}/{DISK}/{number}-{'sync' if synchronous else 'async'}"
    with open(APP + "/klar.toml", "w") as toml:
        toml.write(f'[app]\nname = "kept"\n[services.web]\nrun = "node server.js"\n[data.db]\npostgres = "managed"\n'
                   f'[edge]\nhttps_port = 18443\nhttp_port = 18080\n[backup]\noffsite = "{place}"\n'
                   f'offsite_key = "env:BACKUP_KEY"\nsynchronous = {str(synchronous).lower()}\n')
    machine = Machine(f"machine-{number}")
    acked, found = [], set()
    try:
        machine.klar("up")
        at = url()
        run("psql", "-Xqc", "create table acked (id bigint primary key, filler text)", at)
        drawer = f"{HOME}/drawer-{number}-{synchronous}"
        machine.klar("backup", "key", "--out", drawer)
        ready = False
        for _ in range(200):
            second = json.loads(machine.klar("backup", "list", "--json").splitlines()[0])["status"]["second"] or {}
            ready = second.get("synchronous") if synchronous else second.get("covered_unix_ms")
            if ready and second.get("covered_unix_ms"):
                break
            time.sleep(0.3)
        if not ready:
            raise RuntimeError(machine.klar("backup", "list"))
        writers = [threading.Thread(target=write, args=(at, one, acked)) for one in range(4)]
        begun = time.monotonic()
        [one.start() for one in writers]
        time.sleep(random.uniform(2, 6))
        machine.kill()
        killed = time.monotonic()
        [one.join() for one in writers]
    except BaseException:
        machine.kill()
        raise
    third = Machine(f"third-{number}")
    try:
        third.klar("up")
        begin = time.monotonic()
        third.klar("restore", "latest", "--from", place, "--key", drawer, "--place-key", KEY, "--yes", "kept.prod")
        restored = time.monotonic() - begin
        rows = run("psql", "-XAtqc", "select id from acked", url())
        found = {int(row) for row in rows.split()}
    finally:
        third.klar("down", "--all", check=False)
        third.kill()
    missing = [(row, at) for row, at in acked if row not in found]
    last = max((at for row, at in acked if row in found), default=begun)
    lost = {"rows": len(missing), "ms": round((max(at for _, at in missing) - last) * 1000) if missing else 0}
    per_second = round(len(acked) / (killed - begun))
    tell(round=number, synchronous=synchronous, acknowledged=len(acked), per_second=per_second, lost=lost,
         restored_s=round(restored, 1))
    return len(acked), lost, per_second


shutil.rmtree(HOME, ignore_errors=True)
os.makedirs(APP)
with open(APP + "/server.js", "w") as server:
    server.write("require('http').createServer((q, a) => a.end(process.env.DATABASE_URL)).listen(process.env.PORT);")
sshd = None
try:
    sshd = other_machine()
    for synchronous, rounds in ((True, ROUNDS), (False, max(ROUNDS // 4, 1))):
        done = [once(number, synchronous) for number in range(rounds)]
        speeds = sorted(speed for _, _, speed in done)
        tell(synchronous=synchronous, rounds=rounds, acknowledged=sum(rows for rows, _, _ in done),
             lost_rows=sum(lost["rows"] for _, lost, _ in done), worst_ms=max(lost["ms"] for _, lost, _ in done),
             median_per_second=speeds[len(speeds) // 2])
finally:
    if sshd:
        subprocess.run(["pkill", "-P", str(sshd.pid)])
        sshd.kill()
    subprocess.run(["umount", DISK], capture_output=True)
    subprocess.run(["ip", "netns", "del", NETNS], capture_output=True)
    shutil.rmtree(HOME, ignore_errors=True)
