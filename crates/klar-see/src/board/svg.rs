//! A dashboard as a picture (SVG 1.1): one file, nothing fetched, no script.

use std::fmt::Write as _;

use super::{Answered, Filled, Kind, Line, Unit};

const WIDTH: f64 = 1200.0;
const HEAD: f64 = 64.0;
const GAP: f64 = 16.0;
const PANEL: (f64, f64) = ((WIDTH - 3.0 * GAP) / 2.0, 260.0);
/// Told apart also by those who do not see all colours (Okabe and Ito, 2008), darker where white is behind them.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#8a6d00", "#3a86c8", "#6b6b6b", "#7a3e00"];
const BAD: &str = "#c0262d";
/// Letters of a legend.
const NAME: usize = 34;

/// Draws it.
pub fn draw(board: &Filled) -> String {
    let rows = board.panels.len().div_ceil(2) as f64;
    let height = HEAD + rows * (PANEL.1 + GAP) + GAP;
    let mut out = String::with_capacity(32 << 10);
    // Writing to memory does not fail, here and below.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#f4f5f7\"/>\
         <text x=\"{GAP}\" y=\"30\" font-size=\"22\" font-weight=\"600\" fill=\"#1a1d21\">{title}</text>\
         <text x=\"{GAP}\" y=\"52\" fill=\"#5b626b\">{of}, {from} to {to} (UTC)</text>",
        title = escaped(&board.title),
        of = escaped(&board.of),
        from = moment(board.from_ms, board.to_ms - board.from_ms),
        to = moment(board.to_ms, board.to_ms - board.from_ms),
    );
    for (number, panel) in board.panels.iter().enumerate() {
        let x = GAP + (number % 2) as f64 * (PANEL.0 + GAP);
        let y = HEAD + (number / 2) as f64 * (PANEL.1 + GAP);
        let _ = write!(
            out,
            "<g transform=\"translate({x} {y})\"><title>{}</title>\
             <rect width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#fff\" stroke=\"#d9dce1\"/>\
             <text x=\"16\" y=\"26\" font-weight=\"600\" fill=\"#1a1d21\">{}</text>",
            escaped(if panel.help.is_empty() { &panel.title } else { &panel.help }),
            PANEL.0,
            PANEL.1,
            escaped(&panel.title)
        );
        match (&panel.error, panel.series.is_empty(), panel.kind) {
            (Some(why), ..) => said(&mut out, &format!("no answer: {why}"), BAD),
            (None, true, _) => match &panel.none {
                Some(none) => said(&mut out, none, "#1a7f37"),
                None => said(&mut out, "no data", BAD),
            },
            (None, false, Kind::Curve) => curves(&mut out, panel, board),
            (None, false, Kind::Bars) => bars(&mut out, panel),
            (None, false, Kind::Number) => number_of(&mut out, panel),
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
    out
}

fn said(out: &mut String, text: &str, colour: &str) {
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{colour}\">{}</text>",
        PANEL.0 / 2.0,
        PANEL.1 / 2.0 + 10.0,
        escaped(&shortened(text, 80))
    );
}

fn number_of(out: &mut String, panel: &Answered) {
    let Some(line) = panel.series.first() else { return };
    let _ = write!(
        out,
        "<text x=\"{x}\" y=\"150\" text-anchor=\"middle\" font-size=\"56\" font-weight=\"600\" fill=\"{colour}\">{value}</text>\
         <text x=\"{x}\" y=\"190\" text-anchor=\"middle\" fill=\"#5b626b\">{name}</text>",
        x = PANEL.0 / 2.0,
        colour = if line.is_bad { BAD } else { "#1a1d21" },
        value = escaped(&line.said),
        name = escaped(&shortened(&line.name, 60)),
    );
}

fn bars(out: &mut String, panel: &Answered) {
    const TOP: f64 = 44.0;
    let last = |line: &Line| line.values.iter().rev().flatten().next().copied().unwrap_or_default();
    let most = panel.series.iter().map(last).fold(0.0, f64::max);
    let step = ((PANEL.1 - TOP - 14.0) / panel.series.len().max(4) as f64).min(32.0);
    for (place, line) in panel.series.iter().enumerate() {
        let value = last(line);
        let y = TOP + place as f64 * step;
        let width = if most > 0.0 { (value.max(0.0) / most * 240.0).max(1.0) } else { 1.0 };
        let colour = if line.is_bad { BAD } else { COLOURS[0] };
        let _ = write!(
            out,
            "<text x=\"226\" y=\"{middle:.1}\" text-anchor=\"end\" dominant-baseline=\"central\" fill=\"#1a1d21\">{name}</text>\
             <rect x=\"236\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{x:.1}\" y=\"{middle:.1}\" dominant-baseline=\"central\" fill=\"{ink}\">{value}</text>",
            name = escaped(&shortened(&line.name, NAME - 4)),
            top = y + 2.0,
            middle = y + step / 2.0,
            height = (step - 4.0).max(2.0),
            x = 236.0 + width + 6.0,
            ink = if line.is_bad { BAD } else { "#1a1d21" },
            value = written(value, panel.unit),
        );
    }
    if panel.more > 0 {
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"26\" text-anchor=\"end\" fill=\"#5b626b\">and {} more</text>",
            PANEL.0 - 16.0,
            panel.more
        );
    }
}

