//! Redis: an own folder with an append-only file, a password, loopback only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{Invocation, NotReady, Store, WATCHER, find_program};
use crate::report::Failure;

/// What was there before a copy took its place.
pub(super) const ASIDE: &str = "files.before";

pub(super) fn server() -> Result<String, Failure> {
    find_program("redis-server", &[]).map(|path| path.to_string_lossy().into_owned()).ok_or_else(|| {
        Failure::new("Redis' server is not installed").hint("run `apt-get install redis-server`")
    })
}

pub(super) fn initialise(store: &Store, folder: &Path) -> Result<Invocation, Failure> {
    // The password is in a file of its own: arguments can be seen by everyone on the machine.
    const SCRIPT: &str = r#"
set -eu
umask 077
mkdir -p "$1/files"
printf 'requirepass %s\n' "$KLAR_PASSWORD" > "$1/redis.conf.new"
sync "$1/redis.conf.new"
mv "$1/redis.conf.new" "$1/redis.conf"
"#;
    server()?;
    let command = ["/bin/sh", "-c", SCRIPT, "init", &folder.to_string_lossy()];
    Ok(Invocation {
        command: command.map(String::from).to_vec(),
        env: vec![("KLAR_PASSWORD".into(), store.app_password.expose().clone())],
    })
}

/// How a snapshot is put in the place of the files of a Redis that does not run. A kill in between leaves the one or the
/// other: while `files.whole` is there the new ones are, and [`run`] ends what was begun.
///
/// A server with `appendonly yes` reads no `dump.rdb`: it would start empty beside it. It does read an `appendonly.aof` that
/// begins with a snapshot and has nothing after it; one from version 7 on moves that into its `appendonlydir` by itself
/// (`aofUpgradePrepare`).
pub(super) fn take_over(folder: &Path, from: &Path) -> Invocation {
    const SCRIPT: &str = r#"
set -eu
umask 077
cd "$1"
rm -rf files.whole files.new
rm -rf files.before
mkdir files.new
cp --reflink=auto -- "$2/dump.rdb" files.new/appendonly.aof
sync -f files.new
: > files.whole
sync -f files.whole
mv files files.before
mv files.new files
rm files.whole
sync -f files
"#;
    let command = ["/bin/sh", "-c", SCRIPT, "restore", &folder.to_string_lossy(), &from.to_string_lossy()];
    Invocation { command: command.map(String::from).to_vec(), env: Vec::new() }
}

pub(super) fn run(store: &Store, folder: &Path) -> Result<Invocation, Failure> {
    const OPEN: &str = r#"cd "$0" && [ -e files.whole ] && {
    [ -e files ] && [ -e files.new ] && rm -rf files.before && mv files files.before
    [ -e files ] || mv files.new files
    rm files.whole
}
exec "$@""#;
    let mut command: Vec<String> = ["/bin/sh", "-c", OPEN].map(String::from).to_vec();
    command.extend([folder.to_string_lossy().into_owned(), server()?]);
    command.push(folder.join("redis.conf").to_string_lossy().into_owned());
    let files = folder.join("files").to_string_lossy().into_owned();
    for (option, value) in [
        ("--port", store.port.to_string().as_str()),
        ("--bind", "127.0.0.1"),
        ("--protected-mode", "yes"),
        ("--dir", &files),
        ("--appendonly", "yes"),
        ("--appendfsync", "everysec"),
        // What keeps it is a replica for a moment each hour: nobody else comes for whom it should wait.
        ("--repl-diskless-sync-delay", "0"),
        ("--daemonize", "no"),
        ("--logfile", ""),
    ] {
        command.extend([option.to_owned(), value.to_owned()]);
    }
    Ok(Invocation { command, env: Vec::new() })
}

/// One command, one answer: arrays come back as their elements, everything else as one.
fn command(stream: &mut TcpStream, words: &[&str]) -> std::io::Result<Vec<String>> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    let first = line(stream)?;
    let Some(count) = first.strip_prefix('*') else { return Ok(vec![value(stream, &first)?]) };
    const ELEMENTS_MAX: usize = 64;
    let count: usize = count.parse().unwrap_or(0);
    (0..count.min(ELEMENTS_MAX)).map(|_| line(stream).and_then(|head| value(stream, &head))).collect()
}

