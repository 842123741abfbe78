//! What lies on the disk is read as it was written, or not at all; and what is sound outside and nonsense inside is
//! no answer, and no trouble.

use std::time::{Duration, Instant, SystemTime};

use http::Method;
use klar_base::upstreams::CacheRules;
use klar_fuzz::{Feed, Fuzz};

use super::*;
use crate::cache::policy::{Asked, Times, judge};

const STORE: u64 = 7;

fn name() -> Name {
    Name { app: "shop.prod".parse().unwrap(), host: "shop.test".into(), target: "/a?b".into() }
}

/// An answer with these headers and this body.
fn stored(headers: HeaderMap, body: &[u8]) -> Option<Stored> {
    let asked = Asked::judge(&Method::GET, &HeaderMap::new(), "own").unwrap();
    let now = Instant::now();
    let times = Times { sent: now, received: now, date: SystemTime::now() };
    let rules = CacheRules { lifetime: Some(Duration::from_secs(60)), ..CacheRules::default() };
    let facts = judge(&asked, StatusCode::OK, &headers, times, &rules).ok()?;
    let selector = Selector::of(&headers, &headers)?;
    let tags = vec!["tag".into()];
    Some(Stored {
        status: StatusCode::OK,
        headers,
        body: Bytes::copy_from_slice(body),
        selector,
        facts,
        tags,
        written: Written::default(),
    })
}

const FUZZ: Fuzz<'_> = Fuzz {
    name: "records on disk",
    seeds: &[
        b"\x05\x01\x02content-type\0text/html\nvary\0accept\naccept\0*/*\n\nhello",
        b"\x30\x80\xffcache-control\0max-age=60, stale-while-revalidate=30\netag\0\"a\"\n\n\0\x01\x02",
        b"\x78\x01\x01cache-control\0public\n\n",
    ],
    words: &[
        b"klr1",
        b"\0\0\0\0\0\0\0\x01",
        b"\xff\xff\xff\xff",
        b"\n",
        b"\n\n",
        b"vary\0",
        b"set-cookie\0",
        b"max-age=1",
        b"\0\0\0\0\0\0\x04\0",
        b"\x03\x04",
    ],
    longest: 500,
};

#[test]
fn an_answer_is_itself_or_nothing() {
    FUZZ.run(|input| {
        let mut feed = Feed::new(input);
        let (place, bit, cut) = (feed.below(1 << 16), feed.below(8), feed.below(256));
        let rest = feed.rest();
        let middle = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
        let body = rest.get(middle + 2..).unwrap_or_default();
        let pair = |line: &[u8]| {
            let mut line = Feed::new(line);
            Some((HeaderName::from_bytes(line.until(0)).ok()?, HeaderValue::from_bytes(line.rest()).ok()?))
        };
        let headers: HeaderMap = rest[..middle].split(|byte| *byte == b'\n').filter_map(pair).collect();
        let Some(stored) = stored(headers, body) else { return };
        let key = [9; 32];
        let Some(record) = answer(STORE, 3, 4, key, &name(), &stored) else { return };
        let whole = Bytes::from(record.clone());
        let (found, again) = read_answer(&whole, STORE, 3, &key).unwrap();
        assert_eq!(found, name());
        assert_eq!((&again.headers, &again.body), (&stored.headers, &stored.body));
        assert_eq!(
            (again.status, &again.selector, &again.tags),
            (stored.status, &stored.selector, &stored.tags)
        );
        // A bit that has turned over, a piece that is missing, another store, another key, another number.
        let mut damaged = record.clone();
        let at = place as usize % damaged.len();
        damaged[at] ^= 1_u8 << bit;
        assert!(read_answer(&damaged.into(), STORE, 3, &key).is_none(), "bit {bit} of byte {at}");
        let shorter = whole.slice(..whole.len() - 1 - cut as usize % whole.len());
        assert!(read_answer(&shorter, STORE, 3, &key).is_none());
        for (store, serial, key) in [(STORE + 1, 3, key), (STORE, 4, key), (STORE, 3, [8; 32])] {
            assert!(read_answer(&whole, store, serial, &key).is_none());
        }
    });
}

/// Any inside, under seals that are right: a disk that lies well.
#[test]
fn nonsense_under_a_good_seal_is_no_trouble() {
    let good = stored(
        HeaderMap::from_iter([(HeaderName::from_static("etag"), HeaderValue::from_static("\"a\""))]),
        b"x",
    );
    let record = answer(STORE, 3, 4, [9; 32], &name(), &good.unwrap()).unwrap();
    let (fixed, meta) = Fixed::read(&record, STORE).unwrap();
    let head = &record[FIXED + fixed.index..][..fixed.head];
    let seed = [&(meta.len() as u16).to_be_bytes()[..], meta, head].concat();
    Fuzz { name: "records on disk, sealed", seeds: &[&seed[..]], ..FUZZ }.run(|input| {
        let mut feed = Feed::new(input);
        let index = feed.below(1 << 16) as usize;
        let rest = feed.rest();
        let (meta, head) = rest.split_at(index.min(rest.len()));
        let content = half(&[head, b"body"]);
        let (index, head_length) = (meta.len(), head.len());
        let fixed = Fixed {
            kind: Kind::Answer,
            store: STORE,
            serial: 3,
            epoch: 4,
            end: u64::MAX,
            index,
            head: head_length,
            body: 4,
            content,
            key: [9; 32],
        };
        let mut record = fixed.write(meta);
        record.extend_from_slice(head);
        record.extend_from_slice(b"body");
        let read = Fixed::read(&record, STORE);
        assert_eq!(read, Some((fixed, meta)));
        if let Some(parts) = Meta::read(meta) {
            assert_eq!(Meta::read(&parts.write()), Some(parts));
        }
        let Some((_, stored)) = read_answer(&record.into(), STORE, 3, &[9; 32]) else { return };
        // Whatever its times are, they can be reckoned with.
        let later = Instant::now() + Duration::from_secs(1 << 30);
        let _ = (stored.facts.age(later), stored.facts.usable(later), stored.facts.left(later));
        let _ = (stored.facts.is_for_many(), stored.facts.to_numbers());
        assert!(stored.headers.len() <= 1024 && &stored.body[..] == b"body");
    });
}
