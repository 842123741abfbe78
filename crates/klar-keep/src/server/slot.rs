//! The slot: it makes the server keep its log until it was streamed.
//!
//! A base that is taken before the slot exists may need log that is gone by the time anybody streams it, and nobody
//! notices until it is restored. So a base takes a [`ReadySlot`], which only [`ReadySlot::ensure`] gives.

use klar_base::Hint;

use super::{Session, SessionError};
use crate::lsn::Lsn;

/// The name of klar's slot.
pub const SLOT: &str = "klar";
/// That of what is written ahead to the second place; by this name the server knows whom it waits for, too.
pub const AHEAD: &str = "klar_ahead";

/// What the server says of the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// What was received and flushed, as the receiver said it last: the log before it need not be kept.
    pub restart: Lsn,
    /// Whether somebody streams right now.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub status: String,
    /// Bytes that may still be written until the slot is lost; `None`: no limit.
    pub safe: Option<i64>,
}

/// A slot that holds the log back from `since` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadySlot {
    since: Lsn,
}

/// The slot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Of another kind.
    #[error("the slot `{0}` is not a physical one: somebody else made it")]
    Foreign(String),
    /// It is lost.
    #[error(
        "the slot `{slot}` was invalidated (`{status}`): the server removed log that was not streamed yet"
    )]
    Lost {
        /// Which.
        slot: String,
        /// As the server says it.
        status: String,
    },
}

impl Hint for SlotError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Session(_) => None,
            Self::Foreign(slot) => Some(format!("drop it: `select pg_drop_replication_slot('{slot}')`")),
            Self::Lost { .. } => Some(
                "klar makes a new one and takes a new base; times in between cannot be restored. Raise \
                 `max_slot_wal_keep_size`, or look why the log was not streamed"
                    .to_owned(),
            ),
        }
    }
}

const STATE: &str = "select slot_type, restart_lsn, active, coalesce(wal_status, ''), safe_wal_size
    from pg_replication_slots where slot_name = ";

impl SlotState {
    /// Asks for it; `None`: there is none.
    ///
    /// # Errors
    /// The server, or a slot that is not klar's.
    pub fn ask(session: &Session, slot: &str) -> Result<Option<Self>, SlotError> {
        let rows = session.rows(&format!("{STATE}'{slot}'"), super::session::PATIENCE)?;
        let Some(row) = rows.first() else { return Ok(None) };
        if row.get(0) != Some("physical") {
            return Err(SlotError::Foreign(slot.to_owned()));
        }
        let status = row.get(3).unwrap_or_default().to_owned();
        Ok(Some(Self {
            restart: row.get(1).and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
            active: row.get(2) == Some("t"),
            safe: row.get(4).and_then(|bytes| bytes.parse().ok()),
            status,
        }))
    }

    /// Whether it still holds the log back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.status == "lost" || self.restart == Lsn(0)
    }
}

impl ReadySlot {
    /// Finds the slot or makes it; from when this returns the server keeps what it writes.
    ///
    /// # Errors
    /// The server; [`SlotError::Lost`], after which [`ReadySlot::renew`] makes a new one.
    pub fn ensure(session: &Session, slot: &str) -> Result<Self, SlotError> {
        if let Some(state) = SlotState::ask(session, slot)? {
            return match state.is_lost() {
                true => Err(SlotError::Lost { slot: slot.to_owned(), status: state.status }),
                false => Ok(Self { since: state.restart }),
            };
        }
        // At once, not when somebody streams for the first time.
        let row = session.row(
            &format!("select lsn from pg_create_physical_replication_slot('{slot}', true)"),
            "place of the slot",
        )?;
        Ok(Self { since: session.column(&row, 0, "place of the slot")? })
    }

    /// Takes a slot that is lost away and makes a new one. What was not streamed before is missing for good.
    ///
    /// # Errors
    /// The server: also where somebody streams from it.
    pub fn renew(session: &Session, slot: &str) -> Result<Self, SlotError> {
        session.run(&format!("select pg_drop_replication_slot('{slot}')"))?;
        Self::ensure(session, slot)
    }

    /// From where on the log is kept.
    #[must_use]
    pub fn since(&self) -> Lsn {
        self.since
    }
}
