//! Pixels of an image: upright, in sRGB, eight bits for each of red, green, blue and opacity.
//!
//! Whatever else a file says (where it was taken, with what, by whom) stays behind.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use klar_base::images::{Format, PIXELS_MAX, SIDE_MAX};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use crate::Left;
use crate::look::look;

/// What a decoder may allocate, in bytes: [`PIXELS_MAX`] with 16 bits for each of four channels, and half as much again.
const ALLOC_MAX: u64 = PIXELS_MAX * 12;
/// The largest colour profile that is looked at, in bytes. Those of cameras and screens have a few hundred to some
/// thousands.
const PROFILE_MAX: usize = 1 << 20;

/// Pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Four bytes for each pixel.
    rgba: Vec<u8>,
    /// Some pixel is not wholly opaque.
    is_clear: bool,
}

impl Picture {
    /// Of four bytes for each pixel: red, green, blue, opacity. `None` when that is not what there is.
    pub fn new(width: u32, height: u32, rgba: Vec<u8>) -> Option<Self> {
        let pixels = u64::from(width) * u64::from(height);
        let fits = pixels > 0 && u64::try_from(rgba.len()) == Ok(pixels * 4);
        fits.then(|| Self { width, height, is_clear: rgba.chunks_exact(4).any(|pixel| pixel[3] < 255), rgba })
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Four bytes for each pixel, row by row.
    pub fn rgba(&self) -> &[u8] {
        &self.rgba
    }

    /// Whether something shines through.
    pub fn is_clear(&self) -> bool {
        self.is_clear
    }

    /// Three bytes for each pixel.
    pub(crate) fn rgb(&self) -> Vec<u8> {
        self.rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }
}

/// Reads an image.
///
/// # Errors
/// Why it is best given as it is.
pub fn read(format: Format, bytes: &[u8]) -> Result<Picture, Left> {
    look(format, bytes)?;
    let kind = match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::Webp => ImageFormat::WebP,
        Format::Avif => return Err(Left::Unknown),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(ALLOC_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| why(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(Left::Pixels);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().map_err(|_| Left::Profile)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| why(&error))?;
    image.apply_orientation(orientation);
    // Takes the pixels over where they have this shape already.
    let mut pixels = image.into_rgba8();
    let (width, height) = pixels.dimensions();
    if let Some(profile) = profile {
        to_srgb(&profile, &mut pixels)?;
    }
    Picture::new(width, height, pixels.into_raw()).ok_or(Left::Damaged)
}

fn why(error: &image::ImageError) -> Left {
    match error {
        image::ImageError::Limits(_) => Left::Pixels,
        _ => Left::Damaged,
    }
}

/// Brings pixels from the colours of a profile (ICC.1) into those that every screen is taken to have.
fn to_srgb(profile: &[u8], pixels: &mut [u8]) -> Result<(), Left> {
    /// Pixels that are looked at together.
    const ROW: usize = 4096 * 4;
    if profile.len() > PROFILE_MAX {
        return Err(Left::Profile);
    }
    let profile = ColorProfile::new_from_slice(profile).map_err(|_| Left::Profile)?;
    if profile.color_space != DataColorSpace::Rgb {
        return Err(Left::Profile);
    }
    let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
    let transform = profile
        .create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgba, options)
        .map_err(|_| Left::Profile)?;
    let mut row = vec![0; ROW];
    for part in pixels.chunks_mut(ROW) {
        let row = &mut row[..part.len()];
        transform.transform(part, row).map_err(|_| Left::Profile)?;
        part.copy_from_slice(row);
    }
    Ok(())
}
