//! Names. Everything that klar keeps is keyed by [`AppKey`], so that staging never meets production.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name that klar accepts, in bytes: it becomes part of host names, user names and socket paths.
pub const NAME_MAX: usize = 32;

/// A name that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than [`NAME_MAX`].
    #[error("`{0}` is longer than {NAME_MAX} characters")]
    TooLong(String),
    /// Something else than a-z, 0-9 and inner hyphens.
    #[error("`{0}` may only use a-z, 0-9 and `-`, and must start with a letter and not end with `-`")]
    Charset(String),
}

fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong(name.into()));
    }
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !inner || !name.as_bytes()[0].is_ascii_lowercase() || name.ends_with('-') {
        return Err(NameError::Charset(name.into()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `name`: a lower-case DNS label of at most [`NAME_MAX`] bytes that starts with a letter.
            ///
            /// # Errors
            /// [`NameError`] says which rule was broken.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name(&name)?;
                Ok(Self(name))
            }

            /// The bare name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of an app: what one `klar.toml` describes.
    AppName
);
name!(
    /// The name of an environment of an app, for instance `prod` or `staging`.
    EnvName
);
name!(
    /// The name of a service or of a data store within an app.
    ServiceName
);

impl EnvName {
    /// The environment that is meant when none is named.
    pub const DEFAULT: &'static str = "prod";

    /// Whether this is the environment that is meant when none is named.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl Default for EnvName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

/// One app in one environment: the key of every folder, user, cgroup, socket and record.
///
/// Written `app.env`, for instance `lisens.prod`. Names hold no dot, so the text is unambiguous.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppKey {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub env: EnvName,
}

impl AppKey {
    /// Pairs an app with an environment.
    pub fn new(app: AppName, env: EnvName) -> Self {
        Self { app, env }
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.app, self.env))
    }
}

impl FromStr for AppKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, env) = text.split_once('.').unwrap_or((text, EnvName::DEFAULT));
        Ok(Self { app: app.parse()?, env: env.parse()? })
    }
}

impl TryFrom<String> for AppKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<AppKey> for String {
    fn from(key: AppKey) -> String {
        key.to_string()
    }
}

/// One running process of one service (or of one managed store): `lisens.prod.api.7`.
///
/// The number grows for as long as the app exists and is never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    /// The app and environment it belongs to.
    pub key: AppKey,
    /// The service, or the store.
    pub service: ServiceName,
    /// Which one.
    pub number: u64,
}

impl InstanceId {
    /// The name within its app: `api.7`.
    pub fn short(&self) -> String {
        format!("{}.{}", self.service, self.number)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.key, self.service, self.number)
    }
}

impl FromStr for InstanceId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('.').collect();
        let [app, env, service, number] = parts[..] else { return Err(NameError::Charset(text.into())) };
        let number = number.parse().map_err(|_| NameError::Charset(text.into()))?;
        let key = AppKey { app: app.parse()?, env: env.parse()? };
        Ok(Self { key, service: service.parse()?, number })
    }
}

impl TryFrom<String> for InstanceId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

/// The name of a release: the first twelve hexadecimal digits of the SHA-256 of its files and settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

impl ReleaseId {
    /// How many hexadecimal digits a release is named by.
    pub const LENGTH: usize = 12;

    /// Names a release after the digest of its content.
    pub fn from_digest(digest: &[u8]) -> Self {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(hex.chars().take(Self::LENGTH).collect())
    }

    /// The bare digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits: enough for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl FromStr for ReleaseId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() != Self::LENGTH || !hex {
            return Err(NameError::Charset(text.into()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> String {
        id.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, ok) in [
            ("lisens", true),
            ("a", true),
            ("a-1", true),
            ("", false),
            ("1a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
            ("a/b", false),
            ("abcdefghijklmnopqrstuvwxyzabcdef", true),
            ("abcdefghijklmnopqrstuvwxyzabcdefg", false),
        ] {
            assert_eq!(AppName::new(name).is_ok(), ok, "{name:?}");
        }
    }

    #[test]
    fn instance_ids_survive_a_round_trip() {
        let id: InstanceId = "lisens.staging.api.7".parse().unwrap();
        assert_eq!(id.to_string(), "lisens.staging.api.7");
        assert_eq!(id.short(), "api.7");
        assert!("lisens.api.7".parse::<InstanceId>().is_err());
        assert!("lisens.prod.api.x".parse::<InstanceId>().is_err());
    }

    #[test]
    fn a_key_without_environment_means_the_default_one() {
        let key: AppKey = "lisens".parse().unwrap();
        assert_eq!(key.to_string(), "lisens.prod");
    }
}
