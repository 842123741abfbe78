//! Images of every kind, and what becomes of them: made here, converted, and read again.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{
    Delay, DynamicImage, ExtendedColorType, Frame, ImageEncoder, ImageFormat, ImageReader, Rgba, RgbaImage,
};
use klar_base::images::{Format, Order};
use klar_image::{Left, Picture, convert, read, similarity};

/// A picture with hills, and noise as cameras have it.
fn photo(width: u32, height: u32) -> DynamicImage {
    let mut noise = 1u32;
    DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hill = ((f64::from(x) / 40.0).sin() * 50.0 + (f64::from(y) / 25.0).cos() * 40.0 + 128.0) as u8;
        let grain = (noise >> 29) as u8;
        image::Rgb([hill.saturating_add(grain), hill / 2 + grain, 200 - hill / 3])
    }))
}

/// Boxes in few colours, on nothing.
fn drawing(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgba8(RgbaImage::from_fn(width, height, |x, y| match (x / 40 + y / 40) % 3 {
        0 => Rgba([200, 30, 30, 255]),
        1 => Rgba([20, 20, 160, 255]),
        _ => Rgba([0, 0, 0, 0]),
    }))
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn jpeg(image: &DynamicImage) -> Vec<u8> {
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, 95).encode_image(image).unwrap();
    out
}

fn png(image: &DynamicImage) -> Vec<u8> {
    written(image, ImageFormat::Png)
}

fn gif(frames: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = GifEncoder::new(&mut out);
    for frame in 0..frames {
        let picture = drawing(200, 100 + 40 * frame as u32).crop_imm(0, 0, 200, 100).to_rgba8();
        encoder.encode_frame(Frame::from_parts(picture, 0, 0, Delay::from_numer_denom_ms(100, 1))).unwrap();
    }
    drop(encoder);
    out
}

/// Behind the first two bytes of a JPEG: a segment.
fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// What a camera writes: how it was held (1 to 8), and where.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend_from_slice(&[0, orientation, 0, 0, 0, 0, 0, 0]);
    exif.extend_from_slice(b"GPS 59.9139 10.7522");
    exif
}

fn order<'a>(source: Format, wanted: Format, width: Option<u32>, bytes: &'a [u8]) -> Order<'a> {
    Order { source, wanted, width, bytes }
}

fn kind_of(bytes: &[u8]) -> Option<ImageFormat> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap().format()
}

