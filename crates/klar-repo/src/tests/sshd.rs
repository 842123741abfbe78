//! A real sshd, as this user, at a port of its own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::sftp::keeps_its_promises;
use super::*;

const SSHD: &str = "/usr/sbin/sshd";

/// It ends with it.
struct Sshd {
    child: Child,
    scratch: Scratch,
    user: String,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path, comment: &str) {
    let _ = std::fs::remove_file(path);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    assert!(command.status().unwrap().success());
}

impl Sshd {
    /// `None`, said: there is no sshd here. `cargo xtask test` installs one.
    fn new(name: &str) -> Option<Sshd> {
        if !Path::new(SSHD).is_file() {
            println!("skipped: openssh-server is not installed");
            return None;
        }
        let scratch = Scratch::new(name);
        let at = |name: &str| scratch.0.join(name);
        let root = nix::unistd::geteuid().is_root();
        if root {
            // Where it locks up what reads strangers' bytes; the package's service makes it.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        keygen(&at("host"), "host");
        keygen(&at("key"), "klar@shop.production-web1");
        std::fs::write(at("authorized"), "").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n\
             Subsystem sftp internal-sftp\n",
            at("host").display(),
            at("authorized").display()
        );
        std::fs::write(at("sshd_config"), text).unwrap();
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        let mut sshd = Sshd { child: Sshd::start(&scratch), scratch, user, port };
        sshd.wait();
        Some(sshd)
    }

