//! A walk through an app in a browser: what is visited next, and which of many places of a kind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// Places of one kind that links lead to, and places of one kind where something was written.
const OF_A_KIND: usize = 3;
/// Places that differ in their last segment only, below the first level: `/products/red-lamp`.
const OF_A_FOLDER: usize = 6;
/// Places that a walk knows, ids and paths that it remembers: strangers make them.
const MOST_MET: usize = 2000;
const MOST_TRACES: usize = 200;

/// Where something was written: ids by what they are of, and the paths of the requests.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// `("order", "17")`, and how often.
    ids: BTreeMap<(String, String), usize>,
    paths: BTreeSet<String>,
}

/// What is still to be visited.
#[derive(Debug)]
pub(super) struct Walk {
    waiting: VecDeque<String>,
    met: BTreeSet<String>,
    of_a_kind: BTreeMap<String, usize>,
    of_a_folder: BTreeMap<String, usize>,
    traces: Traces,
    /// What the first page links to.
    pub(super) first: Vec<String>,
}

impl Traces {
    /// A request that was taken: its path, its body and its answer name what it was about.
    pub(super) fn add(&mut self, path: &str, body: Option<&Value>, answer: Option<&Value>) {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        if self.paths.len() < MOST_TRACES {
            self.paths.insert(path.to_owned());
        }
        let mut noun = String::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if is_id(segment) {
                self.id(&noun, segment);
            } else {
                noun = kin(segment);
            }
        }
        for value in [body, answer].into_iter().flatten() {
            self.read(value, &noun, 3);
        }
    }

    fn read(&mut self, value: &Value, noun: &str, depth: usize) {
        let Some(fields) = value.as_object().filter(|_| depth > 0) else { return };
        for (name, value) in fields {
            let of = name.strip_suffix("_id").or_else(|| name.strip_suffix("Id"));
            let of = of.map(kin).or_else(|| name.eq_ignore_ascii_case("id").then(|| noun.to_owned()));
            let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|id| id.to_string()));
            match (of, text) {
                (Some(of), Some(text)) if is_id(&text) => self.id(&of, &text),
                _ => self.read(value, &kin(name), depth - 1),
            }
        }
    }

    fn id(&mut self, noun: &str, id: &str) {
        let key = (noun.to_owned(), id.to_owned());
        if self.ids.len() < MOST_TRACES || self.ids.contains_key(&key) {
            *self.ids.entry(key).or_default() += 1;
        }
    }

    /// Places of this kind at which something may have been written, the likeliest first.
    fn places(&self, kind: &str) -> Vec<String> {
        let mut found = Vec::new();
        // `/api/orders/17/notes` names `/orders/17`, too.
        for path in &self.paths {
            let segments: Vec<&str> =
                path.split('/').filter(|segment| !segment.is_empty()).take(12).collect();
            for from in 0..segments.len() {
                for to in from + 1..=segments.len() {
                    let place = format!("/{}", segments.get(from..to).unwrap_or_default().join("/"));
                    if kind_of(&place) == kind {
                        found.push(place);
                    }
                }
            }
        }
        let mut parts = kind.split(":id");
        if let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) {
            let noun = kin(before.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
            let mut ids: Vec<_> = self.ids.iter().collect();
            ids.sort_by_key(|((of, _), count)| (*of != noun, std::cmp::Reverse(**count)));
            // Where none is of this kind by its name, it may have another name here.
            let known = ids.first().is_some_and(|((of, _), _)| *of == noun);
            let ids = ids.into_iter().filter(|((of, _), _)| !known || *of == noun);
            found.extend(ids.map(|((_, id), _)| format!("{before}{id}{after}")));
        }
        found
    }
}

impl Walk {
    pub(super) fn new(traces: Traces) -> Self {
        Self {
            waiting: VecDeque::new(),
            met: BTreeSet::new(),
            of_a_kind: BTreeMap::new(),
            of_a_folder: BTreeMap::new(),
            traces,
            first: Vec::new(),
        }
    }

