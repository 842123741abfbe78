//! Route templates, learnt from traffic: `/orders/17` and `/orders/18` are one route, `/orders/{id}`.
//!
//! A segment of a path becomes a variable where it looks like one (digits, UUIDs, hashes, dates), or where so many others
//! stand beside it that they cannot all be names somebody thought of. Only paths that exist teach: what is answered with
//! 404 is counted under what is known already, or under the pattern of `klar.toml`, so a scanner makes no routes.
//!
//! What is learnt is bounded, and is written down as the templates themselves.

use std::collections::BTreeMap;

/// Literal segments beside each other, before all of them are taken for values.
const SIBLINGS_MAX: usize = 40;
/// Segments of all templates of an app.
const NODES_MAX: usize = 2_000;
/// Segments of a path that are looked at; the rest is `**`.
const DEPTH_MAX: usize = 10;
/// A longer segment, in bytes, is no name.
const NAME_MAX: usize = 40;
/// What stands for a segment that looks like a value.
const VARIABLE: &str = "{id}";
/// What stands for a segment that is one of too many names.
const NAME: &str = "{name}";
/// What stands for the rest of a path.
const REST: &str = "**";

/// What is known of the paths of an app.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    root: Node,
    nodes: usize,
    /// Counts what was learnt, to know when to write it down.
    pub changes: u64,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    /// A path ends here.
    ends: bool,
    /// So many names stood beside each other here that all of them are values.
    variable: bool,
}

impl Node {
    /// Takes in all that is known of another node.
    fn merge(&mut self, other: Self) {
        self.ends |= other.ends;
        self.variable |= other.variable;
        for (name, child) in other.children {
            let name = if self.variable && is_name(&name) { NAME.into() } else { name };
            self.children.entry(name).or_default().merge(child);
        }
        if self.variable {
            self.collapse();
        }
    }

    /// From here on all names are values.
    fn collapse(&mut self) {
        self.variable = true;
        let (names, mut kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.children).into_iter().partition(|(name, _)| is_name(name));
        if !names.is_empty() {
            let joined: &mut Self = kept.entry(NAME.into()).or_default();
            names.into_values().for_each(|child| joined.merge(child));
        }
        self.children = kept;
    }

    /// What a segment is called beneath this.
    fn known_as<'a>(&self, segment: &'a str) -> &'a str {
        if self.variable && is_name(segment) { NAME } else { segment }
    }

    fn size(&self) -> usize {
        1 + self.children.values().map(Self::size).sum::<usize>()
    }

    fn templates(&self, prefix: &str, out: &mut Vec<String>) {
        if self.ends {
            out.push(if prefix.is_empty() { "/".into() } else { prefix.to_owned() });
        }
        for (name, child) in &self.children {
            child.templates(&format!("{prefix}/{name}"), out);
        }
    }
}

impl Routes {
    /// From templates that were written down.
    pub fn from_templates<'a>(templates: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes = Self::default();
        for template in templates {
            let mut node = &mut routes.root;
            for segment in template.split('/').filter(|segment| !segment.is_empty()).take(DEPTH_MAX + 1) {
                node = node.children.entry(segment.into()).or_default();
            }
            node.ends = true;
        }
        routes.nodes = routes.root.size();
        // Where values were found by their number, they will be again.
        mark_variables(&mut routes.root);
        routes
    }

    /// All that are known, as they are written down.
    pub fn templates(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.root.templates("", &mut out);
        out
    }

    /// The template of a path; `exists`: the answer says that there is something. `None`: nothing is known of it.
    pub fn template(&mut self, path: &str, exists: bool) -> Option<String> {
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if segments.len() == DEPTH_MAX {
                segments.push(REST.to_owned());
                break;
            }
            segments.push(shape(segment));
        }
        if exists && self.learn(&segments) {
            self.changes += 1;
        }
        let mut node = &self.root;
        let mut template = String::new();
        for segment in &segments {
            let name = node.known_as(segment);
            node = node.children.get(name)?;
            template.push('/');
            template.push_str(name);
        }
        if template.is_empty() {
            template.push('/');
        }
        node.ends.then_some(template)
    }

    /// Whether there was something to learn.
    fn learn(&mut self, segments: &[String]) -> bool {
        let mut new = false;
        let mut collapsed = false;
        let mut node = &mut self.root;
        for segment in segments {
            let name = node.known_as(segment);
            if !node.children.contains_key(name) {
                if self.nodes >= NODES_MAX {
                    return new;
                }
                self.nodes += 1;
                new = true;
                node.children.insert(name.into(), Node::default());
                if node.children.keys().filter(|name| is_name(name)).count() > SIBLINGS_MAX {
                    node.collapse();
                    collapsed = true;
                }
            }
            let name = node.known_as(segment);
            // It was there, or has just been put there.
            let Some(next) = node.children.get_mut(name) else { return new };
            node = next;
        }
        new |= !std::mem::replace(&mut node.ends, true);
        if collapsed {
            self.nodes = self.root.size();
        }
        new
    }
}

fn mark_variables(node: &mut Node) {
    node.variable = node.children.contains_key(NAME);
    node.children.values_mut().for_each(mark_variables);
}

/// Whether a segment of a template is a name, and no variable.
fn is_name(segment: &str) -> bool {
    !segment.starts_with('{') && !segment.starts_with('*')
}

