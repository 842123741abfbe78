//! Room, order, and what must not come back.

use std::time::{Duration, Instant, SystemTime};

use http::Method;
use klar_base::upstreams::CacheRules;
use proptest::prelude::*;

use super::super::policy::{Asked, Times, judge};
use super::*;

fn key(target: &str) -> Key {
    Key::new(&"shop.prod".parse().unwrap(), 0, "shop.test", target)
}

fn name(target: &str) -> Name {
    Name { app: "shop.prod".parse().unwrap(), host: "shop.test".into(), target: target.into() }
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(pair).collect()
}

fn stored(len: usize, vary: &'static str, request: &[(&'static str, &'static str)]) -> Arc<Stored> {
    let answer = headers(&[("cache-control", "max-age=60"), ("vary", vary)]);
    let request = headers(request);
    let asked = Asked::judge(&Method::GET, &request, "").unwrap();
    let now = Instant::now();
    let times = Times { sent: now, received: now, date: SystemTime::now() };
    Arc::new(Stored {
        status: StatusCode::OK,
        facts: judge(&asked, StatusCode::OK, &answer, times, &CacheRules::default()).unwrap(),
        selector: Selector::of(&answer, &request).unwrap(),
        headers: answer,
        body: vec![b'x'; len].into(),
        tags: vec!["all".into()],
        written: Written::default(),
    })
}

fn put(store: &Store, target: &str, len: usize) -> bool {
    store.put(&key(target), &name(target), store.ticket(&key(target)), stored(len, "", &[]))
}

fn has(store: &Store, target: &str) -> bool {
    store.find(&key(target), &HeaderMap::new()).0.is_some()
}

/// What the store says that it uses is what is in it.
fn check(store: &Store) {
    let (mut used, mut small) = (0, 0);
    for shard in &store.shards {
        let shard = lock(shard);
        used += shard.slots.values().map(|slot| slot.len).sum::<usize>();
        let smalls: usize = shard.slots.values().filter(|slot| slot.is_small).map(|slot| slot.len).sum();
        assert_eq!(shard.small_len, smalls);
        small += smalls;
        let queued = shard.small.iter().chain(&shard.large);
        let live =
            queued.filter(|(key, serial)| shard.slots.get(key).is_some_and(|slot| slot.serial == *serial));
        assert_eq!(live.count(), shard.slots.len(), "each slot is in one queue");
        assert!(shard.ghosts.len() <= GHOSTS_MAX);
    }
    assert_eq!(store.used(), used);
    assert!(used <= store.room() && small <= used);
}

#[test]
fn what_is_put_in_is_found() {
    let store = Store::new(1 << 20);
    assert!(!has(&store, "/"));
    assert!(put(&store, "/", 100) && has(&store, "/") && !has(&store, "/b"));
    assert!(put(&store, "/", 200));
    assert_eq!(store.find(&key("/"), &HeaderMap::new()).0.unwrap().body.len(), 200);
    check(&store);
    assert!(store.remove(&key("/")) && !has(&store, "/") && !store.remove(&key("/")));
    assert_eq!(store.used(), 0);
}

#[test]
fn variants_live_beside_each_other() {
    let store = Store::new(1 << 20);
    let languages = ["nb", "sv", "en"];
    for language in languages {
        let variant = stored(100, "accept-language", &[("accept-language", language)]);
        assert!(store.put(&key("/"), &name("/"), store.ticket(&key("/")), variant));
    }
    for language in languages {
        let (found, _) = store.find(&key("/"), &headers(&[("accept-language", language)]));
        assert!(found.is_some(), "{language}");
    }
    let (found, others) = store.find(&key("/"), &headers(&[("accept-language", "fr")]));
    assert!(found.is_none() && others.is_some());
    for number in 0..2 * VARIANTS_MAX {
        let language: &'static str = Box::leak(format!("x{number}").into_boxed_str());
        let variant = stored(100, "accept-language", &[("accept-language", language)]);
        store.put(&key("/"), &name("/"), store.ticket(&key("/")), variant);
    }
    assert!(store.find(&key("/"), &headers(&[("accept-language", "nb")])).0.is_none(), "the oldest went");
    check(&store);
}

