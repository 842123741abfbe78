//! How a process that holds a lock survives being asked whether it lives.
//!
//! `restic unlock` sends SIGHUP to the process that a lock names, when it is on the same machine: what gets it is alive.
//! It also ends every program that does not expect it.
#![allow(unsafe_code)]

use std::sync::Once;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn nothing(_: nix::libc::c_int) {}

/// From now on SIGHUP does nothing, where it would have ended the process. Programs that it starts are as before.
pub fn survive() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ours = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing, so it may interrupt anything; one that was there before is put back.
        unsafe {
            if let Ok(before) = sigaction(Signal::SIGHUP, &ours)
                && !matches!(before.handler(), SigHandler::SigDfl)
            {
                let _ = sigaction(Signal::SIGHUP, &before);
            }
        }
    });
}
