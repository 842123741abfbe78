//! How alike two images look.

use crate::{Picture, write};

/// The side of the squares that are compared, in pixels.
const SQUARE: usize = 8;

/// How alike two images look to a person: 1 when they are the same, below 0.9 when it shows, from 0 when they have
/// nothing to do with each other. Images of two sizes are compared in the smaller one. `None`: there is nothing to
/// compare, since they have different shapes.
///
/// Source: the structural similarity of brightness (SSIM), Wang and others 2004, over squares of 8 pixels that overlap
/// by half, with both images on white.
pub fn similarity(one: &Picture, other: &Picture) -> Option<f64> {
    let shape = |picture: &Picture| f64::from(picture.width()) / f64::from(picture.height());
    if (shape(one) / shape(other) - 1.0).abs() > 0.05 {
        return None;
    }
    let width = one.width().min(other.width());
    let (one, other) = (brightness(one, width)?, brightness(other, width)?);
    let rows = one.len().min(other.len()) / width as usize;
    let (columns, width) = (width as usize, width as usize);
    let steps = |length: usize| (0..=length.saturating_sub(SQUARE)).step_by(SQUARE / 2);
    let (mut sum, mut count) = (0.0, 0.0);
    for top in steps(rows) {
        for left in steps(columns) {
            let square = |pixels: &[f64]| -> Vec<f64> {
                let rows = (top..(top + SQUARE).min(rows)).map(|row| row * width);
                rows.flat_map(|row| &pixels[row + left..row + (left + SQUARE).min(columns)])
                    .copied()
                    .collect()
            };
            sum += alike(&square(&one), &square(&other));
            count += 1.0;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// The brightness of each pixel on white, from 0 to 255, in a width of so many pixels.
fn brightness(picture: &Picture, width: u32) -> Option<Vec<f64>> {
    let scaled;
    let picture = if picture.width() > width {
        scaled = write::scale(picture, width).ok()?;
        &scaled
    } else {
        picture
    };
    let of = |pixel: &[u8]| {
        let opacity = f64::from(pixel[3]) / 255.0;
        let on_white = |value: u8| f64::from(value) * opacity + 255.0 * (1.0 - opacity);
        0.299 * on_white(pixel[0]) + 0.587 * on_white(pixel[1]) + 0.114 * on_white(pixel[2])
    };
    Some(picture.rgba().chunks_exact(4).map(of).collect())
}

/// SSIM of two squares.
fn alike(one: &[f64], other: &[f64]) -> f64 {
    const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
    const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
    let count = one.len().max(1) as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let (a, b) = (mean(one), mean(other));
    let (mut va, mut vb, mut both) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        va += (x - a) * (x - a);
        vb += (y - b) * (y - b);
        both += (x - a) * (y - b);
    }
    let (va, vb, both) = (va / count, vb / count, both / count);
    ((2.0 * a * b + C1) * (2.0 * both + C2)) / ((a * a + b * b + C1) * (va + vb + C2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, of: impl Fn(u32, u32) -> [u8; 4]) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture::new(width, height, pixels.flat_map(|(x, y)| of(x, y)).collect()).unwrap()
    }

    fn waves(x: u32, y: u32) -> [u8; 4] {
        let wave = ((f64::from(x) / 5.0).sin() + (f64::from(y) / 7.0).cos()) * 60.0 + 128.0;
        [wave as u8, wave as u8, wave as u8, 255]
    }

    #[test]
    fn what_looks_alike() {
        let source = picture(64, 48, waves);
        let noise = |amount: u32| {
            picture(64, 48, move |x, y| {
                let wave = waves(x, y)[0];
                let value = u32::from(wave) + (x * 7919 + y * 104_729) % (amount + 1);
                [value.min(255) as u8, value.min(255) as u8, value.min(255) as u8, 255]
            })
        };
        assert_eq!(similarity(&source, &source), Some(1.0));
        let (little, much) =
            (similarity(&source, &noise(4)).unwrap(), similarity(&source, &noise(120)).unwrap());
        assert!(little > 0.97 && much < 0.75 && much < little, "{little} {much}");
        let black = picture(64, 48, |_, _| [0, 0, 0, 255]);
        assert!(similarity(&source, &black).unwrap() < 0.1);
        let larger = picture(128, 96, |x, y| waves(x / 2, y / 2));
        assert!(similarity(&larger, &source).unwrap() > 0.9, "of another size");
        assert_eq!(similarity(&source, &picture(64, 20, waves)), None, "of another shape");
        let clear = picture(64, 48, |_, _| [0, 0, 0, 0]);
        let white = picture(64, 48, |_, _| [255, 255, 255, 255]);
        assert_eq!(similarity(&clear, &white), Some(1.0), "on white");
        assert!(
            similarity(&picture(3, 3, waves), &picture(3, 3, waves)).unwrap() > 0.99,
            "smaller than a square"
        );
    }
}
