//! The edge at work, on one screen: routes, instances, connections.

use std::cmp::Ordering;

use anstyle::Style;
use klar_base::look::Wellness;

use super::sample::{InstanceSample, RouteSample, Sample};
use super::{BAD, FAIR, GOOD, PLAIN, QUIET, STRONG, paint, words};

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Requests,
    Slowest,
    Errors,
    Bytes,
    Name,
}

impl Sort {
    /// The next one, round and round.
    pub fn next(self) -> Self {
        match self {
            Self::Requests => Self::Slowest,
            Self::Slowest => Self::Errors,
            Self::Errors => Self::Bytes,
            Self::Bytes => Self::Name,
            Self::Name => Self::Requests,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Slowest => "p99",
            Self::Errors => "errors",
            Self::Bytes => "bytes out",
            Self::Name => "name",
        }
    }

    fn compare(self, one: &RouteSample, other: &RouteSample) -> Ordering {
        let by = |number: fn(&RouteSample) -> f64| number(other).total_cmp(&number(one));
        let first = match self {
            Self::Requests => by(|route| route.requests_per_s),
            Self::Slowest => by(|route| route.p99_ms.unwrap_or(-1.0)),
            Self::Errors => by(|route| route.error_share.unwrap_or(-1.0)),
            Self::Bytes => by(|route| route.bytes_out_per_s),
            Self::Name => Ordering::Equal,
        };
        first.then_with(|| (&one.app, &one.pattern).cmp(&(&other.app, &other.pattern)))
    }
}

/// A column: its name, its width, and what of it goes first where there is no room (the highest number).
struct Column {
    name: &'static str,
    width: usize,
    spare: u8,
}

const fn column(name: &'static str, width: usize, spare: u8) -> Column {
    Column { name, width, spare }
}

const ROUTES: [Column; 7] = [
    column("REQ/S", 8, 0),
    column("P50", 7, 3),
    column("P99", 7, 0),
    column("ERR", 6, 1),
    column("IN/S", 9, 5),
    column("OUT/S", 9, 4),
    column("HIT", 5, 2),
];

const INSTANCES: [Column; 6] = [
    column("REQ/S", 8, 0),
    column("FAILED/S", 8, 1),
    column("IN FLIGHT", 9, 2),
    column("WEIGHT", 6, 4),
    column("RELEASE", 7, 5),
    column("HEALTH", 8, 3),
];

/// A name takes so much at least, where there is that much.
const NAME_MIN: usize = 12;

/// The screen: lines of at most `columns` characters, at most `rows` of them. `live`: with the keys below.
pub fn frame(sample: &Sample, sort: Sort, (columns, rows): (usize, usize), live: bool) -> Vec<String> {
    let mut routes: Vec<&RouteSample> = sample.routes.iter().collect();
    routes.sort_by(|one, other| sort.compare(one, other));
    let mut instances: Vec<&InstanceSample> = sample.instances.iter().collect();
    instances.sort_by(|one, other| {
        other.requests_per_s.total_cmp(&one.requests_per_s).then(one.id.cmp(&other.id))
    });
    let routes: Vec<_> = routes.into_iter().map(route_cells).collect();
    let instances: Vec<_> = instances.into_iter().map(instance_cells).collect();

    let mut lines: Vec<String> = doors(sample).iter().map(|line| clip(line, columns)).collect();
    let footer = usize::from(live);
    // Two tables, each with a blank line before it and a head.
    let room = rows.saturating_sub(lines.len() + 4 + footer);
    let for_instances = instances.len().min((room / 3).max(room.saturating_sub(routes.len())));
    let for_routes = routes.len().min(room - for_instances);
    table(&mut lines, "ROUTE", &ROUTES, &routes, for_routes, columns);
    table(&mut lines, "INSTANCE", &INSTANCES, &instances, for_instances, columns);
    lines.truncate(rows.saturating_sub(footer));
    if live {
        let keys = format!("q quit   s sort (now by {})", sort.name());
        lines.push(paint(QUIET, clip(&keys, columns)));
    }
    lines
}

/// What comes in.
fn doors(sample: &Sample) -> [String; 3] {
    let rate = |number: f64| format!("{}/s", number_of(number));
    let mut handshakes = format!("TLS handshakes {}", rate(sample.handshakes_per_s));
    if sample.handshakes_failed_per_s > 0.0 {
        handshakes.push_str(&format!(", failed {}", rate(sample.handshakes_failed_per_s)));
    }
    [
        format!(
            "connections {} (h2: {}, h3: {})   new {}   {handshakes}",
            sample.connections,
            sample.http2_connections,
            sample.http3_connections,
            rate(sample.accepted_per_s),
        ),
        format!(
            "requests    HTTP/1.1 {}   HTTP/2 {}   HTTP/3 {}",
            rate(sample.http1_requests_per_s),
            rate(sample.http2_requests_per_s),
            rate(sample.http3_requests_per_s)
        ),
        format!("cache       {} of {}", words::bytes(sample.cache_used), words::bytes(sample.cache_room)),
    ]
}

