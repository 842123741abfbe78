//! What the edge would do with a request, for people.

use anstyle::Style;
use klar_base::look::{CacheView, Explained, InstanceCounts, SiteView, Wellness, WouldKeep};
use klar_base::signal::DecidedBy;

use super::table::{Cell, align, cell};
use super::{BAD, FAIR, GOOD, PLAIN, QUIET, STRONG, paint, words};

/// The whole of it. `origins`: where each policy comes from, in their order.
pub fn render(told: &Explained, origins: &[Option<String>]) -> String {
    let mut text =
        format!("{} {}\n\n", paint(STRONG, words::tame(&told.method)), paint(STRONG, words::tame(&told.url)));
    text.push_str(&align(&summary(told), &[], "  "));
    if !told.sites.is_empty() {
        text.push_str(&title("what there is"));
        text.push_str(&sites(&told.sites));
    }
    if !told.instances.is_empty() {
        text.push_str(&title("instances"));
        text.push_str(&align(&instances(told), &[1, 2], "  "));
    }
    if let Some(cache) = &told.cache {
        text.push_str(&title("cache"));
        text.push_str(&align(&cache_rows(cache), &[], "  "));
    }
    if !told.policies.is_empty() {
        text.push_str(&title("settings, in the order in which they apply"));
        let rows: Vec<Vec<Cell>> = told
            .policies
            .iter()
            .zip(origins.iter().chain(std::iter::repeat(&None)))
            .map(|(policy, origin)| {
                let from = match (&policy.key, origin) {
                    (None, _) => "always".to_owned(),
                    (Some(key), None) => key.clone(),
                    (Some(key), Some(origin)) => format!("{key}: {origin}"),
                };
                vec![
                    policy.name.clone().into(),
                    cell(STRONG, words::tame(&policy.value)),
                    cell(QUIET, from),
                    cell(PLAIN, policy.here.as_deref().map(words::tame).unwrap_or_default()),
                ]
            })
            .collect();
        text.push_str(&align(&rows, &[], "  "));
    }
    if !told.adds.is_empty() {
        text.push_str(&title("added to the answer, where the app says nothing itself"));
        let rows: Vec<Vec<Cell>> = told
            .adds
            .iter()
            .map(|(name, value)| vec![name.clone().into(), cell(QUIET, words::tame(value))])
            .collect();
        text.push_str(&align(&rows, &[], "  "));
    }
    text
}

fn title(text: &str) -> String {
    format!("\n{}\n", paint(STRONG, text))
}

fn row(word: &str, style: Style, what: impl Into<String>) -> Vec<Cell> {
    vec![cell(QUIET, word), cell(style, what)]
}

fn summary(told: &Explained) -> Vec<Vec<Cell>> {
    let outcome = &told.outcome;
    let (style, who) = match outcome.decided_by {
        DecidedBy::App => (GOOD, "the app"),
        DecidedBy::Edge => (GOOD, "the edge"),
        DecidedBy::Refused => (FAIR, "the edge refuses"),
        DecidedBy::Failed => (BAD, "nobody"),
    };
    let status = outcome.status.map(|status| format!("{status} ")).unwrap_or_default();
    let mut rows = vec![row("answer", style, format!("{who}: {status}{}", words::tame(&outcome.what)))];
    if let Some(location) = &outcome.location {
        rows.push(row("leads to", PLAIN, words::tame(location)));
    }
    if let Some(app) = &told.app {
        rows.push(row("app", PLAIN, super::receipt::name(app)));
    }
    if let Some(route) = &told.route {
        let leads_to = match (&told.service, &told.files) {
            (Some(service), _) => format!("service {service}"),
            (None, Some(release)) => format!("files of release {}", release.short()),
            (None, None) => "files".into(),
        };
        rows.push(row("route", PLAIN, format!("{route} → {leads_to}")));
    }
    if let Some(away) = &told.away {
        let style = if away.stale { GOOD } else { FAIR };
        let stale = if away.stale { format!("{} ", away.status) } else { String::new() };
        rows.push(row("app away", style, format!("{stale}{}", words::tame(&away.what))));
    }
    rows
}