#[test]
fn what_was_cleared_does_not_come_back() {
    let store = Store::new(1 << 20);
    let before = store.ticket(&key("/"));
    store.remove(&key("/"));
    assert!(!store.put(&key("/"), &name("/"), before, stored(1, "", &[])), "removed meanwhile");
    let before = store.ticket(&key("/"));
    assert_eq!(store.purge(|_, _| false), 0);
    assert!(!store.put(&key("/"), &name("/"), before, stored(1, "", &[])), "purged meanwhile");
    assert!(put(&store, "/", 1));
}

#[test]
fn purges_take_what_matches() {
    let store = Store::new(1 << 20);
    for target in ["/a", "/a/b", "/c", "/c?d"] {
        assert!(put(&store, target, 10));
    }
    assert_eq!(store.purge(|name, _| name.target.starts_with("/a")), 2);
    assert!(!has(&store, "/a") && !has(&store, "/a/b") && has(&store, "/c"));
    check(&store);
    assert_eq!(store.purge(|_, stored| stored.tags.iter().any(|tag| &**tag == "all")), 2);
    assert_eq!(store.used(), 0);
}

#[test]
fn too_large_is_not_kept() {
    let store = Store::new(1 << 20);
    assert!(!put(&store, "/", (1 << 17) + 1));
    assert!(put(&store, "/", 1 << 17));
    assert!(!put(&Store::new(0), "/", 0));
    assert_eq!(Store::new(1 << 30).object_max(), OBJECT_MAX);
}

/// A crawler reads ten times as much as there is room for; what is read all day stays.
#[test]
fn a_scan_does_not_push_out_what_is_used() {
    let store = Store::new(4 << 20);
    let hot: Vec<String> = (0..100).map(|number| format!("/hot/{number}")).collect();
    for target in &hot {
        put(&store, target, 1000);
    }
    for _ in 0..3 {
        assert!(hot.iter().all(|target| has(&store, target)));
    }
    for number in 0..20_000 {
        put(&store, &format!("/scan/{number}"), 1000);
        if number % 20 == 0 {
            has(&store, &hot[number / 20 % hot.len()]);
        }
    }
    check(&store);
    let left = hot.iter().filter(|target| has(&store, target)).count();
    assert!(left >= 95, "{left} of 100");
}

#[test]
fn less_room_is_less() {
    let store = Store::new(4 << 20);
    for number in 0..1000 {
        put(&store, &format!("/{number}"), 2000);
    }
    assert!(store.used() > 1 << 20);
    store.resize(1 << 20);
    check(&store);
    store.resize(0);
    assert_eq!(store.used(), 0);
}

/// From many threads at once it neither loses count nor gives what is another's.
#[test]
fn threads() {
    let store = Store::new(1 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let store = &store;
            scope.spawn(move || {
                for number in 0..3000_usize {
                    let target = format!("/{}", (number * 7 + thread * 13) % 500);
                    match number % 10 {
                        0 => {
                            let _ = store.remove(&key(&target));
                        }
                        1 => {
                            let _ = store.purge(|name, _| name.target.ends_with('7'));
                        }
                        2..5 => {
                            let _ = put(store, &target, 100 + (number * 37) % 5000);
                        }
                        _ => {
                            let _ = has(store, &target);
                        }
                    }
                }
            });
        }
    });
    check(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_books_are_in_order(acts in proptest::collection::vec((0_u8..5, 0_u8..40, 0_usize..20_000), 0..300)) {
        let store = Store::new(200_000);
        for (act, number, len) in acts {
            let target = format!("/{number}");
            match act {
                0 | 1 => {
                        let _ = put(&store, &target, len);
                    }
                2 => {
                        let _ = has(&store, &target);
                    }
                3 => {
                        let _ = store.remove(&key(&target));
                    }
                _ => {
                        let _ = store.purge(|name, _| name.target.ends_with('3'));
                    }
            }
        }
        check(&store);
    }

    #[test]
    fn age_never_runs_backwards(seconds in 0_u64..100_000) {
        let stored = stored(1, "", &[]);
        let later = stored.facts.received() + Duration::from_secs(seconds);
        prop_assert_eq!(stored.facts.age(later), Duration::from_secs(seconds));
    }
}
