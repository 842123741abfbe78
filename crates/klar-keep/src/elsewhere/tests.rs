//! Which places there are, and another machine with a real sshd.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Instant;

use klar_base::Secret;
use klar_base::hint::Hint;
use klar_base::keep::Elsewhere;
use klar_repo::{Object, Repository};

use super::*;

#[test]
fn what_is_lost_together() {
    let here = std::env::temp_dir();
    let place = here.join("not/there/yet");
    assert_eq!(together(&place.display().to_string(), &here).as_deref(), Some("it is on the same disk"));
    assert_eq!(together("/proc", &here), None);
    assert_eq!(together("s3:http://127.0.0.1:9000/b", &here).as_deref(), Some("it is on this machine"));
    assert_eq!(together("s3:http://localhost/b", &here).as_deref(), Some("it is on this machine"));
    assert_eq!(together("s3://b", &here), None);
    for (host, is_here) in [
        ("localhost", true),
        ("LOCALHOST.", true),
        ("127.1.2.3", true),
        ("[::1]", true),
        ("[::ffff:127.0.0.1]", true),
        ("0.0.0.0", true),
        ("nas", false),
        ("127.example.net", false),
        ("[2001:db8::1]", false),
    ] {
        let found = together(&format!("sftp://backup@{host}/srv"), &here);
        assert_eq!(found.as_deref(), is_here.then_some("it is on this machine"), "{host}");
    }
}

#[test]
fn a_bucket_needs_a_key() {
    let second = SecondPlace { place: "s3://b".into(), key: None };
    let error = storage(&second, "shop.production/db", Path::new("/not/there")).err().unwrap();
    assert_eq!(error.to_string(), "there is no key for s3://b");
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("klar-elsewhere-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn over(place: &str, key: Option<&str>) -> SecondPlace {
    SecondPlace { place: place.to_owned(), key: key.map(|key| Secret::new(key.to_owned())) }
}

#[test]
fn keys_are_made_once_and_kept_from_others() {
    let scratch = Scratch::new("keys");
    let home = scratch.0.join("shop.production/db");
    let keys = keys(&home);
    assert_eq!(keys, scratch.0.join("shop.production/ssh"));
    let place = "sftp://backup@nas/srv/klar";
    for given in ["", "ID:SECRET", "ssh-ed25519 AAAA public"] {
        let error = storage(&over(place, Some(given)), "db", &keys).err().unwrap();
        assert_eq!(error.to_string(), "the key for the second place is not a private key in OpenSSH's form");
        assert!(!error.to_string().contains("SECRET") && !error.hint().unwrap().contains("SECRET"));
    }
    let text = "-----BEGIN OPENSSH PRIVATE KEY-----\nQUFB\n-----END OPENSSH PRIVATE KEY-----";
    for _ in 0..2 {
        storage(&over(place, Some(text)), "db", &keys).unwrap();
    }
    if !Path::new("/usr/bin/ssh-keygen").is_file() {
        println!("skipped: openssh-client is not installed");
        return;
    }
    let mut made = Vec::new();
    for _ in 0..2 {
        let storage = storage(&over(place, None), "shop.production/db", &keys).unwrap();
        assert_eq!(storage.place(), "sftp://backup@nas:22//srv/klar/shop.production/db");
        made.push(fs::read_to_string(keys.join("id_ed25519.pub")).unwrap());
    }
    assert_eq!(made[0], made[1]);
    let comment = made[0].trim().rsplit(' ').next().unwrap();
    assert!(comment.starts_with("klar@shop.production-"), "{comment}");
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&keys).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".pub") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        names.push(name.split('-').next().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["given", "id_ed25519", "id_ed25519.pub"]);
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
    // Half of it is none.
    fs::remove_file(keys.join("id_ed25519")).unwrap();
    storage(&over(place, None), "db", &keys).unwrap();
    assert_ne!(fs::read_to_string(keys.join("id_ed25519.pub")).unwrap(), made[0]);
}

struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that lets in whom `authorized` in the folder names, with SFTP as Debian sets it up; `None`, said: there is no sshd here.
fn sshd(folder: &Path) -> Option<(Sshd, String)> {
    const SSHD: &str = "/usr/sbin/sshd";
    if !Path::new(SSHD).is_file() {
        println!("skipped: openssh-server is not installed");
        return None;
    }
    if nix::unistd::geteuid().is_root() {
        // Where it locks up what reads strangers' bytes; the package's service makes it.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let mut keygen = Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join("host")).status();
    assert!(made.unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PermitRootLogin yes\nPidFile none\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
        folder.join("host").display(),
        folder.join("authorized").display()
    );
    fs::write(folder.join("sshd_config"), text).unwrap();
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    let sshd = Sshd(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    Some((sshd, format!("sftp://{user}@127.0.0.1:{port}{}", folder.join("there").display())))
}

/// What a person does who reads no more than hints: one machine keeps there, and another one restores from there.
#[test]
fn another_machine_keeps_it_and_gives_it_back() {
    let scratch = Scratch::new("sshd");
    let Some((_sshd, place)) = sshd(&scratch.0) else { return };
    let (first, second) = (scratch.0.join("first/shop.prod/db"), scratch.0.join("second/shop.prod/db"));
    let (name, password) = ("shop.prod/db", "a password of tests");
    let lets_in = |hint: Option<String>| {
        let hint = hint.unwrap();
        let (before, line) = hint.split_once('\n').unwrap();
        assert!(before.starts_with("put this line into ~/.ssh/authorized_keys of "), "{before}");
        assert!(line.starts_with("restrict,command=\"internal-sftp\" ssh-ed25519 "), "{line}");
        let mut file =
            fs::OpenOptions::new().append(true).create(true).open(scratch.0.join("authorized")).unwrap();
        writeln!(file, "{line}").unwrap();
    };
    let there = storage(&over(&place, None), name, &keys(&first)).unwrap();
    let refused = Repository::create(there.clone(), password, "klar").unwrap_err();
    assert!(
        refused.to_string().ends_with("Permission denied (publickey,password,keyboard-interactive)."),
        "{refused}"
    );
    lets_in(KeepError::Open(refused).hint());
    let repository = Repository::create(there.clone(), password, "klar").unwrap();

    // Another machine, with a key of its own, and with that of the first one.
    let from =
        |key: Option<&str>| Elsewhere { at: over(&place, key), password: Secret::new(password.to_owned()) };
    let open = |key: Option<&str>| crate::keeper::adopt::Other::open(&from(key), name, &second);
    let refused = open(None).err().unwrap();
    assert!(refused.to_string().contains("Permission denied"), "{refused}");
    let given = fs::read_to_string(keys(&first).join("id_ed25519")).unwrap();
    assert_eq!(open(Some(&given)).unwrap().repository.id(), repository.id());
    lets_in(refused.hint());
    assert_eq!(open(None).unwrap().repository.id(), repository.id());
    // A key that was given and is refused: whose half has to be there is not known here.
    fs::write(scratch.0.join("authorized"), "").unwrap();
    let refused = open(Some(&given)).err().unwrap();
    assert!(refused.hint().unwrap().starts_with("is the public half of that key in"), "{:?}", refused.hint());
    // What is open goes on.
    assert!(there.read(&Object::Config).is_ok());
}