fn sites(all: &[SiteView]) -> String {
    let mut rows = Vec::new();
    for site in all {
        let hosts = if site.hosts.is_empty() { "no host of its own".into() } else { site.hosts.join(", ") };
        rows.push(vec![cell(STRONG, super::receipt::name(&site.app)), hosts.into()]);
        rows.extend(
            site.routes
                .iter()
                .map(|(pattern, to)| vec![cell(PLAIN, ""), cell(QUIET, format!("{pattern} → {to}"))]),
        );
    }
    if rows.is_empty() {
        return "  nothing is served yet: run `klar up` in the folder of an app\n".into();
    }
    align(&rows, &[], "  ")
}

fn instances(told: &Explained) -> Vec<Vec<Cell>> {
    let instance = |one: &InstanceCounts| {
        let (style, word) = match one.wellness {
            Wellness::Well => (GOOD, "● well"),
            Wellness::Unwell => (FAIR, "▲ unwell"),
            Wellness::Gone => (BAD, "✗ nobody listens"),
        };
        let next = if told.next.as_ref() == Some(&one.id) { "would be asked now" } else { "" };
        vec![
            cell(STRONG, one.id.short()),
            format!("weight {}", one.weight).into(),
            format!("{} in flight", one.in_flight).into(),
            cell(style, word),
            cell(QUIET, format!("release {}", one.release.short())),
            cell(PLAIN, next),
        ]
    };
    told.instances.iter().map(instance).collect()
}

fn cache_rows(cache: &CacheView) -> Vec<Vec<Cell>> {
    if let Some(why) = &cache.bypass {
        return vec![row("now", FAIR, format!("no part in it, because {why}"))];
    }
    let mut rows = vec![row("now", PLAIN, words::tame(&cache.what))];
    rows.push(row("", QUIET, format!("cache-status: {}", cache.now)));
    if cache.in_flight {
        rows.push(row("", PLAIN, "another request asks the app for it now; this one would wait for that"));
    }
    let key: Vec<String> =
        cache.key.iter().map(|(name, value)| format!("{name} {}", words::tame(value))).collect();
    rows.push(row("key", PLAIN, key.join(" · ")));
    if let Some(stored) = &cache.stored {
        let fresh = match stored.left_s {
            left if left >= 0 => format!("fresh for {left} s"),
            left => format!("stale for {} s", -left),
        };
        rows.push(row(
            "kept",
            PLAIN,
            format!("{}, {}, {} s old, {fresh}", stored.status, words::bytes(stored.bytes), stored.age_s),
        ));
        if !stored.vary.is_empty() {
            rows.push(row("", PLAIN, format!("chosen by {}", stored.vary.join(", "))));
        }
        if !stored.tags.is_empty() {
            rows.push(row("", PLAIN, format!("tags {}", words::tame(&stored.tags.join(", ")))));
        }
        if !stored.can_validate {
            rows.push(row("", PLAIN, "without etag and last-modified: fetched anew when it is stale"));
        }
    }
    if cache.others > 0 {
        rows.push(row(
            "",
            PLAIN,
            format!("{} kept for other requests", words::things(cache.others, "answer")),
        ));
    }
    if let Some(last) = &cache.last_refusal {
        rows.push(row("last answer", FAIR, format!("not kept ({}): {}", last.word, last.why)));
    }
    let mut word = "would keep";
    for answer in &cache.would_keep {
        rows.push(would_keep(word, answer));
        word = "";
    }
    rows
}

fn would_keep(word: &str, answer: &WouldKeep) -> Vec<Cell> {
    let says = if answer.answer.is_empty() { "an answer without a word of caches" } else { &answer.answer };
    match (&answer.fresh_s, &answer.refusal) {
        (Some(seconds), _) => row(word, GOOD, format!("✓ {says}: for {seconds} s")),
        (None, refusal) => {
            let why = refusal.as_ref().map(|refusal| refusal.why.as_str()).unwrap_or_default();
            row(word, PLAIN, format!("✗ {says}: {why}"))
        }
    }
}

#[cfg(test)]
mod tests;
