//! A curve in one line of text.

/// Values from the oldest to the newest, from nothing to the largest; where there is none, a blank.
pub fn line(values: &[Option<f64>]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let step = |value: f64| {
        let share = if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 };
        STEPS[((share * 7.0).round() as usize).min(7)]
    };
    values.iter().map(|value| value.filter(|value| value.is_finite()).map_or(' ', step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves() {
        for (values, curve) in [
            (&[][..], ""),
            (&[Some(0.0), Some(0.0)], "▁▁"),
            (&[Some(0.0), Some(5.0), None, Some(10.0)], "▁▅ █"),
            (&[Some(f64::NAN), Some(f64::INFINITY), Some(-1.0), Some(1.0)], "  ▁█"),
        ] {
            assert_eq!(line(values), curve, "{values:?}");
        }
    }
}
