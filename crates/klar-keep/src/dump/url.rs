//! The address of a PostgreSQL elsewhere, taken apart into what PostgreSQL's programs read from their environment.
//!
//! The address itself goes nowhere: a command line is seen by everybody on the machine. What other libraries have put into it
//! (`?schema=public&connection_limit=5`) would make those programs refuse it, and is left out.

use std::fmt;

use klar_base::Secret;

/// Parameters of an address that PostgreSQL's programs take from a variable
/// (<https://www.postgresql.org/docs/15/libpq-envars.html>).
const PARAMETERS: [(&str, &str); 21] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("options", "PGOPTIONS"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslsni", "PGSSLSNI"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("requirepeer", "PGREQUIREPEER"),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];
/// No address is longer.
const LENGTH_MAX: usize = 8 << 10;

/// How to reach a server. Who prints it sees no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    variables: Vec<(&'static str, String)>,
}

/// It is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address is none of a PostgreSQL: {0}; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
pub struct NotAnAddress(&'static str);

impl Address {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; nothing of it is in what is said.
    pub fn parse(text: &Secret<String>) -> Result<Self, NotAnAddress> {
        let text = text.expose().trim();
        if text.len() > LENGTH_MAX || text.contains(['\0', '\n']) {
            return Err(NotAnAddress("it is too long, or of several lines"));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or(NotAnAddress("it does not begin with postgres://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) =
            rest.split_once('/').map_or((rest, ""), |(before, after)| (before, after));
        // A password may have an `@` in it that nobody has written as `%40`.
        let (who, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
                None => host.split_once(':').unwrap_or((host, "")),
            };
            let port = if port.is_empty() { "5432" } else { port };
            port.parse::<u16>().map_err(|_| NotAnAddress("its port is no number up to 65535"))?;
            names.push(plain(name)?);
            ports.push(port);
        }
        let mut address = Self { variables: Vec::new() };
        address.set("PGHOST", names.join(","));
        address.set("PGPORT", ports.join(","));
        address.set("PGUSER", plain(user)?);
        address.set("PGPASSWORD", plain(password)?);
        address.set("PGDATABASE", plain(database)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (plain(name)?, plain(value)?);
            // As other libraries write it.
            let (name, value) = match (&*name, &*value) {
                ("ssl", "true" | "1") => ("sslmode".to_owned(), "require".to_owned()),
                ("sslmode", "no-verify") => (name, "require".to_owned()),
                _ => (name, value),
            };
            if let Some((_, variable)) = PARAMETERS.iter().find(|(known, _)| *known == name) {
                address.set(variable, value);
            }
        }
        for (variable, what) in [("PGHOST", "it names no host"), ("PGUSER", "it names no user")] {
            address.get(variable).ok_or(NotAnAddress(what))?;
        }
        if address.get("PGDATABASE").is_none() {
            let user = address.get("PGUSER").unwrap_or_default().to_owned();
            address.set("PGDATABASE", user);
        }
        Ok(address)
    }

    /// A server that is known otherwise.
    #[must_use]
    pub fn of(variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut address = Self { variables: Vec::new() };
        for (name, value) in variables.into_iter().filter(|(name, _)| name.starts_with("PG")) {
            address.set(name, value);
        }
        address
    }

    fn set(&mut self, variable: &'static str, value: String) {
        if !value.is_empty() {
            self.variables.retain(|(name, _)| *name != variable);
            self.variables.push((variable, value));
        }
    }

    fn get(&self, variable: &str) -> Option<&str> {
        self.variables.iter().find(|(name, _)| *name == variable).map(|(_, value)| &**value)
    }

    /// What a program gets as its environment; it has the password in it.
    #[must_use]
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        self.get("PGDATABASE").unwrap_or("postgres")
    }

    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        self.get("PGUSER").unwrap_or("postgres")
    }

    /// What a program says, without the password.
    #[must_use]
    pub fn without_password(&self, said: &str) -> String {
        match self.get("PGPASSWORD").filter(|password| password.len() > 3) {
            Some(password) => said.replace(password, "***"),
            None => said.to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |name| self.get(name).unwrap_or_default();
        write!(f, "{}:{}", of("PGHOST"), of("PGPORT"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// With each `%41` as what it stands for.
fn plain(text: &str) -> Result<String, NotAnAddress> {
    let odd = NotAnAddress("a `%` in it is not followed by two hexadecimal digits of a letter");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|value| *value != 0);
        bytes.push(value.ok_or_else(|| odd.clone())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            (
                "postgres://shop:se%40cret@db.example.net/orders?sslmode=verify-full&sslrootcert=/etc/ca.pem",
                "PGHOST=db.example.net PGPORT=5432 PGUSER=shop PGPASSWORD=se@cret PGDATABASE=orders \
                 PGSSLMODE=verify-full PGSSLROOTCERT=/etc/ca.pem",
            ),
            ("postgresql://a@h:6543", "PGHOST=h PGPORT=6543 PGUSER=a PGDATABASE=a"),
            ("postgres://a:p@ss@[::1]:5/d", "PGHOST=::1 PGPORT=5 PGUSER=a PGPASSWORD=p@ss PGDATABASE=d"),
            (
                "postgres://a@h1:1,h2/d?target_session_attrs=read-write",
                "PGHOST=h1,h2 PGPORT=1,5432 PGUSER=a PGDATABASE=d PGTARGETSESSIONATTRS=read-write",
            ),
            (
                "postgres:///d?host=/var/run/postgresql&user=a&schema=public&connection_limit=1",
                "PGDATABASE=d PGHOST=/var/run/postgresql PGUSER=a",
            ),
            ("postgres://a@h/d?ssl=true", "PGHOST=h PGPORT=5432 PGUSER=a PGDATABASE=d PGSSLMODE=require"),
            (
                "postgres://a@h/d?sslmode=no-verify",
                "PGHOST=h PGPORT=5432 PGUSER=a PGDATABASE=d PGSSLMODE=require",
            ),
        ] {
            let address = Address::parse(&Secret::new(text.to_owned())).unwrap();
            let told = address.environment().iter().map(|(name, value)| format!("{name}={value}"));
            assert_eq!(told.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        for wrong in [
            "",
            "mysql://a:hunter22@h/d",
            "postgres://a:hunter22@h:99999/d",
            "postgres://a:hunter22@/d",
            "postgres://:hunter22@h/d",
            "postgres://a:hunter22%4@h/d",
            "postgres://a:hunter22%00@h/d",
        ] {
            let error = Address::parse(&Secret::new(wrong.to_owned())).unwrap_err();
            assert!(!error.to_string().contains("hunter22"), "{error}");
        }
        let address = Address::parse(&Secret::new("postgres://a:hunter22@h/d".into())).unwrap();
        assert_eq!(address.without_password("hunter22 is wrong"), "*** is wrong");
        assert_eq!(format!("{address:?}"), "Address(h:5432)");
    }
}
