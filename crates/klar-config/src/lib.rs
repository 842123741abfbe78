//! `klar.toml`: type, default, doc, check and source position of every key, in one place.
//!
//! One file describes an app. This crate reads it ([`Config::load`]), says everything that is wrong with it at
//! once ([`ConfigErrors`]), explains every key ([`explain()`]), and writes the first version of the file for an app
//! that has none ([`init`]).
//!
//! Where to look: `keys.rs` declares every key and is the file to edit; `table.rs` is the machinery that turns a
//! declaration into a struct, a validator, docs and a schema; `values.rs` knows how each type is read; `load.rs`
//! checks what keys say about each other and decides what the file leaves open.
//!
//! **Invariant:** a default is written down once, as the TOML that would set it, and read by the same code as
//! the file.
//! **Invariant:** no secret is ever held here. Values that look like one are refused and never quoted.
//! **Invariant:** nothing here opens a socket, starts a process or writes a file.

mod check;
mod decide;
mod environment;
mod explain;
mod fault;
pub mod init;
pub mod keys;
mod load;
mod provenance;
mod read;
mod reference;
mod root;
mod route;
mod schema;
mod secret;
mod source;
mod sqlite;
mod suggest;
mod syntax;
pub mod table;
mod tree;
mod values;

pub use explain::{Explanation, InForce, UnknownKey, explain, explain_all};
pub use fault::{ConfigError, ConfigErrors};
pub use keys::{
    Account, App, Backup, Check, Deploy, Edge, Instances, Logs, OwnCheck, Recovery, RoutePolicy, See,
    Service, WafException, Waiver,
};
pub use load::{Config, Engine, FILE_NAME, FILE_SIZE_MAX, Loaded, Note, Store, TEMPLATE};
pub use provenance::{Origin, Provenance, Setting};
pub use read::join as key_path;
pub use reference::reference_markdown;
pub use route::{Pattern, PatternError, Route};
pub use schema::json_schema;
pub use secret::{SecretRef, SecretRefError};
pub use values::{
    Acme, CheckCategory, CheckPriority, Clock, Command, Cores, Csp, Day, Email, EnvValue, ForwardedHeader,
    HostName, Place, PlainHttp, PlainText, RelativePath, Role, RouteCache, Schedule, Script, ServiceKind,
    ServiceProtocol, ServiceWorker, UrlPath, VarName, Waf, WafPlace, WafRoute, WafRules, WorkerOff,
};
