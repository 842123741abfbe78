//! Forgetting on request: all, one address, what begins alike, or what has a name.

use std::cell::RefCell;
use std::collections::HashMap;

use klar_base::AppKey;
use klar_base::upstreams::Purge;

use super::Cache;
use super::disk::Meta;
use super::key::Selector;
use super::store::Name;

impl Cache {
    /// Forgets answers of an app, and says how many there were. What is on its way is not kept either.
    pub fn purge(&self, app: &AppKey, what: &Purge) -> usize {
        let gone = RefCell::new(HashMap::<Name, Vec<Selector>>::new());
        let count = self.store.purge(|name, stored| {
            let goes = name.app == *app && matches(what, name, &stored.tags);
            if goes && self.disk.is_some() {
                gone.borrow_mut().entry(name.clone()).or_default().push(stored.selector.clone());
            }
            goes
        });
        let Some(disk) = &self.disk else { return count };
        // Most of what was in memory is on disk as well.
        let gone = gone.into_inner();
        let is_counted = |meta: &Meta| gone.get(&meta.name).is_some_and(|all| all.contains(&meta.selector));
        count + disk.purge(app, what).iter().filter(|meta| !is_counted(meta)).count()
    }
}

/// Whether a purge takes out an answer with this name and these tags.
pub fn matches(what: &Purge, name: &Name, tags: &[Box<str>]) -> bool {
    match what {
        Purge::All => true,
        Purge::Tag(wanted) => tags.iter().any(|tag| **tag == **wanted),
        Purge::Url(url) => {
            let (host, target) = split(url);
            host.is_none_or(|host| host == name.host) && target == name.target
        }
        Purge::Prefix(url) => {
            let (host, target) = split(url);
            host.is_none_or(|host| host == name.host) && name.target.starts_with(target)
        }
    }
}

/// The host of an address, without its port and in small letters, where it has one; and its path and query.
fn split(url: &str) -> (Option<String>, &str) {
    let url = url.split('#').next().unwrap_or_default();
    let Some((_, rest)) = url.split_once("://").filter(|_| !url.starts_with('/')) else { return (None, url) };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    };
    (Some(host.to_ascii_lowercase()), if target.is_empty() { "/" } else { target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart() {
        for (url, host, target) in [
            ("/a?b", None, "/a?b"),
            ("/a#b", None, "/a"),
            ("/to?https://x/", None, "/to?https://x/"),
            ("https://Shop.example:8443/a?b", Some("shop.example"), "/a?b"),
            ("https://shop.example", Some("shop.example"), "/"),
            ("https://[::1]:8443/a", Some("[::1]"), "/a"),
        ] {
            assert_eq!(split(url), (host.map(String::from), target), "{url}");
        }
    }
}
