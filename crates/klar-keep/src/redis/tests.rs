//! What a Redis may answer, said by a thread that is none.

use std::io::{Read, Write};
use std::net::TcpListener;

use klar_base::Secret;

use super::*;

/// Answers each command with `+OK` but for `INFO` and `SYNC`, whose answer it is given, and then hangs up.
fn stranger(auth: &'static str, sync: Vec<u8>) -> KeptRedis {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        let mut some = [0; 4096];
        loop {
            let Ok(count @ 1..) = stream.read(&mut some) else { return };
            read.extend_from_slice(&some[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let answer: Vec<u8> = if text.contains("AUTH") {
                auth.into()
            } else if text.contains("INFO") {
                b"$17\r\nused_memory:1000\n\r\n".to_vec()
            } else if text.contains("rdb-only") {
                b"-ERR Unrecognized REPLCONF option: rdb-only\r\n".to_vec()
            } else if text.contains("SYNC") {
                let _ = stream.write_all(&sync);
                if sync == b"\n" {
                    std::thread::sleep(Duration::from_secs(60));
                }
                return;
            } else {
                b"+OK\r\n".to_vec()
            };
            read.clear();
            let _ = stream.write_all(&answer);
        }
    });
    KeptRedis {
        name: "cache".parse().unwrap(),
        port,
        password: Secret::new("secret".into()),
        program: "/usr/bin/redis-server".into(),
        memory: 65 << 20,
        days: 7,
    }
}

fn fetched(auth: &'static str, sync: Vec<u8>) -> Result<Vec<u8>, String> {
    let folder = Folder(std::env::temp_dir().join(format!("klar-fetch-{:016x}", fastrand::u64(..))));
    fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join(SNAPSHOT);
    let source = Source::new(stranger(auth, sync));
    source.fetch(&path, &|| false).map_err(|error| error.to_string())?;
    Ok(fs::read(&path).unwrap())
}

#[test]
fn a_snapshot_is_taken_to_its_end_and_no_further() {
    let mark = "0123456789012345678901234567890123456789";
    let content: Vec<u8> = (0..700_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let sent = |head: &str, content: &[u8], tail: &str| [head.as_bytes(), content, tail.as_bytes()].concat();
    for length in [0, 1, 39, 40, 41, 262_143, 262_144, 262_145, 700_000] {
        let content = &content[..length];
        let counted = sent(&format!("\n\n${length}\r\n"), content, "*1\r\n$4\r\nPING\r\n");
        assert_eq!(fetched("+OK\r\n", counted).unwrap(), content, "{length}");
        let marked = sent(&format!("\n$EOF:{mark}\r\n"), content, mark);
        assert_eq!(fetched("+OK\r\n", marked).unwrap(), content, "{length}");
    }
    // The mark may be half of it by chance.
    let tricky = sent(&format!("$EOF:{mark}\r\n"), b"x0123456789", mark);
    assert_eq!(fetched("+OK\r\n", tricky).unwrap(), b"x0123456789");
}

#[test]
fn a_process_that_ends_waits_for_no_snapshot() {
    let folder = Folder(std::env::temp_dir().join(format!("klar-fetch-{:016x}", fastrand::u64(..))));
    fs::create_dir_all(&folder.0).unwrap();
    let source = Source::new(stranger("+OK\r\n", b"\n".to_vec()));
    let begun = Instant::now();
    let fetched = source.fetch(&folder.0.join(SNAPSHOT), &|| begun.elapsed() > Duration::from_secs(1));
    assert!(matches!(fetched, Err(RedisError::Over)), "{fetched:?}");
}

#[test]
fn what_is_no_whole_snapshot_is_refused() {
    let mark = "0123456789012345678901234567890123456789";
    for (auth, sync, expected) in [
        (
            "-WRONGPASS invalid username-password pair\r\n",
            String::new(),
            "does not take klar's password: WRONGPASS",
        ),
        ("-LOADING Redis is loading the dataset in memory\r\n", String::new(), "refuses AUTH: LOADING"),
        ("HTTP/1.1 400 Bad Request\r\n", String::new(), "that is no answer of a Redis"),
        ("+OK\r\n", String::new(), "`cache` at 127.0.0.1:"),
        ("+OK\r\n", "-NOMASTERLINK no\r\n".into(), "refuses SYNC: NOMASTERLINK no"),
        ("+OK\r\n", "$ten\r\n".into(), "said `$ten`"),
        ("+OK\r\n", "$EOF:short\r\nshort".into(), "said `$EOF:short`"),
        ("+OK\r\n", "$100\r\nREDIS".into(), "end of file"),
        ("+OK\r\n", format!("$EOF:{mark}\r\nREDIS{}", &mark[..39]), "end of file"),
        (
            "+OK\r\n",
            format!("$EOF:{mark}\r\n{}", "x".repeat(66 << 20)),
            "bytes of memory, and may have 68157440",
        ),
        ("+OK\r\n", "x".repeat(5000), "that is no answer of a Redis"),
    ] {
        let said = fetched(auth, sync.clone().into_bytes()).unwrap_err();
        assert!(said.contains(expected), "{auth} {:.60}: {said}", sync);
    }
}