/// A segment of a path as it stands in a template.
fn shape(segment: &str) -> String {
    if segment.contains('@') || segment.contains("%40") {
        // An address of somebody.
        return VARIABLE.into();
    }
    let (stem, extension) = match segment.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty()
                && (1..=5).contains(&extension.len())
                && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && extension.bytes().any(|byte| byte.is_ascii_alphabetic()) =>
        {
            (stem, Some(extension))
        }
        _ => (segment, None),
    };
    match extension {
        // Files that a build made have their digest in their names, and there are many: one route for each kind.
        Some(extension) if is_asset(extension) => format!("*.{}", extension.to_ascii_lowercase()),
        Some(extension) if is_value(stem) => format!("{VARIABLE}.{extension}"),
        None if is_value(segment) => VARIABLE.into(),
        // What is written like a variable, or is no text that belongs into a label, is a value.
        _ if !is_name(segment) || segment.bytes().any(|byte| !byte.is_ascii_graphic()) => VARIABLE.into(),
        _ => segment.into(),
    }
}

fn is_asset(extension: &str) -> bool {
    const ASSETS: [&str; 22] = [
        "js", "mjs", "css", "map", "png", "jpg", "jpeg", "gif", "webp", "avif", "svg", "ico", "woff",
        "woff2", "ttf", "otf", "mp4", "webm", "mp3", "wasm", "txt", "pdf",
    ];
    ASSETS.iter().any(|one| one.eq_ignore_ascii_case(extension))
}

/// Whether a segment looks like a value: a number, a UUID, a hash, a date, a token, a slug with a number.
fn is_value(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let count = |is: fn(&u8) -> bool| bytes.iter().filter(|byte| is(byte)).count();
    let (digits, letters) = (count(u8::is_ascii_digit), count(u8::is_ascii_alphabetic));
    if bytes.len() > NAME_MAX {
        return true;
    }
    if digits == 0 {
        return false;
    }
    let is_number = letters == 0;
    // `v1` and `api2` are names; `2024-spring-sale` and `17-blue-shirt` are not.
    let begins_with_number = bytes.first().is_some_and(u8::is_ascii_digit)
        && (bytes.len() > 2 || letters == 0)
        && !matches!(segment, "2fa" | "3ds" | "404");
    let is_hex = bytes.len() >= 8 && bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let is_token = bytes.len() >= 16 && digits >= 2;
    is_number || begins_with_number || is_hex || is_token || digits >= 6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_a_value_is_one() {
        let mut routes = Routes::default();
        for (path, template) in [
            ("/", "/"),
            ("/orders", "/orders"),
            ("/orders/17", "/orders/{id}"),
            ("/orders/18/lines/3", "/orders/{id}/lines/{id}"),
            ("/api/v1/users/6f1d0b9e-8f1c-4a53-9d9e-0f6a6a1b2c3d", "/api/v1/users/{id}"),
            ("/api/v2/users/me", "/api/v2/users/me"),
            ("/files/9f86d081884c7d65", "/files/{id}"),
            ("/blog/2024-05-17", "/blog/{id}"),
            ("/blog/17-blue-shirts", "/blog/{id}"),
            ("/login/2fa", "/login/2fa"),
            ("/u/kari%40example.com", "/u/{id}"),
            ("/export/17.csv", "/export/{id}.csv"),
            ("/export/all.csv", "/export/all.csv"),
            ("/assets/index-B7xk2.js", "/assets/*.js"),
            ("/logo.PNG", "/*.png"),
            ("//orders//17/", "/orders/{id}"),
            ("/{evil}", "/{id}"),
            ("/sk\u{e5}l", "/{id}"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l", "/a/b/c/d/e/f/g/h/i/j/**"),
        ] {
            assert_eq!(routes.template(path, true).as_deref(), Some(template), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_teaches_nothing() {
        let mut routes = Routes::default();
        assert_eq!(routes.template("/wp-login.php", false), None);
        assert_eq!(routes.template("/orders/17", true).as_deref(), Some("/orders/{id}"));
        assert_eq!(routes.template("/orders/99", false).as_deref(), Some("/orders/{id}"));
        assert_eq!(routes.template("/orders", false), None, "nothing ends there");
        assert_eq!(routes.templates(), ["/orders/{id}"]);
    }

    #[test]
    fn too_many_names_are_values() {
        let mut routes = Routes::default();
        let names: Vec<String> =
            ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}"))).collect();
        for name in &names {
            routes.template(&format!("/shop/{name}/reviews"), true);
            routes.template(&format!("/shop/{name}"), true);
        }
        routes.template("/shop/cart.json", true);
        assert_eq!(routes.templates(), ["/shop/{name}", "/shop/{name}/reviews"]);
        assert_eq!(routes.template("/shop/never-seen", false).as_deref(), Some("/shop/{name}"));
        // As it is written down, and read again.
        let again = Routes::from_templates(routes.templates().iter().map(String::as_str));
        assert_eq!(again.templates(), routes.templates());
        let mut again = again;
        assert_eq!(again.template("/shop/never-seen", false).as_deref(), Some("/shop/{name}"));
    }

    proptest! {
        /// Whatever comes, there are not more than so many, what is known stays known, and what is written down is what
        /// was known.
        #[test]
        fn it_is_bounded_and_can_be_written_down(paths in proptest::collection::vec("(/[a-z0-9{}*.%-]{0,12}){0,14}", 1..200)) {
            let mut routes = Routes::default();
            for path in &paths {
                let first = routes.template(path, true);
                prop_assert!(first.is_some(), "{path}");
            }
            prop_assert!(routes.nodes <= NODES_MAX + 1);
            let mut again = Routes::from_templates(routes.templates().iter().map(String::as_str));
            prop_assert_eq!(again.templates(), routes.templates());
            for path in &paths {
                prop_assert!(again.template(path, false).is_some(), "{}", path);
            }
        }
    }
}
