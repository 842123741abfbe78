//! What bytes are, by their first ones and the bare frame of their format: before any decoder sees them.

use klar_base::images::Format;

use crate::Left;

/// Makes sure that bytes are what they are said to be, and of a kind that is converted.
///
/// # Errors
/// Why not.
pub fn look(format: Format, bytes: &[u8]) -> Result<(), Left> {
    match format {
        Format::Jpeg => jpeg(bytes),
        Format::Png => png(bytes),
        Format::Gif => gif(bytes),
        Format::Webp => webp(bytes),
        Format::Avif => Err(Left::Unknown),
    }
}

/// The head of the frame says how many components there are (ITU-T T.81, section B.2.2).
fn jpeg(bytes: &[u8]) -> Result<(), Left> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8").ok_or(Left::Unknown)?;
    loop {
        let [0xff, marker, after @ ..] = rest else { return Err(Left::Damaged) };
        match marker {
            // Padding, and markers that stand alone.
            0xff => rest = rest.get(1..).unwrap_or_default(),
            0x01 | 0xd0..=0xd8 => rest = after,
            _ => {
                let length =
                    after.first_chunk().map(|length| u16::from_be_bytes(*length)).ok_or(Left::Damaged)?;
                let segment = after.get(2..usize::from(length).max(2)).ok_or(Left::Damaged)?;
                let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                if is_frame {
                    return match segment.get(5) {
                        Some(1 | 3) => Ok(()),
                        Some(4) => Err(Left::Cmyk),
                        _ => Err(Left::Damaged),
                    };
                }
                rest = after.get(usize::from(length)..).ok_or(Left::Damaged)?;
            }
        }
    }
}

/// An animation says so before its first pixel (PNG, third edition, section 11.3.6.1).
fn png(bytes: &[u8]) -> Result<(), Left> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").ok_or(Left::Unknown)?;
    loop {
        let (length, name) = chunk(rest, u32::from_be_bytes).ok_or(Left::Damaged)?;
        match name {
            b"acTL" => return Err(Left::Animated),
            b"IDAT" => return Ok(()),
            // Length, name and checksum.
            _ => rest = rest.get(length.saturating_add(12)..).ok_or(Left::Damaged)?,
        }
    }
}

/// More than one image is an animation (GIF89a, section 20).
fn gif(bytes: &[u8]) -> Result<(), Left> {
    let is_gif = bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a");
    let flags = *bytes.get(10).filter(|_| is_gif).ok_or(Left::Unknown)?;
    let mut at = 13 + colours(flags);
    let mut images = 0;
    loop {
        match bytes.get(at) {
            Some(0x21) => at = blocks(bytes, at + 2)?,
            Some(0x2c) => {
                images += 1;
                if images > 1 {
                    return Err(Left::Animated);
                }
                let flags = *bytes.get(at + 9).ok_or(Left::Damaged)?;
                at = blocks(bytes, at + 11 + colours(flags))?;
            }
            Some(0x3b) if images == 1 => return Ok(()),
            _ => return Err(Left::Damaged),
        }
    }
}

/// The bytes of a table of colours.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Behind a row of blocks, each of which begins with its length.
fn blocks(bytes: &[u8], mut at: usize) -> Result<usize, Left> {
    loop {
        let length = usize::from(*bytes.get(at).ok_or(Left::Damaged)?);
        at += 1 + length;
        if length == 0 {
            return Ok(at);
        }
    }
}

/// The extended head has a flag for animations (RFC 9649, section 2.7).
fn webp(bytes: &[u8]) -> Result<(), Left> {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let rest = bytes.get(12..).filter(|_| is_webp).ok_or(Left::Unknown)?;
    match (rest.get(..4), rest.get(8)) {
        (Some(b"VP8X"), Some(flags)) if flags & 2 != 0 => Err(Left::Animated),
        (Some(b"VP8X" | b"VP8 " | b"VP8L"), Some(_)) => Ok(()),
        _ => Err(Left::Damaged),
    }
}

fn chunk(bytes: &[u8], number: fn([u8; 4]) -> u32) -> Option<(usize, &[u8; 4])> {
    let length = number(*bytes.first_chunk()?);
    Some((usize::try_from(length).ok()?, bytes.get(4..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_first_bytes() {
        use Format::{Avif, Gif, Jpeg, Png, Webp};
        let gif_of = |images: usize| {
            let image = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0".repeat(images);
            [&b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x21\xf9\x04\0\0\0\0\0"[..], &image, b"\x3b"]
                .concat()
        };
        let (one, two) = (gif_of(1), gif_of(2));
        for (format, bytes, wanted) in [
            (Jpeg, &b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x0b\x08\0\x01\0\x01\x03\0\0\0"[..], Ok(())),
            (Jpeg, b"\xff\xd8\xff\xff\xc2\0\x08\x08\0\x01\0\x01\x01", Ok(())),
            (Jpeg, b"\xff\xd8\xff\xc4\0\x08\x08\0\x01\0\x01\x04", Err(Left::Damaged)),
            (Jpeg, b"\xff\xd8\xff\xc1\0\x08\x08\0\x01\0\x01\x04", Err(Left::Cmyk)),
            (Jpeg, b"\xff\xd8\xff\xc0\0\x08\x08\0\x01\0\x01\x02", Err(Left::Damaged)),
            (Jpeg, b"\xff\xd8\xff\xe0\0\0\xff\xe0\0\0", Err(Left::Damaged)),
            (Jpeg, b"GIF89a", Err(Left::Unknown)),
            (Png, b"\x89PNG\r\n\x1a\n\0\0\0\x01tEXta1234\0\0\0\0IDAT", Ok(())),
            (Png, b"\x89PNG\r\n\x1a\n\0\0\0\0acTL1234", Err(Left::Animated)),
            (Png, b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt", Err(Left::Damaged)),
            (Png, b"\xff\xd8\xff\xe0", Err(Left::Unknown)),
            (Gif, &one, Ok(())),
            (Gif, &two, Err(Left::Animated)),
            (Gif, &one[..one.len() - 1], Err(Left::Damaged)),
            (Gif, b"GIF89a", Err(Left::Unknown)),
            (Webp, b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", Err(Left::Animated)),
            (Webp, b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10", Ok(())),
            (Webp, b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f", Ok(())),
            (Webp, b"RIFF\0\0\0\0WAVEfmt \x0a\0\0\0\x2f", Err(Left::Unknown)),
            (Webp, b"RIFF\0\0\0\0WEBPVP9 \x0a\0\0\0\x2f", Err(Left::Damaged)),
            (Avif, b"\0\0\0\x20ftypavif", Err(Left::Unknown)),
        ] {
            assert_eq!(look(format, bytes), wanted, "{format:?} {}", bytes.escape_ascii());
        }
    }

    proptest::proptest! {
        /// Whatever comes, it ends and says something.
        #[test]
        fn nothing_upsets_it(format in 0..5usize, head in 0..6usize, tail: Vec<u8>) {
            let heads: [&[u8]; 6] =
                [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a\x01\0\x01\0", b"RIFF\0\0\0\0WEBP", b"GIF87a"];
            let _ = look(Format::ALL[format], &[heads[head], &tail].concat());
        }
    }
}
