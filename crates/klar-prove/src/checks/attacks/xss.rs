//! Cross-site scripting: whether what somebody sends becomes part of a page instead of being shown on it.
//!
//! The markers do no harm and are no script. What counts is what a browser would make of the answer: a tag or an
//! attribute that came with the marker, or a string in a script that ends inside it. Text that is shown as text, in
//! whatever way it is escaped, and JSON that no browser takes for a page, are no findings.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::aim::{Range, Shot, Slot, is_kept_out, is_little, shots, signs_in, signs_out, strongest, told_of};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::crawl::tags;
use crate::world::http::{Answer, Ask};

/// Scripts through every parameter, answered at once or kept.
pub struct Xss;

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Parameters that there are.
    all: usize,
    /// Parameters that were tried.
    tried: usize,
    /// Parameters that gave no answer.
    silent: usize,
    /// Answers that were pages, and so could have held a script.
    pages: usize,
    /// Payloads that a writing request took.
    written: usize,
    /// Of these, those that were shown again somewhere.
    shown: usize,
    /// Addresses that were read again.
    read: usize,
    reflected: Vec<Hole>,
    stored: Vec<Hole>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hole {
    route: String,
    parameter: String,
    /// Where in a page: `text`, `attribute`, `script`, `link`.
    context: String,
    /// The page that shows it, when it was kept.
    page: String,
}

const REFLECTED: (&str, &str) = ("sec.xss", "reflected");
const STORED: (&str, &str) = ("sec.xss", "stored");
const CONTROL: (&str, &str) = ("sec.xss", "control");
const MOST_SLOTS: usize = 400;
/// Shooting ends after this, so that what was found until then is told.
const LONGEST: Duration = Duration::from_secs(240);
const MOST_HOLES: usize = 20;
const MOST_PAGES: usize = 60;