    fn start(scratch: &Scratch) -> Child {
        let log = std::fs::File::create(scratch.0.join("log")).unwrap();
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(scratch.0.join("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("log")).unwrap_or_default()
    }

    /// Another machine answers at the same port.
    fn is_set_up_anew(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        keygen(&self.scratch.0.join("host"), "host");
        self.child = Sshd::start(&self.scratch);
        self.wait();
    }

    fn lets_in(&self, line: &str) {
        std::fs::write(self.scratch.0.join("authorized"), format!("{line}\n")).unwrap();
    }

    fn sftp(&self, host: &str) -> Arc<Sftp> {
        let at = |name: &str| self.scratch.0.join(name);
        let transport = Transport::ssh(&SshOptions {
            user: self.user.clone(),
            host: host.to_owned(),
            port: self.port,
            key: at("key"),
            known_hosts: at("known hosts 100%"),
            public: Some(std::fs::read_to_string(at("key.pub")).unwrap()),
            patience: Duration::from_secs(20),
        });
        Arc::new(Sftp::new(SftpOptions {
            place: format!("sftp://{}@{host}:{}//there", self.user, self.port),
            path: at("there").display().to_string(),
            transport: transport.unwrap(),
            patience: Duration::from_secs(30),
        }))
    }
}

/// What went wrong, and what to do about it.
fn told(storage: &Sftp) -> (String, String) {
    let error = storage.read(&Object::Config).unwrap_err();
    let hint = NotConnected::within(&error).and_then(NotConnected::hint).unwrap_or_default();
    (error.to_string(), hint.to_owned())
}

#[test]
fn a_machine_with_sshd_is_a_place() {
    let Some(mut sshd) = Sshd::new("sshd") else { return };
    let storage = sshd.sftp("127.0.0.1");
    // Nobody let it in: the hint has the very line that does, and nothing more than SFTP.
    let (error, hint) = told(&storage);
    let place = storage.place();
    assert!(error.starts_with(&format!("reading {place}/config: ")), "{error}");
    assert!(error.ends_with("Permission denied (publickey)."), "{error}");
    let (before, line) = hint.split_once('\n').unwrap();
    assert_eq!(before, format!("put this line into ~/.ssh/authorized_keys of {} on 127.0.0.1:", sshd.user));
    assert!(line.starts_with("restrict,command=\"internal-sftp\" ssh-ed25519 AAAA"), "{line}");
    assert!(line.ends_with(" klar@shop.production-web1"), "{line}");
    sshd.lets_in(line);
    keeps_its_promises(&*storage);
    // With that key there is nothing else to be had.
    let mut shell = Command::new("ssh");
    let at = |name: &str| sshd.scratch.0.join(name).display().to_string();
    shell.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o"]);
    shell.arg(format!("UserKnownHostsFile={}", at("others"))).args([
        "-i",
        &at("key"),
        "-p",
        &sshd.port.to_string(),
    ]);
    let output = shell
        .args([&format!("{}@127.0.0.1", sshd.user), "echo let in"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("let in"), "{output:?}");

    // Its key was written down, and another machine is not taken for it.
    let known = sshd.scratch.0.join("known hosts 100%");
    assert!(
        std::fs::read_to_string(&known)
            .unwrap()
            .starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", sshd.port))
    );
    sshd.is_set_up_anew();
    // What was open is closed, and the new connection is refused.
    let (error, hint) = told(&sshd.sftp("127.0.0.1"));
    assert!(
        error.ends_with("Host key verification failed: it shows another key than it did before"),
        "{error}"
    );
    assert!(hint.ends_with(&format!("remove line 1 of {}", known.display())), "{hint}");
    std::fs::remove_file(&known).unwrap();
    assert_eq!(storage.read(&Object::Extra("klar/a".into())).unwrap(), b"0123456789");

    // Nobody is there.
    let _ = sshd.child.kill();
    let _ = sshd.child.wait();
    let (error, hint) = told(&sshd.sftp("127.0.0.1"));
    assert!(error.ends_with("Connection refused"), "{error}");
    assert_eq!(hint, format!("does sshd run on 127.0.0.1, and does it listen at port {}?", sshd.port));
    let (error, hint) = told(&sshd.sftp("nowhere.invalid"));
    assert!(error.contains("Could not resolve hostname nowhere.invalid"), "{error}");
    assert!(hint.starts_with("is nowhere.invalid written as it should be"), "{hint}");
    // A key that is none.
    std::fs::write(sshd.scratch.0.join("key"), "-----BEGIN OPENSSH PRIVATE KEY-----\nbm9uZQ==\n").unwrap();
    sshd.child = Sshd::start(&sshd.scratch);
    sshd.wait();
    let (error, hint) = told(&sshd.sftp("127.0.0.1"));
    assert!(
        error.contains("Load key ") && hint.starts_with("the key is not a private key"),
        "{error}: {hint}"
    );
}

#[test]
fn restic_reads_over_ssh_what_klar_wrote_there() {
    let Some(sshd) = Sshd::new("sshd-restic") else { return };
    let at = |name: &str| sshd.scratch.0.join(name);
    let public = std::fs::read_to_string(at("key.pub")).unwrap();
    sshd.lets_in(&format!("restrict,command=\"internal-sftp\" {}", public.trim()));
    some_files(&at("source"), 21);
    let repository = Repository::create(sshd.sftp("127.0.0.1"), PASSWORD, "owner").unwrap();
    let stored = back_up(&repository, &at("source")).unwrap();
    let snapshot = repository.snapshot(stored.snapshot).unwrap();
    repository.reader().unwrap().restore(&snapshot, &at("restored")).unwrap();
    assert_eq!(all_of(&at("restored")), all_of(&at("source")));
    let place = format!("sftp://{}@127.0.0.1:{}/{}", sshd.user, sshd.port, at("there").display());
    let ssh = format!(
        "sftp.command=ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={} -i {} -p {} \
         {}@127.0.0.1 -s sftp",
        at("others").display(),
        at("key").display(),
        sshd.port,
        sshd.user
    );
    let all = ["-o", &ssh, "check", "--read-data"];
    let Some(_) = restic(Path::new(&place), &all) else { return };
    let target = at("by-restic");
    restic(Path::new(&place), &["-o", &ssh, "restore", "latest", "--target", target.to_str().unwrap()]);
    assert_eq!(all_of(&target), all_of(&at("source")));
}

/// How long it takes until what is appended is safe; said, and held against nothing.
#[test]
#[ignore = "measures"]
fn how_long_an_append_takes() {
    let Some(sshd) = Sshd::new("sshd-append") else { return };
    let public = std::fs::read_to_string(sshd.scratch.0.join("key.pub")).unwrap();
    sshd.lets_in(&format!("restrict,command=\"internal-sftp\" {}", public.trim()));
    let folder: Arc<dyn Storage> = Arc::new(Folder::new(&sshd.scratch.0.join("folder")));
    let storages: [(&str, Arc<dyn Storage>); 2] = [("folder", folder), ("sftp", sshd.sftp("127.0.0.1"))];
    for (name, storage) in storages {
        for length in [1 << 10, 8 << 10, 64 << 10, 1 << 20] {
            let mut growing = storage.grow(&Object::Extra(format!("klar/grown/{length}"))).unwrap();
            let bytes = vec![7; length];
            let mut times: Vec<Duration> = (0..200)
                .map(|_| {
                    let begun = Instant::now();
                    growing.append(&bytes).unwrap();
                    begun.elapsed()
                })
                .collect();
            times.sort();
            println!("{name} {length} bytes: median {:?}, p99 {:?}", times[100], times[198]);
        }
    }
}