fn curves(out: &mut String, panel: &Answered, board: &Filled) {
    const LEFT: f64 = 74.0;
    const TOP: f64 = 44.0;
    const RIGHT: f64 = 190.0;
    const BOTTOM: f64 = 34.0;
    let (width, height) = (PANEL.0 - LEFT - RIGHT, PANEL.1 - TOP - BOTTOM);
    let values = panel.series.iter().flat_map(|line| line.values.iter().flatten().copied());
    let most = values.clone().fold(0.0, f64::max).max(panel.limit.unwrap_or(0.0));
    let least = values.fold(0.0, f64::min);
    let step = nice((most - least) / 4.0, panel.unit);
    let (bottom, top) = ((least / step).floor() * step, ((most / step).ceil() * step).max(step));
    let y = |value: f64| TOP + height - (value - bottom) / (top - bottom) * height;
    let lines = ((top - bottom) / step).round() as i64;
    for line in 0..=lines.clamp(1, 12) {
        let value = bottom + line as f64 * step;
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{x}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e6e8eb\"/>\
             <text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\" dominant-baseline=\"central\" fill=\"#5b626b\" font-size=\"11\">{}</text>",
            LEFT - 8.0,
            written(value, panel.unit),
            x = LEFT + width,
            y = y(value),
        );
    }
    let length = board.to_ms - board.from_ms;
    for (place, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"#5b626b\" font-size=\"11\">{}</text>",
            LEFT + place * width,
            PANEL.1 - 14.0,
            moment(board.from_ms + (place * length as f64) as i64, length)
        );
    }
    if let Some(limit) = panel.limit {
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{BAD}\" stroke-dasharray=\"5 4\"/>",
            LEFT + width,
            y = y(limit),
        );
    }
    for (number, line) in panel.series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let apart = width / (line.values.len().max(2) - 1) as f64;
        let mut path = String::new();
        let mut is_down = false;
        for (place, value) in line.values.iter().enumerate() {
            match value {
                Some(value) => {
                    let x = LEFT + place as f64 * apart;
                    let _ = write!(path, "{}{x:.1} {:.1}", if is_down { "L" } else { "M" }, y(*value));
                    // One point alone is seen as well.
                    if !is_down {
                        path.push_str("h0.1");
                    }
                    is_down = true;
                }
                None => is_down = false,
            }
        }
        let last = line.values.iter().rev().flatten().next().copied().unwrap_or_default();
        let thick = if line.values.iter().flatten().count() < 3 { 6 } else { 2 };
        let _ = write!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/>\
             <rect x=\"{x}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y:.1}\" dominant-baseline=\"central\" fill=\"#1a1d21\" font-size=\"12\">{} {}</text>",
            TOP + number as f64 * 16.0 - 4.0,
            LEFT + width + 30.0,
            escaped(&shortened(&line.name, 16)),
            written(last, panel.unit),
            x = LEFT + width + 14.0,
            y = TOP + number as f64 * 16.0 + 1.0,
        );
    }
}

/// A round step that is no smaller: 1, 2, 2.5 or 5 of a power of ten, or of a thousand and twenty-four for bytes.
fn nice(step: f64, unit: Unit) -> f64 {
    if !(step > 0.0 && step.is_finite()) {
        return 1.0;
    }
    let base = if unit == Unit::Bytes { 1024_f64.powf(step.log(1024.0).floor()) } else { 1.0 };
    let tenth = 10_f64.powf((step / base).log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|round| round * tenth * base >= step * 0.999_999);
    round.unwrap_or(10.0) * tenth * base
}

