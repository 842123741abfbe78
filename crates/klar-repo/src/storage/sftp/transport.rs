//! What brings us to a server of SFTP, and what it means when it does not.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::plain;

/// So many of the last lines of what `ssh` says are told.
const LINES: usize = 3;

/// A command whose standard input and output are SFTP.
#[derive(Debug, Clone)]
pub struct Transport {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    ssh: Option<SshOptions>,
}

/// Where to, who we are there, and what is known of that machine.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The user there.
    pub user: String,
    /// The machine: a name or an address, IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The file with the private key, which only this user may read.
    pub key: PathBuf,
    /// The file with the keys of machines that were seen; one that was not is added.
    pub known_hosts: PathBuf,
    /// The public key as `ssh-keygen` writes it, which people are told when the machine refuses it.
    pub public: Option<String>,
    /// For how long is waited for somebody to answer at all.
    pub patience: Duration,
}

/// There is no connection to a server of SFTP, or none any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NotConnected {
    what: String,
    hint: Option<String>,
}

impl NotConnected {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// It broke off before.
    pub(super) fn before() -> NotConnected {
        NotConnected { what: "it failed before".to_owned(), hint: None }
    }

    /// From an error that came of it, however far.
    #[must_use]
    pub fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a NotConnected> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
    }
}

/// What `ssh` cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be said to ssh: a path without quotes, `${{` and line breaks is needed", .0.display())]
pub struct NotAFile(PathBuf);

impl Transport {
    /// Any command.
    #[must_use]
    pub fn command<A: Into<OsString>>(program: &Path, args: impl IntoIterator<Item = A>) -> Transport {
        let args = args.into_iter().map(Into::into).collect();
        Transport { program: program.to_owned(), args, ssh: None }
    }

    /// The system's `ssh`, with nothing of what is set up for people: no configuration, no agent, no passwords, no
    /// forwarding.
    ///
    /// # Errors
    /// Paths that `ssh` would read as something else.
    pub fn ssh(options: &SshOptions) -> Result<Transport, NotAFile> {
        let mut args: Vec<OsString> = ["-F", "none", "-T", "-a", "-x"].map(Into::into).to_vec();
        let seconds = options.patience.as_secs().max(1);
        let known_hosts = file(&options.known_hosts)?;
        let (key, connect) = (file(&options.key)?, format!("ConnectTimeout={seconds}"));
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=accept-new",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "HashKnownHosts=no",
            "ClearAllForwardings=yes",
            "PermitLocalCommand=no",
            "ControlMaster=no",
            "ControlPath=none",
            "EscapeChar=none",
            "LogLevel=ERROR",
            // A machine that is gone is noticed although nobody asks it.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=3",
            &connect,
            &format!("UserKnownHostsFile={known_hosts}"),
            &format!("IdentityFile={key}"),
        ] {
            args.extend(["-o", option].map(Into::into));
        }
        args.extend(
            ["-p", &options.port.to_string(), "-l", &options.user, "-s", "--", &options.host, "sftp"]
                .map(Into::into),
        );
        Ok(Transport { program: "ssh".into(), args, ssh: Some(options.clone()) })
    }

    pub(super) fn not_started(&self, error: &io::Error) -> NotConnected {
        let program = self.program.display();
        let what = format!("{program} could not be started: {error}");
        let hint = "install it (package openssh-client)".to_owned();
        NotConnected { what, hint: (error.kind() == io::ErrorKind::NotFound).then_some(hint) }
    }

    /// Why there is none, from what the command has said.
    pub(super) fn reason(&self, seen: &str, said: &str) -> NotConnected {
        let lines: Vec<String> = said.lines().map(|line| plain(line.trim().as_bytes())).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !is_ornament(line)).collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
        let what = if last.is_empty() { seen.to_owned() } else { format!("{seen}: {last}") };
        let known = self.ssh.as_ref().and_then(|ssh| ssh.known(&lines));
        match known {
            Some((what, hint)) => NotConnected { what, hint: Some(hint) },
            None => NotConnected { what, hint: None },
        }
    }
}

impl SshOptions {
    /// What a person has to know, for what happens to everybody once: what it is, and what to do.
    fn known(&self, lines: &[&str]) -> Option<(String, String)> {
        let Self { user, host, port, .. } = self;
        let line =
            |words: &str| lines.iter().rev().find(|line| line.contains(words)).map(|line| (*line).to_owned());
        if let Some(line) =
            line("REMOTE HOST IDENTIFICATION HAS CHANGED").or_else(|| line("Host key verification failed"))
        {
            // `Offending ED25519 key in /path/known_hosts:3`.
            let which = lines.iter().find_map(|line| line.strip_prefix("Offending ")?.split_once(" key in "));
            let Some((_, (path, number))) = which.and_then(|(kind, at)| Some((kind, at.rsplit_once(':')?)))
            else {
                return Some((line, format!("look at {}", self.known_hosts.display())));
            };
            return Some((
                "Host key verification failed: it shows another key than it did before".to_owned(),
                format!(
                    "either the machine was set up anew, or something else answers in its place. Compare what \
                     `ssh-keyscan -p {port} {host} | ssh-keygen -lf -` says here with what `ssh-keygen -lf` says of \
                     /etc/ssh/ssh_host_*_key.pub there; only if they are the same, remove line {number} of {path}"
                ),
            ));
        }
        if let Some(line) = line("Load key ") {
            let hint = "the key is not a private key in OpenSSH's form, or has a passphrase: make one with \
                        `ssh-keygen -t ed25519 -N ''`";
            return Some((line, hint.to_owned()));
        }
        if let Some(line) = line("Permission denied (") {
            let hint = match &self.public {
                Some(public) => format!(
                    "put this line into ~/.ssh/authorized_keys of {user} on {host}:\n{}",
                    authorized(public)
                ),
                None => {
                    format!("is the public half of that key in ~/.ssh/authorized_keys of {user} on {host}?")
                }
            };
            return Some((line, hint));
        }
        let hint = if line("Connection refused").is_some() {
            format!("does sshd run on {host}, and does it listen at port {port}?")
        } else if line("Could not resolve hostname").is_some() {
            format!("is {host} written as it should be, and does this machine find names (DNS)?")
        } else if line("timed out").is_some() || line("No route to host").is_some() {
            format!("is {host} on, and does its firewall let this machine in at port {port}?")
        } else if line("subsystem request failed").is_some() {
            format!("sshd on {host} has no SFTP: `Subsystem sftp internal-sftp` in its sshd_config")
        } else {
            return None;
        };
        let last = lines.last().copied().unwrap_or_default();
        Some((last.to_owned(), hint))
    }
}