/// Three digits are enough.
fn number_of(number: f64) -> String {
    match number {
        _ if number == 0.0 => "0".into(),
        _ if number < 9.95 => format!("{number:.1}"),
        _ => words::count(number.round() as u64),
    }
}

fn time_of(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 9.95 => format!("{ms:.1}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}

fn share_of(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| match share * 100.0 {
        percent if percent > 0.0 && percent < 9.95 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    })
}

type Cells = (String, Vec<(Style, String)>);

fn route_cells(route: &RouteSample) -> Cells {
    let quiet = route.requests_per_s == 0.0;
    let style = if quiet { QUIET } else { PLAIN };
    let errors = match route.error_share {
        Some(share) if share >= 0.05 => BAD,
        Some(share) if share > 0.0 => FAIR,
        _ => style,
    };
    let leads_to = route.service.as_deref().unwrap_or("files");
    let name = format!("{} {} → {leads_to}", route.app, route.pattern);
    let cells = vec![
        (style, number_of(route.requests_per_s)),
        (style, time_of(route.p50_ms)),
        (style, time_of(route.p99_ms)),
        (errors, share_of(route.error_share)),
        (style, words::bytes(route.bytes_in_per_s as u64)),
        (style, words::bytes(route.bytes_out_per_s as u64)),
        (style, share_of(route.cache_hit_share)),
    ];
    (name, cells)
}

fn instance_cells(instance: &InstanceSample) -> Cells {
    let (health, word) = match (instance.wellness, instance.weight) {
        (Wellness::Well, 0) => (QUIET, "○ idle"),
        (Wellness::Well, _) => (GOOD, "● well"),
        (Wellness::Unwell, _) => (FAIR, "▲ unwell"),
        (Wellness::Gone, _) => (BAD, "✗ gone"),
    };
    let failed = if instance.failures_per_s > 0.0 { BAD } else { PLAIN };
    let cells = vec![
        (PLAIN, number_of(instance.requests_per_s)),
        (failed, number_of(instance.failures_per_s)),
        (PLAIN, instance.in_flight.to_string()),
        (PLAIN, instance.weight.to_string()),
        (QUIET, instance.release.clone()),
        (health, word.to_owned()),
    ];
    (instance.id.clone(), cells)
}

/// Adds a table with so many of its rows, and says how many are missing.
fn table(lines: &mut Vec<String>, title: &str, all: &[Column], rows: &[Cells], shown: usize, columns: usize) {
    let width_of = |kept: &[usize]| kept.iter().map(|place| all[*place].width + 1).sum::<usize>();
    let mut kept: Vec<usize> = (0..all.len()).collect();
    while width_of(&kept) + NAME_MIN > columns {
        let Some(spare) = kept.iter().copied().max_by_key(|place| all[*place].spare) else { break };
        if all[spare].spare == 0 {
            break;
        }
        kept.retain(|place| *place != spare);
    }
    let longest = rows.iter().map(|(name, _)| name.chars().count()).chain([title.len()]).max().unwrap_or(0);
    let name_width = longest.min(columns.saturating_sub(width_of(&kept)));
    let line = |name: &str, style: Style, cells: &[(Style, String)]| {
        let name = clip(name, name_width);
        let pad = " ".repeat(name_width - name.chars().count());
        let mut text = format!("{}{pad}", paint(style, name));
        for place in &kept {
            let (style, cell) = &cells[*place];
            let width = all[*place].width;
            let cell = clip(cell, width);
            // Blanks before the colour, so that nothing is painted behind a word.
            let free = width - cell.chars().count();
            text.push_str(&format!(" {}{}", " ".repeat(free), paint(*style, cell)));
        }
        text
    };
    lines.push(String::new());
    let head: Vec<(Style, String)> = all.iter().map(|column| (QUIET, column.name.to_owned())).collect();
    lines.push(line(title, QUIET, &head));
    let hidden = rows.len() - shown;
    // What is hidden is said in the place of the last that would have been shown.
    let (shown, hidden) = if hidden > 0 && shown > 0 { (shown - 1, hidden + 1) } else { (shown, hidden) };
    lines.extend(rows[..shown].iter().map(|(name, cells)| line(name, STRONG, cells)));
    if hidden > 0 {
        lines.push(paint(QUIET, clip(&format!("and {hidden} more"), columns)));
    }
}

/// At most so many characters; what is longer ends in `…`.
fn clip(text: &str, width: usize) -> String {
    let tame = words::tame(text);
    if tame.chars().count() <= width {
        return tame;
    }
    let mut short: String = tame.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