    /// A place that a link leads to.
    pub(super) fn offer(&mut self, place: &str) {
        if self.met.len() >= MOST_MET || !is_place(place) || !self.met.insert(place.to_owned()) {
            return;
        }
        let kind = kind_of(place);
        let path = place.split(['?', '#']).next().unwrap_or(place);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let of_a_kind = self.of_a_kind.entry(kind.clone()).or_default();
        let is_new = *of_a_kind == 0;
        *of_a_kind += 1;
        let mut few = *of_a_kind <= OF_A_KIND;
        if is_new && !folder.is_empty() {
            let of_a_folder = self.of_a_folder.entry(folder.to_owned()).or_default();
            *of_a_folder += 1;
            few &= *of_a_folder <= OF_A_FOLDER;
        }
        if few {
            self.waiting.push_back(place.to_owned());
        }
        if is_new && kind.contains(":id") {
            // Now that it is known that there are such places, those where something was written come first.
            let mut written = self.traces.places(&kind);
            written.retain(|place| self.waiting.contains(place) || self.met.insert(place.clone()));
            written.truncate(OF_A_KIND);
            for place in written.into_iter().rev() {
                self.waiting.retain(|waits| *waits != place);
                self.waiting.push_front(place);
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }

    /// All places that links led to.
    pub(super) fn met(&self) -> impl Iterator<Item = &String> {
        self.met.iter()
    }

    /// The first place of each kind, each path once.
    pub(super) fn level<'p>(places: impl Iterator<Item = &'p str>, most: usize) -> Vec<String> {
        let mut kinds = BTreeSet::new();
        let mut found = Vec::new();
        for place in places.filter(|place| is_place(place)) {
            let path = place.split('?').next().unwrap_or(place);
            let path = if place.contains('#') { place } else { path };
            if found.len() < most && kinds.insert(kind_of(path)) {
                found.push(path.to_owned());
            }
        }
        found
    }
}

/// The names of the parameters of an address.
pub(super) fn query_names(place: &str) -> impl Iterator<Item = String> {
    let query = place.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let fine = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
    names
        .filter(move |name| !name.is_empty() && name.len() <= 40 && name.chars().all(fine))
        .map(str::to_owned)
}

/// Whether a link leads to a page that may be visited: no file, and not out of the session.
fn is_place(place: &str) -> bool {
    let path = place.split(['?', '#']).next().unwrap_or(place).to_ascii_lowercase();
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_file = last.rsplit_once('.').is_some_and(|(name, kind)| {
        !name.is_empty()
            && (2..=5).contains(&kind.len())
            && !["html", "htm", "php", "aspx", "jsp"].contains(&kind)
    });
    let ends = ["logout", "signout", "sign-out", "log-out", "logg-ut", "logga-ut"];
    place.starts_with('/') && !is_file && !ends.iter().any(|word| path.contains(word))
}

/// What places are alike by: `/orders/17?page=2` is `/orders/:id?page`.
fn kind_of(place: &str) -> String {
    let (place, fragment) = place.split_once('#').map_or((place, ""), |(place, fragment)| (place, fragment));
    let named = |path: &str| {
        path.split('/')
            .map(|segment| if is_id(segment) { ":id" } else { segment })
            .collect::<Vec<_>>()
            .join("/")
    };
    let mut kind = named(place.split('?').next().unwrap_or(place));
    if !fragment.is_empty() {
        kind += &format!("#{}", named(fragment.split('?').next().unwrap_or(fragment)));
    }
    let mut names: Vec<String> = query_names(place).collect();
    names.sort();
    names.dedup();
    if !names.is_empty() {
        kind += &format!("?{}", names.join("&"));
    }
    kind
}

/// Numbers, UUIDs and long hexadecimal names.
fn is_id(segment: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit();
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    !segment.is_empty()
        && segment.len() <= 64
        && (segment.chars().all(digits)
            || segment.len() >= 16 && segment.chars().all(hex) && segment.contains(digits))
}

/// One order of many orders.
fn kin(noun: &str) -> String {
    noun.to_ascii_lowercase().trim_end_matches('s').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn walked(traces: Traces, places: &[&str]) -> Vec<String> {
        let mut walk = Walk::new(traces);
        places.iter().for_each(|place| walk.offer(place));
        std::iter::from_fn(|| walk.next()).collect()
    }

    #[test]
    fn few_of_each_kind_are_visited() {
        for (place, kind) in [
            ("/orders/17", "/orders/:id"),
            ("/o/0190163d-8694-739b-aea5-966c26f8ad91/lines?b=1&a=2", "/o/:id/lines?a&b"),
            ("/orders/new", "/orders/new"),
            ("/#/orders/17?x=1", "/#/orders/:id"),
            ("/facade", "/facade"),
        ] {
            assert_eq!(kind_of(place), kind);
        }
        let places =
            ["/", "/orders/1", "/orders/2", "/orders/1", "/orders/3", "/orders/4", "/help", "/help?x=1"];
        assert_eq!(
            walked(Traces::default(), &places),
            ["/", "/orders/1", "/orders/2", "/orders/3", "/help", "/help?x=1"]
        );
        let many: Vec<String> = ('a'..='z').map(|name| format!("/things/{name}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(walked(Traces::default(), &many).len(), OF_A_FOLDER);
        let no = ["/logout", "/files/a.pdf", "/session/sign-out?x", "/s.css", "mailto:x"];
        assert_eq!(walked(Traces::default(), &no), Vec::<String>::new());
        assert_eq!(
            walked(Traces::default(), &["/a.html", "/v1.2/x", "/.well"]),
            ["/a.html", "/v1.2/x", "/.well"]
        );
    }

    #[test]
    fn where_something_was_written_is_visited_first() {
        let traces = |wrote: &[(&str, Value, Value)]| {
            let mut traces = Traces::default();
            for (path, body, answer) in wrote {
                traces.add(path, Some(body), Some(answer));
            }
            traces
        };
        let links = ["/", "/orders/90", "/orders/91"];
        for (path, body, answer, first) in [
            // The path names it, with and without the prefix of the API.
            ("/api/orders/17/notes", json!({"text": "x"}), json!({"id": 4000}), "/orders/17"),
            ("/orders/17", json!({}), json!({}), "/orders/17"),
            // The body or the answer does.
            ("/api/notes", json!({"order_id": 17, "text": "x"}), json!({"id": 4000}), "/orders/17"),
            ("/api/orders", json!({"note": "x"}), json!({"id": 17, "user_id": 3}), "/orders/17"),
            ("/api/new", json!({}), json!({"order": {"id": "17"}, "user": {"id": 3}}), "/orders/17"),
            // Nothing there is called an order: then it may be anything that has an id.
            ("/api/bestillinger", json!({}), json!({"id": 17}), "/orders/17"),
        ] {
            let visited = walked(traces(&[(path, body, answer)]), &links);
            assert_eq!(visited, [first, "/", "/orders/90", "/orders/91"], "{path}");
        }
        // What was written to most comes first, and no more than a few; a link to one of them is no second visit.
        let wrote = [(17, 1), (18, 3), (19, 2), (20, 1), (90, 2)].into_iter().flat_map(|(id, times)| {
            (0..times).map(move |_| ("/api/notes", json!({"order_id": id}), json!({})))
        });
        let wrote: Vec<_> = wrote.collect();
        assert_eq!(
            walked(traces(&wrote), &links),
            ["/orders/18", "/orders/19", "/orders/90", "/", "/orders/91"]
        );
        // Places of a kind that no link has shown are not made up.
        assert_eq!(
            walked(traces(&[("/api/orders/17", json!({}), json!({}))]), &["/", "/help"]),
            ["/", "/help"]
        );
    }

    #[test]
    fn the_first_level_has_each_kind_once() {
        let places = ["/", "/search?q=1", "/search?q=2", "/orders/1", "/orders/2", "/#/a?x=1", "/logout"];
        assert_eq!(Walk::level(places.into_iter(), 10), ["/", "/search", "/orders/1", "/#/a?x=1"]);
        assert_eq!(Walk::level(places.into_iter(), 2).len(), 2);
        assert_eq!(query_names("/a?q=1&b[]=2&&=x&ü=1#c?d=1").collect::<Vec<_>>(), ["q", "b[]"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_links_are_survived(places in proptest::collection::vec("[/a0?=&#.:-]{0,30}|\\PC{0,20}", 0..20)) {
            let mut traces = Traces::default();
            places.iter().for_each(|place| traces.add(place, None, None));
            let mut walk = Walk::new(traces);
            places.iter().for_each(|place| walk.offer(place));
            let mut visited = BTreeSet::new();
            while let Some(place) = walk.next() {
                prop_assert!(visited.insert(place));
            }
        }
    }
}
