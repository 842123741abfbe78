//! What every verb starts from: where klar's state is, which app is meant, who to ask.

use std::future::Future;
use std::path::{Path, PathBuf};

use klar_api::{Client, ClientError};
use klar_base::{AppKey, Hint};
use klar_config::{Config, ConfigErrors, FILE_NAME, Loaded};
use klar_run::layout::Layout;
use klar_run::report::Failure;

use crate::cli::{Color, Global};
use crate::out::Printer;

/// What a verb came to, when it is not what was hoped for.
#[derive(Debug)]
pub enum Trouble {
    /// Something did not work: exit status 1.
    Failed(Box<Failure>),
    /// It was asked for in a way that cannot be meant: exit status 2.
    Usage(Box<Failure>),
    /// `klar.toml` has mistakes: exit status 2.
    Config(ConfigErrors),
    /// All was said already: only the exit status is left.
    Verdict(u8),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        error.into_failure().into()
    }
}

impl From<ConfigErrors> for Trouble {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

impl Trouble {
    /// Something that the operating system refused.
    pub fn system(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Failure::new(format!("{what}: {error}")).into()
    }

    /// A question that cannot be meant.
    pub fn usage(failure: Failure) -> Self {
        Self::Usage(Box::new(failure))
    }

    /// Tells it, and says how to exit.
    pub fn tell(&self, printer: &Printer) -> u8 {
        match self {
            Self::Verdict(status) => *status,
            Self::Failed(failure) => {
                printer.failure(failure);
                1
            }
            Self::Usage(failure) => {
                printer.failure(failure);
                2
            }
            Self::Config(errors) => {
                if printer.json {
                    printer.value(&serde_json::json!({ "type": "invalid", "errors": errors.errors() }));
                } else {
                    printer.complaint(errors.render(true).trim_end());
                }
                2
            }
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Context {
    pub printer: Printer,
    pub layout: Layout,
    pub global: Global,
}

impl Context {
    /// From what was typed.
    pub fn new(global: Global) -> Self {
        match global.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        let layout = match &global.state {
            Some(folder) => Layout::new(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
            None => Layout::default_for_user(),
        };
        let printer = Printer { json: global.json, quiet: global.quiet };
        Self { printer, layout, global }
    }

    /// Who to ask.
    pub fn client(&self) -> Client {
        Client::new(&self.layout)
    }

    /// The folder of the app: the one that was named, or the nearest with a `klar.toml`, else the current one.
    pub fn folder(&self) -> PathBuf {
        if let Some(folder) = &self.global.app {
            return folder.clone();
        }
        let here = std::env::current_dir().unwrap_or_default();
        here.ancestors().find(|folder| folder.join(FILE_NAME).is_file()).unwrap_or(Path::new(".")).to_owned()
    }

    /// The app's `klar.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let folder = self.folder();
        let here = std::env::current_dir().unwrap_or_default();
        // Errors name the file as short as it can be named from here.
        let folder = folder.strip_prefix(&here).map_or(folder.clone(), |rest| Path::new(".").join(rest));
        Config::load(&folder, &self.global.env)
    }

    /// The app that is meant, for verbs that need no more of its `klar.toml` than the name: a file that is being
    /// edited must not stand in the way of a rollback.
    ///
    /// # Errors
    /// Everything that is wrong with its `klar.toml`, when not even the name can be read.
    pub fn key(&self) -> Result<AppKey, ConfigErrors> {
        self.load().map(|loaded| loaded.config.key()).or_else(|errors| {
            let text = std::fs::read_to_string(self.folder().join(FILE_NAME)).unwrap_or_default();
            let name = name_in(&text).and_then(|name| name.parse().ok());
            name.map(|app| AppKey { app, env: self.global.env.clone() }).ok_or(errors)
        })
    }
}

/// The name in a file that has mistakes elsewhere: `name = "shop"` below `[app]`, or `app.name = "shop"`.
fn name_in(text: &str) -> Option<&str> {
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            table = header.split(']').next().unwrap_or_default().trim();
        } else if let Some((key, value)) = line.split_once('=')
            && matches!((table, key.trim()), ("app", "name") | ("", "app.name"))
        {
            return value.split(['"', '\'']).nth(1);
        }
    }
    None
}

/// Waits for an answer of the core.
///
/// # Errors
/// When there is no runtime to wait with.
pub fn wait<T>(future: impl Future<Output = T>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(Trouble::system("starting"))?.block_on(future))
}

/// A failure from an error with a hint.
pub fn failure(error: &(impl std::fmt::Display + Hint)) -> Failure {
    Failure { hint: error.hint(), ..Failure::new(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_a_broken_file() {
        let table = [
            ("[app]\nname = \"shop\"\n[services.web\nrun = ", Some("shop")),
            ("app.name = 'shop' # ours\n[[[", Some("shop")),
            ("[services.web]\nname = \"web\"\n", None),
            ("", None),
        ];
        for (text, wanted) in table {
            assert_eq!(name_in(text), wanted, "{text}");
        }
    }
}
