//! Names as Prometheus has them, of metrics and labels as OpenTelemetry has them: the way that Prometheus itself translates
//! what it receives over OTLP (`UnderscoreEscapingWithSuffixes`).
//!
//! Source: <https://github.com/prometheus/otlptranslator>.

/// What a metric is, as far as its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A sum that only grows.
    Counter,
    Gauge,
    Other,
}

fn is_kept(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
}

/// A unit of UCUM as a word.
fn unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

/// The same behind a slash.
fn per(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// A word of letters, digits and single underscores; notes in braces are none.
fn word(unit: &str, named: fn(&str) -> &str) -> String {
    let unit = unit.trim();
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let pieces: Vec<&str> =
        named(unit).split(|letter| !is_kept(letter)).filter(|piece| !piece.is_empty()).collect();
    pieces.join("_")
}

/// The name of a metric.
pub fn metric(name: &str, of: &str, sort: Sort) -> String {
    let is_part = |letter: char| is_kept(letter) || letter == ':';
    let mut parts: Vec<&str> =
        name.split(|letter| !is_part(letter)).filter(|part| !part.is_empty()).collect();
    let (main, each) = of.split_once('/').unwrap_or((of, ""));
    let (main, each) = (word(main, unit), word(each, per));
    if !main.is_empty() && !parts.contains(&&*main) {
        parts.push(&main);
    }
    if !each.is_empty() && !parts.contains(&&*each) {
        parts.extend(["per", &each]);
    }
    let mut ends_with = |end| {
        parts.retain(|part| *part != end);
        parts.push(end);
    };
    match sort {
        Sort::Counter => ends_with("total"),
        Sort::Gauge if of == "1" => ends_with("ratio"),
        _ => {}
    }
    let name = parts.join("_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The name of a label.
pub fn label(name: &str) -> String {
    let plain: String = name.chars().map(|letter| if is_kept(letter) { letter } else { '_' }).collect();
    match plain.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{plain}"),
        // Two of them are for Prometheus itself.
        [b'_', b'_', ..] => format!("key{plain}"),
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units() {
        use Sort::{Counter, Gauge, Other};
        for (name, unit, sort, expected) in [
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("http.server.active_requests", "{request}", Other, "http_server_active_requests"),
            ("system.disk.io", "By", Counter, "system_disk_io_bytes_total"),
            ("system.network.dropped", "{packets}", Counter, "system_network_dropped_total"),
            ("hits", "", Counter, "hits_total"),
            ("hits_total", "1", Counter, "hits_total"),
            ("total.hits", "1", Counter, "hits_total"),
            ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
            ("ratio.of.it", "1", Gauge, "of_it_ratio"),
            ("request.size", "KiBy", Other, "request_size_kibibytes"),
            ("speed", "m/s", Gauge, "speed_meters_per_second"),
            ("speed.meters.second", "m/s", Gauge, "speed_meters_second"),
            ("speed", "km/h", Gauge, "speed_km_per_hour"),
            ("messages", "{message}/s", Gauge, "messages_per_second"),
            ("temperature", "Cel", Gauge, "temperature_celsius"),
            ("already_seconds", "s", Gauge, "already_seconds"),
            ("load", "%", Gauge, "load_percent"),
            ("a  b--c__d", "", Other, "a_b_c_d"),
            ("rule:name", "", Other, "rule:name"),
            ("3.things", "", Other, "_3_things"),
            ("grün", "", Other, "gr_n"),
            ("", "", Other, ""),
        ] {
            assert_eq!(metric(name, unit, sort), expected, "{name} {unit} {sort:?}");
        }
    }

    #[test]
    fn labels() {
        for (name, expected) in [
            ("http.request.method", "http_request_method"),
            ("plain", "plain"),
            ("0day", "key_0day"),
            ("_private", "_private"),
            ("__name__", "key__name__"),
            ("a:b", "a_b"),
            ("ø", "_"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
    }
}
