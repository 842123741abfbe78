//! Access records as they come: what [`AccessRecord`](klar_base::signal::AccessRecord) is, borrowed from its line.

use std::borrow::Cow;

use klar_base::signal::{CacheOutcome, DecidedBy, ImageOutcome, WafFinding};
use serde::Deserialize;

/// A request. Fields that are missing, because another klar wrote the line, are empty.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // see `AccessRecord`
pub struct Record<'a> {
    pub time_unix_ms: u64,
    #[serde(borrow)]
    pub request_id: Cow<'a, str>,
    #[serde(borrow)]
    pub client: Cow<'a, str>,
    #[serde(borrow)]
    pub protocol: Cow<'a, str>,
    pub tls: bool,
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    #[serde(borrow)]
    pub route: Option<Cow<'a, str>>,
    pub status: u16,
    pub decided_by: DecidedBy,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    #[serde(borrow)]
    pub upstream: Option<Cow<'a, str>>,
    pub attempts: u32,
    #[serde(borrow)]
    pub error: Option<Cow<'a, str>>,
    pub aborted: bool,
    #[serde(borrow)]
    pub user_agent: Option<Cow<'a, str>>,
    pub cache: Option<CacheOutcome>,
    pub image: Option<ImageOutcome>,
    pub waf: Option<WafFinding>,
}

impl Default for Record<'_> {
    fn default() -> Self {
        let nothing = Cow::Borrowed("");
        Self {
            time_unix_ms: 0,
            request_id: nothing.clone(),
            client: nothing.clone(),
            protocol: nothing.clone(),
            tls: false,
            method: nothing.clone(),
            host: nothing.clone(),
            path: nothing,
            route: None,
            status: 0,
            decided_by: DecidedBy::Edge,
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
            upstream: None,
            attempts: 0,
            error: None,
            aborted: false,
            user_agent: None,
            cache: None,
            image: None,
            waf: None,
        }
    }
}

/// A line as the edge writes it.
#[cfg(test)]
pub fn json(path: &str, status: u16, duration_us: u64) -> String {
    format!(
        r#"{{"time_unix_ms":1750000000000,"request_id":"0192","app":"shop.prod","client":"127.0.0.1","protocol":"h2","tls":true,"method":"GET","host":"shop.example","path":"{path}","route":"/*","status":{status},"decided_by":"app","bytes_in":10,"bytes_out":100,"duration_us":{duration_us},"upstream":"shop.prod.api.7","attempts":1,"error":null,"aborted":false,"user_agent":"curl"}}"#
    )
}

#[cfg(test)]
mod tests {
    use klar_base::signal::AccessRecord;

    use super::*;

    #[test]
    fn both_read_the_same_line() {
        let line = json("/a", 200, 3).replace("curl", "c\\u00e5rl");
        let (owned, borrowed): (AccessRecord, Record<'_>) =
            (serde_json::from_str(&line).unwrap(), serde_json::from_str(&line).unwrap());
        assert_eq!((&*owned.path, owned.status, owned.duration_us), (&*borrowed.path, 200, 3));
        assert_eq!(owned.user_agent.as_deref(), borrowed.user_agent.as_deref());
        assert_eq!(owned.upstream.map(|id| id.to_string()).as_deref(), borrowed.upstream.as_deref());
        assert!(matches!(borrowed.path, Cow::Borrowed(_)), "nothing is copied that need not be");
        // `Option<Cow>` borrows nothing by itself.
        assert!(matches!(borrowed.route, Some(Cow::Borrowed(_)) | Some(Cow::Owned(_))));
    }
}