/// Each line: source, wanted format, width; and the format and dimensions that come, or why none.
#[test]
fn sources_and_what_comes_of_them() {
    use Format::{Avif, Gif, Jpeg, Png, Webp};
    let (wide, drawn) = (photo(1200, 800), drawing(900, 600));
    let (camera, grey) = (jpeg(&wide), jpeg(&DynamicImage::ImageLuma8(wide.to_luma8())));
    let (plain, clear) = (png(&wide), png(&drawn));
    let deep = png(&DynamicImage::ImageRgb16(wide.to_rgb16()));
    let deep_clear = png(&DynamicImage::ImageRgba16(drawn.to_rgba16()));
    let (still, moving) = (gif(1), gif(3));
    let exact = written(&wide, ImageFormat::WebP);
    let mut apng = clear.clone();
    apng.splice(33..33, *b"\0\0\0\x08acTL\0\0\0\x02\0\0\0\0\0\0\0\0");
    let mut cmyk = camera.clone();
    let frame = cmyk.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    cmyk[frame + 9] = 4;
    let moving_webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0".to_vec();
    let profile = |content: &[u8]| with_segment(&camera, 0xe2, &[b"ICC_PROFILE\0\x01\x01", content].concat());
    let tiny = jpeg(&photo(8, 8));

    let made = |format, width, height| Ok((format, width, height));
    for (what, source, bytes, wanted, width, expected) in [
        ("a photo", Jpeg, &camera, Webp, None, made(ImageFormat::WebP, 1200, 800)),
        ("a photo, smaller", Jpeg, &camera, Webp, Some(640), made(ImageFormat::WebP, 640, 427)),
        ("a photo, never larger", Jpeg, &camera, Webp, Some(1920), made(ImageFormat::WebP, 1200, 800)),
        ("in its own format", Jpeg, &camera, Jpeg, Some(320), made(ImageFormat::Jpeg, 320, 213)),
        ("as it is", Jpeg, &camera, Jpeg, Some(1200), Err(Left::Smaller)),
        ("in grey", Jpeg, &grey, Webp, Some(320), made(ImageFormat::WebP, 320, 213)),
        ("a photo as PNG", Png, &plain, Webp, None, made(ImageFormat::WebP, 1200, 800)),
        ("as a smaller PNG", Png, &plain, Png, Some(320), made(ImageFormat::Png, 320, 213)),
        ("a drawing", Png, &clear, Webp, Some(320), made(ImageFormat::WebP, 320, 213)),
        ("of 16 bits", Png, &deep, Webp, Some(320), made(ImageFormat::WebP, 320, 213)),
        ("of 16 bits, clear", Png, &deep_clear, Png, Some(320), made(ImageFormat::Png, 320, 213)),
        ("clear, as JPEG", Png, &clear, Jpeg, Some(320), Err(Left::Unwritable)),
        ("a GIF", Gif, &still, Webp, Some(160), made(ImageFormat::WebP, 160, 80)),
        ("as a GIF", Gif, &still, Gif, Some(160), Err(Left::Unwritable)),
        ("WebP without loss", Webp, &exact, Webp, Some(640), made(ImageFormat::WebP, 640, 427)),
        ("WebP as it is", Webp, &exact, Webp, None, Err(Left::Smaller)),
        ("an animated GIF", Gif, &moving, Webp, Some(100), Err(Left::Animated)),
        ("an animated PNG", Png, &apng, Webp, Some(100), Err(Left::Animated)),
        ("an animated WebP", Webp, &moving_webp, Webp, Some(100), Err(Left::Animated)),
        ("for printing", Jpeg, &cmyk, Webp, None, Err(Left::Cmyk)),
        ("with a strange profile", Jpeg, &profile(b"what is this"), Webp, None, Err(Left::Profile)),
        ("another format than it says", Png, &camera, Webp, None, Err(Left::Unknown)),
        ("a page", Jpeg, &b"<!doctype html>".to_vec(), Webp, None, Err(Left::Unknown)),
        ("nothing", Jpeg, &Vec::new(), Webp, None, Err(Left::Unknown)),
        ("one that is small already", Jpeg, &tiny, Png, Some(4), made(ImageFormat::Png, 4, 4)),
        ("AVIF is not read", Avif, &camera, Webp, None, Err(Left::Unknown)),
    ] {
        let result = convert(&order(source, wanted, width, bytes));
        let got = result.map(|bytes| {
            let image = image::load_from_memory(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            (kind_of(&bytes).unwrap(), image.width(), image.height())
        });
        assert_eq!(got, expected, "{what}");
    }
    let avif = convert(&order(Jpeg, Avif, Some(160), &camera));
    assert_eq!(avif.is_ok(), cfg!(feature = "avif"));
}

/// What comes looks like what was there, and is much smaller.
#[test]
fn what_comes_looks_like_what_was_there() {
    let picture = |format, bytes: &[u8]| read(format, bytes).unwrap();
    for (what, format, source, alike, share) in [
        ("a photo", Format::Jpeg, jpeg(&photo(1200, 800)), 0.9, 0.5),
        ("a photo as PNG", Format::Png, png(&photo(1200, 800)), 0.9, 0.5),
        ("a drawing", Format::Png, png(&drawing(900, 600)), 0.98, 1.0),
    ] {
        let before = picture(format, &source);
        let made = convert(&order(format, Format::Webp, None, &source)).unwrap();
        let seen = similarity(&before, &picture(Format::Webp, &made)).unwrap();
        let bytes = made.len() as f64 / source.len() as f64;
        assert!(seen > alike && bytes < share, "{what}: SSIM {seen}, {bytes} of the bytes");
        let small = convert(&order(format, Format::Webp, Some(320), &source)).unwrap();
        let seen = similarity(&before, &picture(Format::Webp, &small)).unwrap();
        assert!(seen > alike - 0.1, "{what}, smaller: SSIM {seen}");
    }
}

/// What shines through still does, and has no dark edge from what is not to be seen.
#[test]
fn what_is_clear_stays_clear() {
    let half = DynamicImage::ImageRgba8(RgbaImage::from_fn(400, 400, |x, _| {
        if x < 200 { Rgba([255, 255, 255, 255]) } else { Rgba([0, 0, 0, 0]) }
    }));
    for wanted in [Format::Webp, Format::Png] {
        let made = convert(&order(Format::Png, wanted, Some(101), &png(&half))).unwrap();
        let made = image::load_from_memory(&made).unwrap().to_rgba8();
        assert_eq!((made.get_pixel(5, 5)[3], made.get_pixel(95, 5)[3]), (255, 0), "{wanted:?}");
        let edge = made.get_pixel(50, 50);
        assert!(edge[3] < 30 || edge[0] > 230, "{wanted:?}: {edge:?}");
    }
}

/// Images are upright, and nothing of where and by whom is left.
#[test]
fn upright_and_without_a_word_on_where() {
    let mut marked = photo(320, 200).to_rgb8();
    for (x, y) in (0..40).flat_map(|x| (0..40).map(move |y| (x, y))) {
        marked.put_pixel(x, y, image::Rgb([255, 0, 0]));
    }
    let source = jpeg(&DynamicImage::ImageRgb8(marked));
    let corners = [(10, 10), (-10, 10), (-10, -10), (10, -10)];
    // How the camera was held, the dimensions that makes, and the corner where the first pixels come.
    for (orientation, dimensions, corner) in [
        (1, (320, 200), 0),
        (2, (320, 200), 1),
        (3, (320, 200), 2),
        (4, (320, 200), 3),
        (5, (200, 320), 0),
        (6, (200, 320), 1),
        (7, (200, 320), 2),
        (8, (200, 320), 3),
    ] {
        let source = with_segment(&source, 0xe1, &exif(orientation));
        let made = convert(&order(Format::Jpeg, Format::Webp, None, &source)).unwrap();
        assert!(!made.windows(3).any(|part| part == b"GPS") && !made.windows(4).any(|part| part == b"Exif"));
        let made = image::load_from_memory(&made).unwrap().to_rgb8();
        assert_eq!(made.dimensions(), dimensions, "{orientation}");
        for (number, (x, y)) in corners.into_iter().enumerate() {
            let at = |offset: i32, side: u32| if offset < 0 { side - 10 } else { 10 };
            let pixel = made.get_pixel(at(x, made.width()), at(y, made.height()));
            let is_red = pixel[0] > 180 && pixel[1] < 90 && pixel[2] < 90;
            assert_eq!(is_red, number == corner, "{orientation}: corner {number} is {pixel:?}");
        }
        let small = convert(&order(Format::Jpeg, Format::Jpeg, Some(100), &source)).unwrap();
        let small = image::load_from_memory(&small).unwrap();
        assert_eq!((small.width(), small.width() < small.height()), (100, orientation > 4), "{orientation}");
    }
}

/// The same numbers mean another colour in a wide gamut; they come as what sRGB has for it.
#[test]
fn wide_colours_become_those_of_every_screen() {
    let green = image::RgbImage::from_pixel(64, 64, image::Rgb([60, 200, 60]));
    let with = |profile: moxcms::ColorProfile| {
        let mut out = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut out);
        encoder.set_icc_profile(profile.encode().unwrap()).unwrap();
        encoder.write_image(&green, 64, 64, ExtendedColorType::Rgb8).unwrap();
        out
    };
    let first = |picture: &Picture| [picture.rgba()[0], picture.rgba()[1], picture.rgba()[2]];
    let same = read(Format::Png, &with(moxcms::ColorProfile::new_srgb())).unwrap();
    let [red, green_, blue] = first(&same);
    assert!(
        red.abs_diff(60) <= 1 && green_.abs_diff(200) <= 1 && blue.abs_diff(60) <= 1,
        "{:?}",
        first(&same)
    );
    let wide = read(Format::Png, &with(moxcms::ColorProfile::new_display_p3())).unwrap();
    let [red, green_, _] = first(&wide);
    assert!(red < 30 && green_ > 200, "a green that sRGB only comes near: {:?}", first(&wide));
}