/// The line by which a machine lets somebody in for SFTP alone.
fn authorized(public: &str) -> String {
    format!("restrict,command=\"internal-sftp\" {}", public.trim())
}

/// The frame around a warning of `ssh`.
fn is_ornament(line: &str) -> bool {
    line.chars().all(|c| c == '@' || c == ' ')
}

/// A path as `ssh` reads it in an option: in quotes, and nothing in it stands for something else.
fn file(path: &Path) -> Result<String, NotAFile> {
    let wrong = || NotAFile(path.to_owned());
    let text = path.to_str().ok_or_else(wrong)?;
    if !path.is_absolute() || text.contains("${") || text.contains(['"', '\\', '\n', '\r']) {
        return Err(wrong());
    }
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SshOptions {
        SshOptions {
            user: "backup".into(),
            host: "nas".into(),
            port: 22,
            key: "/k/id_ed25519".into(),
            known_hosts: "/k/known hosts".into(),
            public: Some("ssh-ed25519 AAAA klar@shop.production-web1\n".into()),
            patience: Duration::from_secs(10),
        }
    }

    #[test]
    fn nothing_that_is_named_becomes_an_option() {
        let transport = Transport::ssh(&options()).unwrap();
        let args: Vec<&str> = transport.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert!(args.ends_with(&["-p", "22", "-l", "backup", "-s", "--", "nas", "sftp"]), "{args:?}");
        assert!(args.contains(&"UserKnownHostsFile=\"/k/known hosts\""), "{args:?}");
        for (path, expected) in [
            ("/a/100%h", Some("\"/a/100%%h\"")),
            ("/a b/c", Some("\"/a b/c\"")),
            ("/a\"b", None),
            ("/${HOME}/b", None),
            ("~/b", None),
            ("/a\nb", None),
        ] {
            assert_eq!(file(Path::new(path)).ok().as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_ssh_says_is_explained() {
        let transport = Transport::ssh(&options()).unwrap();
        for (said, what, hint) in [
            (
                "backup@nas: Permission denied (publickey).\r\n",
                "backup@nas: Permission denied (publickey).",
                "put this line into ~/.ssh/authorized_keys of backup on nas:\n\
                 restrict,command=\"internal-sftp\" ssh-ed25519 AAAA klar@shop.production-web1",
            ),
            (
                "ssh: connect to host nas port 22: Connection refused\r\n",
                "ssh: connect to host nas port 22: Connection refused",
                "does sshd run on nas, and does it listen at port 22?",
            ),
            (
                "ssh: Could not resolve hostname nas: Name or service not known",
                "ssh: Could not resolve hostname nas: Name or service not known",
                "is nas written as it should be, and does this machine find names (DNS)?",
            ),
            (
                "Load key \"/k/id\": error in libcrypto\nbackup@nas: Permission denied (publickey).",
                "Load key \"/k/id\": error in libcrypto",
                "the key is not a private key",
            ),
            ("something\nelse\n", "closed: something; else", ""),
            ("", "closed", ""),
        ] {
            let error = transport.reason("closed", said);
            assert_eq!(error.to_string(), what);
            assert!(error.hint().unwrap_or_default().starts_with(hint), "{error:?}");
            assert_eq!(error.hint().is_some(), !hint.is_empty());
        }
        let changed = "@@@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@@\r\n\
                       Someone could be eavesdropping on you right now!\r\n\
                       Offending ED25519 key in /k/known hosts:3\r\nHost key verification failed.\r\n";
        let error = transport.reason("closed", changed);
        assert_eq!(
            error.to_string(),
            "Host key verification failed: it shows another key than it did before"
        );
        assert!(error.hint().unwrap().ends_with("remove line 3 of /k/known hosts"), "{error:?}");
    }

    #[test]
    fn it_is_found_in_what_came_of_it() {
        let inner = NotConnected { what: "closed".into(), hint: Some("look".into()) };
        let source = io::Error::other(inner.clone());
        let error = crate::StorageError::Io { doing: "reading", what: "x".into(), source };
        let outer = crate::OpenError::Storage(error);
        assert_eq!(NotConnected::within(&outer), Some(&inner));
        assert_eq!(NotConnected::within(&io::Error::other("x")), None);
    }
}
