//! What the edge has made of an answer or a file, kept as answers are: in memory and on disk, within the same room.
//!
//! Its key names the content that it was made of. So it is never stale: when the source changes, nobody finds it any
//! more, and it leaves with what is asked for least. It goes by the name of its source, so that a purge takes out both.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use klar_base::upstreams::CacheRules;

use super::Cache;
use super::key::{Key, Selector};
use super::policy::{self, Asked, Times};
use super::store::{Name, Stored, Ticket, Written};
use crate::table::SiteTable;

/// How something is found that was made of something else.
#[derive(Debug, Clone)]
pub struct Derived {
    pub key: Key,
    name: Name,
}

impl Derived {
    /// Made of the content that `of` stands for, at `target` (a path, with its query where that matters) of a site;
    /// `how` says what was made of it. Neither has a question mark.
    pub fn new(site: &SiteTable, host: &str, target: &str, of: &str, how: &str) -> Self {
        let key = Key::of("made", &site.app, site.epoch, "", &format!("{of}/{how}?{target}"));
        let name = Name { app: site.app.clone(), host: host.to_owned(), target: target.to_owned() };
        Self { key, name }
    }
}

impl Cache {
    /// To be taken before something is made, and shown when it is kept.
    pub fn ticket_of(&self, derived: &Derived) -> Ticket {
        self.store.ticket(&derived.key)
    }

    /// What was made, if it is there.
    pub async fn find_derived(&self, derived: &Derived) -> Option<Arc<Stored>> {
        let headers = HeaderMap::new();
        match self.store.find(&derived.key, &headers) {
            (Some(found), _) => Some(found),
            (None, _) => {
                let place = self.place(&derived.key, &derived.name.app, &headers)?;
                self.bring(&derived.key, place).await
            }
        }
    }

    /// Whether it is there, without reading it.
    pub fn has_derived(&self, derived: &Derived) -> bool {
        let headers = HeaderMap::new();
        self.store.look(&derived.key, &headers).0.is_some()
            || self.is_on_disk(&derived.key, &derived.name.app, &headers)
    }

    /// Keeps what was made: these bytes, with this media type and entity tag. `None`: it is too large for that, or was
    /// forgotten before it was done.
    pub fn keep_derived(
        &self,
        derived: &Derived,
        ticket: Ticket,
        (kind, tag): (HeaderValue, HeaderValue),
        body: Bytes,
    ) -> Option<Arc<Stored>> {
        /// Long enough for what goes when there is no room.
        const LIFETIME: &str = "public, max-age=31536000";
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(LIFETIME));
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::ETAG, tag);
        let now = Instant::now();
        let times = Times { sent: now, received: now, date: SystemTime::now() };
        let asked = Asked {
            head: false,
            authorization: false,
            cookie: false,
            partial: false,
            demand: Default::default(),
        };
        let facts = policy::judge(&asked, StatusCode::OK, &headers, times, &CacheRules::default()).ok()?;
        let selector = Selector::default();
        let stored = Arc::new(Stored {
            status: StatusCode::OK,
            headers,
            body,
            selector,
            facts,
            tags: Vec::new(),
            written: Written::default(),
        });
        self.put(&derived.key, &derived.name, ticket, &stored).then_some(stored)
    }
}