fn value(stream: &mut TcpStream, head: &str) -> std::io::Result<String> {
    const BULK_MAX: usize = 64 * 1024;
    let Some(length) = head.strip_prefix('$') else { return Ok(head.to_owned()) };
    let length: usize = length.parse().unwrap_or(0);
    let mut bytes = vec![0; length.min(BULK_MAX) + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(bytes.len() - 2);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line(stream: &mut TcpStream) -> std::io::Result<String> {
    const LINE_MAX: usize = 1024;
    let mut bytes = Vec::new();
    let mut byte = [0u8];
    while !bytes.ends_with(b"\r\n") && bytes.len() < LINE_MAX {
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

pub(super) fn verify(store: &Store, folder: &Path) -> Result<String, NotReady> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let later = |error: std::io::Error| NotReady::Later(error.to_string());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, store.port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(later)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(later)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(later)?;
    let answer = command(&mut stream, &["AUTH", store.app_password.expose()]).map_err(later)?;
    match answer.first().map(String::as_str) {
        Some("+OK") => {}
        Some(loading) if loading.starts_with("-LOADING") => return Err(NotReady::Later(loading.into())),
        Some(_) => {
            return Err(NotReady::someone_else(store, "it is a Redis that does not know klar's password"));
        }
        None => return Err(NotReady::Later("no answer to AUTH".into())),
    }
    if let Some(loading) =
        command(&mut stream, &["PING"]).map_err(later)?.first().filter(|said| *said != "+PONG")
    {
        return Err(NotReady::Later(loading.clone()));
    }
    let said = command(&mut stream, &["CONFIG", "GET", "dir"]).map_err(later)?;
    let files = folder.join("files");
    if said.get(1).is_some_and(|dir| Path::new(dir) == files) {
        // Telemetry's user, until the server ends. Without it, it serves as well.
        let password = format!(">{}", store.watcher_password().expose());
        let acl = ["ACL", "SETUSER", WATCHER, "reset", "on", &password, "+info", "+ping"];
        let answer = command(&mut stream, &acl).map_err(later)?;
        if answer.first().is_none_or(|said| said != "+OK") {
            eprintln!("port {}: Redis is not watched: {}", store.port, answer.concat());
        }
    }
    match said.get(1) {
        Some(dir) if Path::new(dir) == files => Ok(format!("folder {dir}")),
        _ => Err(NotReady::someone_else(
            store,
            &format!("it is a Redis with another folder than {}", files.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Engine;
    use std::fs;
    use std::process::Command;

    /// However far it has come: what the server is started on is what was there, or the snapshot, and never neither.
    #[test]
    fn a_snapshot_is_put_in_place_or_not_at_all() {
        let root = std::env::temp_dir().join(format!("klar-put-{}", std::process::id()));
        let store = Store::plan(Engine::Redis).unwrap();
        let lines = |text: &str| text.lines().count();
        let mut ends = Vec::new();
        for killed in 0.. {
            let _ = fs::remove_dir_all(&root);
            let (folder, from) = (root.join("cache"), root.join("copy"));
            fs::create_dir_all(folder.join("files/appendonlydir")).unwrap();
            fs::create_dir_all(folder.join("files.before")).unwrap();
            fs::create_dir_all(&from).unwrap();
            fs::write(from.join("dump.rdb"), "the snapshot").unwrap();
            let Invocation { mut command, .. } = take_over(&folder, &from);
            let all = lines(&command[2]);
            if killed > all {
                break;
            }
            command[2] = command[2].lines().take(killed).collect::<Vec<_>>().join("\n");
            assert!(Command::new(&command[0]).args(&command[1..]).status().unwrap().success());
            let Ok(Invocation { command, .. }) = run(&store, &folder) else {
                eprintln!("skipped: Redis is not installed (apt-get install redis-server)");
                return;
            };
            // The same, but for the server.
            let started = Command::new(&command[0]).args(&command[1..4]).arg("true").status().unwrap();
            assert!(started.success());
            let is_new =
                fs::read(folder.join("files/appendonly.aof")).is_ok_and(|read| read == b"the snapshot");
            let is_old = folder.join("files/appendonlydir").is_dir();
            assert!(is_new != is_old, "{killed}");
            assert!(is_old || folder.join("files.before/appendonlydir").is_dir(), "{killed}");
            assert!(!folder.join("files.whole").exists());
            ends.push(is_new);
        }
        assert!(ends.is_sorted() && ends.first() == Some(&false) && ends.last() == Some(&true), "{ends:?}");
        fs::remove_dir_all(root).unwrap();
    }
}
