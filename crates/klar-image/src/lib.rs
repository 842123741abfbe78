//! Images: read, scaled, written in formats of today, compared. And the process that does so with strangers' bytes.
//!
//! `look.rs` says what the bytes are before any decoder sees them, `read.rs` makes pixels of them (upright, in sRGB, with
//! eight bits for each channel, without anything that is no pixel), `write.rs` scales and writes, `compare.rs` says how
//! alike two images look. `worker.rs` is the process, `sandbox.rs` what it gives up.
//!
//! What cannot be converted without a doubt is [`Left`] as it is: animations, CMYK, colour profiles that are not
//! understood, and what is broken.
//!
//! **Invariant:** no file is opened, no socket made and no clock read here but by [`worker`].
//! **Invariant:** the edge never calls [`convert`]. It does not even know this crate.

mod compare;
mod look;
mod read;
mod sandbox;
pub mod worker;
mod write;

use klar_base::images::{Format, Order};
use thiserror::Error;

pub use compare::similarity;
pub use read::{Picture, read};

/// What [`convert`] can write: a set of [`Format::bit`].
pub fn formats() -> u8 {
    let avif = if cfg!(feature = "avif") { Format::Avif.bit() } else { 0 };
    Format::Jpeg.bit() | Format::Png.bit() | Format::Webp.bit() | avif
}

/// Why an image is given as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Left {
    /// It says that it is of another format than it is, or of one that is not read.
    #[error("it is no image of its format")]
    Unknown,
    /// It moves.
    #[error("it is an animation")]
    Animated,
    /// It is meant for paper.
    #[error("its colours are for printing (CMYK)")]
    Cmyk,
    /// It has a colour profile, and what that says is not understood.
    #[error("its colour profile is not understood")]
    Profile,
    /// More pixels than [`klar_base::images::PIXELS_MAX`], or a side longer than [`klar_base::images::SIDE_MAX`].
    #[error("it has too many pixels")]
    Pixels,
    /// It breaks off, or makes no sense.
    #[error("it is damaged")]
    Damaged,
    /// Nothing can be written in the format that is wanted.
    #[error("the wanted format cannot be written")]
    Unwritable,
    /// The result has more bytes, and no fewer pixels.
    #[error("it is the smaller one already")]
    Smaller,
}

/// Makes the image that is ordered.
///
/// # Errors
/// Why the source is best given as it is.
pub fn convert(order: &Order<'_>) -> Result<Vec<u8>, Left> {
    if formats() & order.wanted.bit() == 0 {
        return Err(Left::Unwritable);
    }
    let picture = read(order.source, order.bytes)?;
    let scaled = match order.width {
        Some(width) if width < picture.width() => write::scale(&picture, width)?,
        // An image of the format that is wanted already would only get worse.
        _ if order.wanted == order.source => return Err(Left::Smaller),
        _ => picture,
    };
    let bytes = write::write(&scaled, order.wanted, order.source)?;
    if bytes.len() >= order.bytes.len() { Err(Left::Smaller) } else { Ok(bytes) }
}
