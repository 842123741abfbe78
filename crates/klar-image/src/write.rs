//! Scaling, and writing in the formats that browsers take.

use std::collections::HashSet;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use klar_base::images::Format;

use crate::{Left, Picture};

/// Of photographs, for WebP: hardly to be told from the source, see the table in `docs/guides/images.md`.
const WEBP_QUALITY: f32 = 80.0;
/// Of what was written without loss, for WebP: letters and lines show what photographs hide.
const WEBP_QUALITY_DRAWN: f32 = 90.0;
/// How hard libwebp tries, from 0 to 6.
const WEBP_METHOD: i32 = 4;
const JPEG_QUALITY: u8 = 82;
/// An image with at most so many colours was drawn, not photographed.
const DRAWN_COLOURS: usize = 4096;

/// Makes it narrower: to `width` pixels, and as high as it then is.
pub fn scale(picture: &Picture, width: u32) -> Result<Picture, Left> {
    let (from_width, from_height) = (u64::from(picture.width()), u64::from(picture.height()));
    let height = (from_height * u64::from(width) + from_width / 2) / from_width.max(1);
    let height = u32::try_from(height.max(1)).map_err(|_| Left::Pixels)?;
    let source = ImageRef::new(picture.width(), picture.height(), picture.rgba(), PixelType::U8x4);
    let source = source.map_err(|_| Left::Damaged)?;
    let mut scaled = Image::new(width, height, PixelType::U8x4);
    // Lanczos; opaque pixels count for more than clear ones, so that nothing shines through at edges.
    Resizer::new().resize(&source, &mut scaled, None).map_err(|_| Left::Damaged)?;
    Picture::new(width, height, scaled.into_vec()).ok_or(Left::Damaged)
}

/// Writes pixels that were read from a `source` of a format.
///
/// # Errors
/// When the format cannot hold them.
pub fn write(picture: &Picture, wanted: Format, source: Format) -> Result<Vec<u8>, Left> {
    match wanted {
        Format::Jpeg => jpeg(picture),
        Format::Png => png(picture),
        Format::Webp => webp(picture, source),
        #[cfg(feature = "avif")]
        Format::Avif => avif(picture),
        _ => Err(Left::Unwritable),
    }
}

fn jpeg(picture: &Picture) -> Result<Vec<u8>, Left> {
    if picture.is_clear() {
        return Err(Left::Unwritable);
    }
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)
        .write_image(&picture.rgb(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|_| Left::Unwritable)?;
    Ok(out)
}

fn png(picture: &Picture) -> Result<Vec<u8>, Left> {
    let mut out = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut out, CompressionType::Default, FilterType::Adaptive);
    let (width, height) = (picture.width(), picture.height());
    let written = if picture.is_clear() {
        encoder.write_image(picture.rgba(), width, height, ExtendedColorType::Rgba8)
    } else {
        encoder.write_image(&picture.rgb(), width, height, ExtendedColorType::Rgb8)
    };
    written.map_err(|_| Left::Unwritable)?;
    Ok(out)
}

/// With loss; of a drawing also without, and the smaller one counts.
fn webp(picture: &Picture, source: Format) -> Result<Vec<u8>, Left> {
    let was_exact = matches!(source, Format::Png | Format::Gif);
    let quality = if was_exact { WEBP_QUALITY_DRAWN } else { WEBP_QUALITY };
    let lossy = webp_with(picture, |config| config.quality = quality)?;
    if !was_exact || !is_drawn(picture) {
        return Ok(lossy);
    }
    let exact = webp_with(picture, |config| (config.lossless, config.quality) = (1, 50.0))?;
    Ok(if exact.len() <= lossy.len() { exact } else { lossy })
}

fn webp_with(picture: &Picture, set: impl FnOnce(&mut webp::WebPConfig)) -> Result<Vec<u8>, Left> {
    let mut config = webp::WebPConfig::new().map_err(|()| Left::Unwritable)?;
    config.method = WEBP_METHOD;
    set(&mut config);
    let (width, height) = (picture.width(), picture.height());
    let rgb;
    let encoder = if picture.is_clear() {
        webp::Encoder::from_rgba(picture.rgba(), width, height)
    } else {
        rgb = picture.rgb();
        webp::Encoder::from_rgb(&rgb, width, height)
    };
    // Also when a side is longer than 16,383 pixels, which the format does not have.
    let written = encoder.encode_advanced(&config).map_err(|_| Left::Unwritable)?;
    Ok(written.to_vec())
}

/// AV1 in one thread, in the fastest way that still compresses better than WebP.
#[cfg(feature = "avif")]
fn avif(picture: &Picture) -> Result<Vec<u8>, Left> {
    use ravif::{Encoder, Img, RGBA8};
    const QUALITY: f32 = 65.0;
    const SPEED: u8 = 8;
    let pixels: Vec<RGBA8> = picture
        .rgba()
        .chunks_exact(4)
        .map(|pixel| RGBA8::new(pixel[0], pixel[1], pixel[2], pixel[3]))
        .collect();
    let image = Img::new(pixels.as_slice(), picture.width() as usize, picture.height() as usize);
    let encoder = Encoder::new().with_quality(QUALITY).with_speed(SPEED).with_num_threads(Some(1));
    Ok(encoder.encode_rgba(image).map_err(|_| Left::Unwritable)?.avif_file)
}

/// Whether there are few colours.
fn is_drawn(picture: &Picture) -> bool {
    let mut seen = HashSet::new();
    picture.rgba().chunks_exact(4).all(|pixel| {
        seen.insert([pixel[0], pixel[1], pixel[2], pixel[3]]);
        seen.len() <= DRAWN_COLOURS
    })
}