impl Probe for Xss {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "xss",
        version: 3,
        question: "Can anybody put a script into the pages that others see?",
        does: "Sends harmless markers with the characters that matter in every parameter, and reads the answers and the pages that show what was written as a browser reads them.",
        shows: &[REFLECTED, STORED, CONTROL],
        needs: &[Need::Site],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(300),
        faults: &[
            Fault::Foil("xss-text", REFLECTED),
            Fault::Foil("xss-attribute", REFLECTED),
            Fault::Foil("xss-script", REFLECTED),
            Fault::Foil("xss-stored", STORED),
            Fault::Foil("xss-form", STORED),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let session = strongest(&world).await;
        let range = Range::new(&world, world.site()?, session);
        let mut shots = shots(&range).await;
        let untouched = shots.all.clone();
        let end = Instant::now() + LONGEST;
        let slots = shots.spread(|shot| !signs_out(&world, shot));
        let mut seen = Seen { all: slots.len() + shots.beyond(), ..Seen::default() };
        let mut written: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (number, slot) in slots {
            let Some(shot) = shots.all.get_mut(number) else { continue };
            if seen.tried >= MOST_SLOTS || seen.reflected.len() >= MOST_HOLES || Instant::now() > end {
                break;
            }
            seen.tried += 1;
            let mut answered = false;
            // The whole at first; where it is refused, its parts.
            let guarded = signs_in(&world, shot);
            for part in 0..if guarded { 1 } else { 3 } {
                let mark = mark();
                let text = payload(&mark, part);
                let ask = shot.with(&slot, &text).with("accept", "text/html,*/*");
                let Ok(answer) = range.fire(ask).await else { continue };
                answered |= !is_kept_out(&answer, guarded);
                seen.pages += usize::from(executes(&answer));
                let hole = |context: &str| Hole {
                    route: shot.label.clone(),
                    parameter: shot.slot_name(&slot),
                    context: context.to_owned(),
                    page: String::new(),
                };
                if let Some(context) = context(&answer, &mark) {
                    seen.reflected.push(hole(context));
                    break;
                }
                if leads(&answer, &mark) {
                    let link = shot.with(&slot, &format!("javascript:{mark}"));
                    if let Ok(answer) = range.fire(link).await
                        && executes(&answer)
                        && is_script_link(&answer, &mark)
                    {
                        seen.reflected.push(hole("link"));
                        break;
                    }
                }
                // Who sends a form is sent on to a page.
                let sent_on = !shot.reads() && answer.status.is_redirection();
                if answer.status.is_success() || sent_on {
                    if !shot.reads() {
                        written.insert(mark, (shot.label.clone(), shot.slot_name(&slot)));
                        // Else the next field's attempt would write over what this one wrote.
                        if matches!(slot, Slot::Json(_)) {
                            *shot = shot.keeping(&slot, &text);
                        }
                    }
                    break;
                }
            }
            seen.silent += usize::from(!answered);
        }
        seen.written = written.len();
        if !written.is_empty() {
            read_again(&world, &range, &untouched, &written, &mut seen).await;
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { all, tried, pages, written, shown, read, .. } = seen;
        let cut = !is_little(all.saturating_sub(*tried), *all);
        let reflected = match seen.reflected.first() {
            Some(Hole { route, parameter, context, .. }) => {
                let count = seen.reflected.len();
                Finding::broken(
                    REFLECTED,
                    words!(
                        "{count} of {tried} parameters come back unescaped, first {parameter} of {route}, in {context}",
                        "{count} av {tried} parametere kommer uescapet tilbake, først {parameter} i {route}, i {context}",
                        "{count} av {tried} parametrar kommer tillbaka oescapade, först {parameter} i {route}, i {context}"
                    ),
                )
            }
            None => {
                let because = words!(
                    "markers in {tried} parameters, {pages} answers that were pages: none came back unescaped",
                    "markører i {tried} parametere, {pages} svar som var sider: ingen kom uescapet tilbake",
                    "markörer i {tried} parametrar, {pages} svar som var sidor: ingen kom tillbaka oescapad"
                );
                let because = told_of(because, *tried, seen.all);
                // Where nothing was a page, nothing could have shown a script.
                if *tried == 0 || *pages == 0 || seen.silent > 0 || cut {
                    Finding::unseen(REFLECTED, because)
                } else {
                    Finding::held(REFLECTED, because)
                }
            }
        };
        let stored = match seen.stored.first() {
            Some(Hole { route, parameter, context, page }) => {
                let count = seen.stored.len();
                Finding::broken(
                    STORED,
                    words!(
                        "{count} of {written} kept markers are shown unescaped, first {parameter} of {route} on {page}, in {context}",
                        "{count} av {written} lagrede markører vises uescapet, først {parameter} i {route} på {page}, i {context}",
                        "{count} av {written} lagrade markörer visas oescapade, först {parameter} i {route} på {page}, i {context}"
                    ),
                )
            }
            None => {
                let because = words!(
                    "{written} markers were kept, {shown} of them shown again on {read} addresses, none unescaped",
                    "{written} markører ble lagret, {shown} av dem vist igjen på {read} adresser, ingen uescapet",
                    "{written} markörer lagrades, {shown} av dem visades igen på {read} adresser, ingen oescapad"
                );
                let because = told_of(because, *tried, seen.all);
                if *shown == 0 || cut {
                    Finding::unseen(STORED, because)
                } else {
                    Finding::held(STORED, because)
                }
            }
        };
        let control = words!(
            "planted pages with holes in text, attribute, script and store were sought too",
            "plantede sider med hull i tekst, attributt, skript og lager ble også søkt",
            "planterade sidor med hål i text, attribut, skript och lager söktes också"
        );
        vec![reflected, stored, Finding::held(CONTROL, control)]
    }
}

async fn read_again(
    world: &World,
    range: &Range<'_>,
    shots: &[Shot],
    written: &BTreeMap<String, (String, String)>,
    seen: &mut Seen,
) {
    let mut asks: Vec<Ask> =
        shots.iter().filter(|shot| shot.reads() && !signs_out(world, shot)).map(Shot::plain).collect();
    if let Ok(crawl) = world.crawl().await {
        asks.extend(crawl.pages.keys().chain(&crawl.queries).map(Ask::get));
    }
    let mut shown = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for ask in asks {
        if paths.len() >= MOST_PAGES || !paths.insert(ask.path.clone()) {
            continue;
        }
        let path = ask.path.clone();
        let Ok(answer) = range.fire(ask.with("accept", "text/html,*/*")).await else { continue };
        let text = answer.text();
        seen.read += 1;
        for (mark, (route, parameter)) in written {
            if !text.contains(mark.as_str()) {
                continue;
            }
            shown.insert(mark.as_str());
            if let Some(context) = context(&answer, mark)
                && seen.stored.len() < MOST_HOLES
                && !seen.stored.iter().any(|hole| hole.route == *route && hole.parameter == *parameter)
            {
                seen.stored.push(Hole {
                    route: route.clone(),
                    parameter: parameter.clone(),
                    context: context.to_owned(),
                    page: path.chars().take(100).collect(),
                });
            }
        }
    }
    seen.shown = shown.len();
}

/// A marker: what it begins with is in no app by chance.
pub(in crate::checks) fn mark() -> String {
    format!("kx{:06x}", fastrand::u32(..1 << 24))
}

/// The text that carries a marker: `0` is the whole of it, for where that is refused there are parts.
pub(in crate::checks) fn payload(mark: &str, part: usize) -> String {
    match part {
        0 => format!("{mark} {mark}u=1 \" {mark}d=1 ' {mark}s=1 --><{mark}t>"),
        1 => format!("{mark}<{mark}t>"),
        _ => format!("{mark}\" {mark}d=1"),
    }
}

/// Whether a browser takes the answer for something with scripts in it.
fn executes(answer: &Answer) -> bool {
    let kind = answer.media_type();
    let sniffs = !answer
        .header("x-content-type-options")
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("nosniff"));
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" | "image/svg+xml" => true,
        "" => sniffs,
        _ => false,
    }
}