/// The name and the checksum of a chunk come right, so that only what it says is wrong.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&name[..], content].concat();
    let checksum = body.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    });
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &body, &(!checksum).to_be_bytes()].concat()
}

/// A few bytes that say that they are a great many pixels.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    let data = chunk(b"IDAT", b"\x78\x9c\x63\x60\x60\x60\0\0\0\x04\0\x01");
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), &data, &chunk(b"IEND", b"")].concat()
}

#[test]
fn hostile_and_broken_files() {
    for (width, height) in
        [(30_000, 30_000), (5001, 5000), (16_385, 10), (10, 16_385), (u32::MAX, u32::MAX), (0, 5)]
    {
        let result = convert(&order(Format::Png, Format::Webp, Some(320), &bomb(width, height)));
        let is_absurd = width == 0 || width == u32::MAX;
        assert!(
            result == Err(Left::Pixels) || (is_absurd && result.is_err()),
            "{width} x {height}: {result:?}"
        );
    }
    let small = convert(&order(Format::Png, Format::Webp, Some(320), &bomb(4000, 4000)));
    assert!(small.is_err(), "fewer bytes than pixels");
    let source = png(&photo(300, 200));
    for end in [8, 33, 60, source.len() / 2, source.len() - 20] {
        assert!(convert(&order(Format::Png, Format::Webp, Some(100), &source[..end])).is_err(), "{end}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Any bytes changed, anywhere: it ends, with an image that can be read or without any.
    #[test]
    fn damage_is_survived(kind in 0..4usize, changes: Vec<(u16, u8)>, cut: proptest::sample::Index) {
        let image = photo(60, 40);
        let (format, mut bytes) = match kind {
            0 => (Format::Jpeg, jpeg(&image)),
            1 => (Format::Png, png(&image)),
            2 => (Format::Gif, gif(1)),
            _ => (Format::Webp, written(&image, ImageFormat::WebP)),
        };
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 2).max(1).min(bytes.len()));
        if let Ok(made) = convert(&order(format, Format::Webp, Some(30), &bytes)) {
            assert!(image::load_from_memory(&made).is_ok());
        }
    }
}