/// A value for people.
pub fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => {
            let percent = value * 100.0;
            // What is nearly all must not look like all.
            let digits = if (99.0..100.0).contains(&percent) { 2 } else { 1 };
            format!("{} %", trimmed(percent, digits))
        }
        Unit::Seconds if value.abs() >= 1.0 || value == 0.0 => format!("{} s", trimmed(value, 2)),
        Unit::Seconds if value.abs() >= 0.001 => format!("{} ms", trimmed(value * 1e3, 1)),
        Unit::Seconds => format!("{} µs", trimmed(value * 1e6, 0)),
        Unit::Bytes => {
            let names = ["B", "KiB", "MiB", "GiB", "TiB"];
            let mut left = value;
            let mut name = 0;
            while left.abs() >= 1024.0 && name + 1 < names.len() {
                left /= 1024.0;
                name += 1;
            }
            format!("{} {}", trimmed(left, 1), names[name])
        }
        Unit::PerSecond => format!("{}/s", trimmed(value, 2)),
        Unit::Count if value.abs() >= 1e6 => format!("{} M", trimmed(value / 1e6, 2)),
        Unit::Count if value.abs() >= 100.0 => trimmed(value, 0),
        Unit::Count if value.abs() >= 1.0 || value == 0.0 => trimmed(value, 2),
        // Two digits that say something.
        Unit::Count => trimmed(value, (1.0 - value.abs().log10().floor()).clamp(2.0, 9.0) as usize),
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.to_owned() }
}

fn moment(time_ms: i64, length_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let Ok(time) = jiff::Timestamp::from_millisecond(time_ms) else { return String::new() };
    let format = if length_ms > DAY_MS { "%m-%d %H:%M" } else { "%H:%M" };
    time.strftime(format).to_string()
}

fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(letters - 1).collect();
    out.push('…');
    out
}

/// As text and as an attribute of XML; what XML cannot hold is left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_for_people() {
        for (value, unit, text) in [
            (0.9999, Unit::Share, "99.99 %"),
            (1.0, Unit::Share, "100 %"),
            (0.125, Unit::Share, "12.5 %"),
            (0.0, Unit::Seconds, "0 s"),
            (0.000_25, Unit::Seconds, "250 µs"),
            (0.0125, Unit::Seconds, "12.5 ms"),
            (1.5, Unit::Seconds, "1.5 s"),
            (1536.0, Unit::Bytes, "1.5 KiB"),
            (12_345_678.0, Unit::Count, "12.35 M"),
            (1234.5, Unit::Count, "1234"),
            (0.25, Unit::Count, "0.25"),
            (0.001_234, Unit::Count, "0.0012"),
            (12.0, Unit::PerSecond, "12/s"),
        ] {
            assert_eq!(written(value, unit), text);
        }
    }

    #[test]
    fn steps_are_round() {
        for (step, unit, round) in [
            (0.3, Unit::Count, 0.5),
            (1.0, Unit::Count, 1.0),
            (23.0, Unit::Count, 25.0),
            (0.000_07, Unit::Seconds, 0.0001),
            (1500.0, Unit::Bytes, 2048.0),
            (0.0, Unit::Count, 1.0),
            (f64::NAN, Unit::Count, 1.0),
        ] {
            assert!((nice(step, unit) - round).abs() < round * 1e-9, "{step}: {}", nice(step, unit));
        }
    }

    fn panel(kind: Kind, series: Vec<Line>) -> Answered {
        Answered {
            title: "Requests & <more>".into(),
            help: String::new(),
            kind,
            unit: Unit::Count,
            limit: Some(5.0),
            series,
            more: 3,
            none: None,
            error: None,
            is_empty: false,
        }
    }

    #[test]
    fn a_picture_is_xml_whatever_names_are() {
        let line = |name: &str, values: &[Option<f64>]| Line {
            name: name.into(),
            values: values.into(),
            said: "1".into(),
            is_bad: true,
        };
        let nasty = line("</text><script>alert(1)</script>\u{0}\"'", &[Some(1.0), None, Some(-4.0)]);
        let board = Filled {
            title: "A \"board\"".into(),
            of: "shop.prod".into(),
            from_ms: 1_750_000_000_000,
            to_ms: 1_750_003_600_000,
            panels: vec![
                panel(Kind::Curve, vec![nasty.clone(), line("flat", &[Some(0.0)])]),
                panel(Kind::Bars, vec![nasty.clone()]),
                panel(Kind::Number, vec![nasty]),
                panel(Kind::Bars, Vec::new()),
            ],
        };
        let svg = draw(&board);
        assert!(
            !svg.contains("<script") && svg.contains("&lt;script&gt;") && svg.contains("no data"),
            "{svg}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        insta::assert_snapshot!(svg.replace("><", ">\n<"));
    }
}