/// Where in a page the marker became more than text.
fn context(answer: &Answer, mark: &str) -> Option<&'static str> {
    if !executes(answer) {
        return None;
    }
    let page = answer.text();
    if !page.contains(mark) {
        return None;
    }
    let element = format!("{mark}t");
    for tag in tags(&page) {
        if tag.name == element {
            return Some("text");
        }
        for (name, value) in &tag.attributes {
            if name.starts_with(mark) && tag.name != element {
                return Some("attribute");
            }
            if name.starts_with("on") && breaks_out(value, mark) {
                return Some("script");
            }
        }
    }
    scripts(&page).into_iter().any(|script| breaks_out(script, mark)).then_some("script")
}

/// The insides of the scripts of a page that are scripts and not data.
fn scripts(page: &str) -> Vec<&str> {
    let lower = page.to_ascii_lowercase();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = lower.get(at..).and_then(|rest| rest.find("<script")).map(|found| at + found) {
        let Some(open) = lower[start..].find('>').map(|end| start + end + 1) else { break };
        let end = lower[open..].find("</script").map_or(page.len(), |end| open + end);
        let head = &lower[start..open];
        if !head.contains("json") && !head.contains("template") {
            found.extend(page.get(open..end));
        }
        at = end.max(open);
    }
    found
}

/// Whether a string of a script ends inside the marker's text.
fn breaks_out(script: &str, mark: &str) -> bool {
    script.lines().any(|line| {
        let Some(at) = line.find(mark) else { return false };
        let mut inside: Option<char> = None;
        let mut escaped = false;
        for c in line[..at].chars() {
            match inside {
                Some(_) if escaped => escaped = false,
                Some(_) if c == '\\' => escaped = true,
                Some(quote) if c == quote => inside = None,
                Some(_) => {}
                None if "'\"`".contains(c) => inside = Some(c),
                None => {}
            }
        }
        let Some(quote) = inside else { return false };
        // From the marker's beginning to its last piece.
        let last = line.rfind(mark).unwrap_or(at);
        escaped = false;
        for c in line[at..last].chars() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                return true;
            }
        }
        false
    })
}

const LINKS: [&str; 4] = ["href", "src", "action", "formaction"];

/// Whether the marker is the beginning of where a link leads.
fn leads(answer: &Answer, mark: &str) -> bool {
    executes(answer)
        && tags(&answer.text())
            .iter()
            .any(|tag| LINKS.iter().any(|name| tag.get(name).is_some_and(|to| to.starts_with(mark))))
}

fn is_script_link(answer: &Answer, mark: &str) -> bool {
    let link = format!("javascript:{mark}");
    tags(&answer.text()).iter().any(|tag| LINKS.iter().any(|name| tag.get(name) == Some(&link)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    fn page(kind: &str, body: &str) -> Answer {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        Answer { status: http::StatusCode::OK, headers, body: body.to_owned().into(), took: Duration::ZERO }
    }

    #[test]
    fn without_pages_nothing_could_come_back() {
        let saw = |seen: Seen| {
            let found = Xss::judge(&seen);
            [found[0].saw, found[1].saw]
        };
        let good = || Seen { all: 40, tried: 40, pages: 9, written: 3, shown: 2, read: 5, ..Seen::default() };
        assert_eq!(saw(good()), [Saw::Held; 2]);
        assert_eq!(saw(Seen { pages: 0, ..good() }), [Saw::Unseen, Saw::Held]);
        assert_eq!(saw(Seen { all: 90, ..good() }), [Saw::Unseen; 2]);
        assert_eq!(saw(Seen { shown: 0, silent: 1, ..good() }), [Saw::Unseen; 2]);
    }

    #[test]
    fn contexts() {
        let mark = "kx123456";
        let raw = payload(mark, 0);
        let no_tags = raw.replace('<', "&lt;").replace('>', "&gt;");
        let safe = no_tags.replace('"', "&quot;").replace('\'', "&#39;");
        let script = raw.replace('<', "\\u003c");
        for (body, expected) in [
            (format!("<p>{raw}</p>"), Some("text")),
            (format!("<p>{safe}</p>"), None),
            (format!("<p>{no_tags}</p>"), None),
            (format!("<input value=\"{no_tags}\">"), Some("attribute")),
            (format!("<input value='{no_tags}'>"), Some("attribute")),
            (format!("<input value={safe}>"), Some("attribute")),
            (format!("<input value=\"{safe}\">"), None),
            (format!("<!-- {safe} -->"), None),
            (format!("<!-- {raw} -->"), Some("text")),
            (format!("<script>var q = \"{script}\";</script>"), Some("script")),
            (format!("<script>var q = 'it {script}';</script>"), Some("script")),
            (format!("<script>var q = \"{}\";</script>", script.replace('"', "\\\"")), None),
            (format!("<script type=\"application/json\">{{\"q\":\"{script}\"}}</script>"), None),
            (format!("<script>var q = \"{raw}\";</script>"), Some("script")),
            (format!("<a onclick=\"go('{safe}')\">"), Some("script")),
        ] {
            assert_eq!(context(&page("text/html; charset=utf-8", &body), mark), expected, "{body}");
        }
        assert_eq!(context(&page("application/json", &raw), mark), None);
    }
}
