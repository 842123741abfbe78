//! An error says what happened; its hint says what to try.

/// Implemented by errors that know a way out.
///
/// The command line prints the hint on a line of its own below the error, so it reads as an instruction:
/// "run `klar deploy`", not "you could perhaps run ...".
pub trait Hint {
    /// Returns the next thing to try, or `None` when the message already says it all.
    fn hint(&self) -> Option<String>;
}
