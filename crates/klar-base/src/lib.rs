//! The words that two or more crates speak.
//!
//! What passes between the verbs is a value defined here: [`upstreams`] (run tells the edge where requests may
//! go, the edge tells run what it saw) and [`signal`] (what happened, one record per request, which pass as [`lines`]); [`look`] is what the
//! edge says of itself when somebody asks, [`replay`] of a request
//! that it stopped, and [`shadow`] of those that stricter rules would stop; [`see`] is what telemetry is told, [`keep`] what
//! keepers of data are told and asked, and [`place`] where they put a second copy. The rest are the small nouns that keep those honest: names, sizes,
//! durations, secrets and hints.
//!
//! **Invariant:** nothing here does I/O except [`wire`], which moves one message over a socket somebody else opened, and
//! [`datagrams`], which tells the kernel for whom datagrams are.

pub mod anonymise;
pub mod datagrams;
pub mod hint;
pub mod ids;
pub mod images;
pub mod keep;
pub mod lines;
pub mod look;
pub mod network;
pub mod place;
pub mod quantity;
pub mod replay;
pub mod secret;
pub mod see;
pub mod shadow;
pub mod signal;
pub mod upstreams;
pub mod wire;

pub use hint::Hint;
pub use ids::{AppKey, AppName, EnvName, InstanceId, NameError, ReleaseId, ServiceName};
pub use network::{Network, NetworkError};
pub use quantity::{ByteSize, Period, QuantityError};
pub use secret::Secret;
