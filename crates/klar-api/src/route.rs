//! The routes: one table that the server follows, that 404 lists and that OpenAPI describes.

use std::fmt;

use http::Method;
use klar_base::AppKey;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Everything at a glance.
    Status,
    /// What the host can and cannot do.
    Doctor,
    /// The certificate of the local authority.
    Authority,
    /// Takes an archive.
    Upload,
    /// Puts a release in place.
    Deploy,
    /// Goes back.
    Rollback,
    /// Replaces instances.
    Restart,
    /// Changes how many there are.
    Scale,
    /// Puts a restored copy in the place of a database.
    TakeOver,
    /// Renews certificates.
    Renew,
    /// Stops an app.
    Down,
    /// Has the cache forget.
    Purge,
    /// Judges a request again.
    Replay,
    /// Judges requests by other rules.
    Try,
    /// The counters of the edge.
    EdgeCounts,
    /// What the edge would do.
    EdgeExplain,
    /// Output and access records.
    Logs,
    /// The settings in force.
    Config,
    /// Goes on with another program.
    Upgrade,
    /// Ends everything.
    Stop,
    /// This table, for machines.
    OpenApi,
}

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    /// `GET` asks, `POST` changes something.
    pub method: Method,
    /// The path; `{app}` stands for an [`AppKey`].
    pub path: &'static str,
    /// What it does.
    pub action: Action,
    /// The same in a sentence.
    pub doc: &'static str,
    /// The JSON object that it takes, by its name in [`crate::openapi`]; `None` for no body.
    pub takes: Option<&'static str>,
    /// The media type of the answer.
    pub media: Media,
    /// What the answer holds, by its name in [`crate::openapi`].
    pub gives: &'static str,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// One JSON value.
    Json,
    /// One JSON value a line, each as it happens.
    Lines,
    /// Text.
    Text,
    /// A certificate.
    Pem,
}

impl Media {
    /// As in `content-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
            Self::Pem => "application/x-pem-file",
        }
    }
}

const fn get(
    path: &'static str,
    action: Action,
    media: Media,
    gives: &'static str,
    doc: &'static str,
) -> Route {
    Route { method: Method::GET, path, action, doc, takes: None, media, gives }
}

/// A long operation.
const fn operation(
    path: &'static str,
    action: Action,
    takes: Option<&'static str>,
    doc: &'static str,
) -> Route {
    Route { method: Method::POST, path, action, doc, takes, media: Media::Lines, gives: "Event" }
}

/// All routes.
pub static ROUTES: [Route; 21] = [
    get("/v1/status", Action::Status, Media::Json, "HostStatus", "Everything at a glance."),
    get("/v1/doctor", Action::Doctor, Media::Json, "Findings", "What this host can and cannot do."),
    get(
        "/v1/edge",
        Action::EdgeCounts,
        Media::Json,
        "EdgeCounts",
        "All counters of the edge, since it started.",
    ),
    Route {
        method: Method::POST,
        path: "/v1/edge/explain",
        action: Action::EdgeExplain,
        doc: "What the edge would do with a request, without making it.",
        takes: Some("WantedRequest"),
        media: Media::Json,
        gives: "ExplainedRequest",
    },
    get("/v1/authority", Action::Authority, Media::Pem, "Pem", "The certificate of the local authority."),
    Route {
        method: Method::POST,
        path: "/v1/uploads",
        action: Action::Upload,
        doc: "Takes a tar archive of an app's folder, with klar.toml at its top.",
        takes: Some("Archive"),
        media: Media::Json,
        gives: "Uploaded",
    },
    operation("/v1/apps/{app}/deploy", Action::Deploy, Some("DeployRequest"), "Puts a release in place."),
    operation("/v1/apps/{app}/rollback", Action::Rollback, None, "Goes back to the release before."),
    operation(
        "/v1/apps/{app}/restart",
        Action::Restart,
        Some("Restart"),
        "Replaces instances, one after the other.",
    ),
    operation(
        "/v1/apps/{app}/take-over",
        Action::TakeOver,
        Some("TakeOver"),
        "Puts a restored copy in the place of a database.",
    ),
    operation(
        "/v1/apps/{app}/scale",
        Action::Scale,
        Some("Scale"),
        "Sets the number of instances of a service.",
    ),
    operation("/v1/apps/{app}/renew", Action::Renew, None, "Renews the certificates of an app's names."),
    operation("/v1/apps/{app}/down", Action::Down, Some("Down"), "Stops an app."),
    Route {
        method: Method::POST,
        path: "/v1/apps/{app}/purge",
        action: Action::Purge,
        doc: "Has the cache forget answers of an app.",
        takes: Some("Purge"),
        media: Media::Json,
        gives: "Purged",
    },
    Route {
        method: Method::POST,
        path: "/v1/apps/{app}/waf/replay",
        action: Action::Replay,
        doc: "What the firewall says of a request that it stopped, and would say with exceptions. Nothing is sent.",
        takes: Some("ReplayRequest"),
        media: Media::Json,
        gives: "ReplayedRequest",
    },
    Route {
        method: Method::POST,
        path: "/v1/apps/{app}/waf/try",
        action: Action::Try,
        doc: "What other rules of the firewall would do with requests that were let through. Nothing is sent.",
        takes: Some("TryRequest"),
        media: Media::Json,
        gives: "Tried",
    },
    get("/v1/apps/{app}/logs", Action::Logs, Media::Lines, "LogLine", "Output of an app, oldest first."),
    get(
        "/v1/apps/{app}/config",
        Action::Config,
        Media::Text,
        "Text",
        "The settings of the release that serves.",
    ),
    Route {
        method: Method::POST,
        path: "/v1/upgrade",
        action: Action::Upgrade,
        doc: "Goes on with the program that lies ready in the state folder; the core ends soon after.",
        takes: Some("UpgradeRequest"),
        media: Media::Json,
        gives: "Upgrade",
    },
    operation("/v1/stop", Action::Stop, None, "Stops every app, the edge and the core."),
    get("/v1/openapi.json", Action::OpenApi, Media::Json, "Document", "This description."),
];

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Where a request leads.
#[derive(Debug)]
pub enum Found {
    /// To this route, for this app where the path names one.
    Route(&'static Route, Option<AppKey>),
    /// The path exists, but not for this method; this one it takes.
    OtherMethod(&'static Route),
    /// The path would exist if the app's name were one.
    BadKey(klar_base::NameError),
    /// Nowhere.
    Nothing,
}

/// Finds the route for a request.
pub fn find(method: &Method, path: &str) -> Found {
    let mut found = Found::Nothing;
    for route in &ROUTES {
        let Some(name) = matches(route.path, path) else { continue };
        if route.method != *method {
            found = Found::OtherMethod(route);
            continue;
        }
        return match name.map(str::parse).transpose() {
            Ok(key) => Found::Route(route, key),
            Err(error) => Found::BadKey(error),
        };
    }
    found
}

/// Whether `path` fits `pattern`, and what stands in the place of `{app}`.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, after)) = pattern.split_once("{app}") else { return (pattern == path).then_some(None) };
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    (!name.is_empty() && !name.contains('/')).then_some(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_route() {
        for (method, path, expected) in [
            (Method::GET, "/v1/status", "Status -"),
            (Method::POST, "/v1/apps/shop.prod/deploy", "Deploy shop.prod"),
            (Method::POST, "/v1/apps/shop/down", "Down shop.prod"),
            (Method::GET, "/v1/apps/shop.staging/logs", "Logs shop.staging"),
            (Method::POST, "/v1/status", "takes GET /v1/status"),
            (Method::GET, "/v1/apps/shop/deploy", "takes POST /v1/apps/{app}/deploy"),
            (Method::GET, "/v1/apps/Shop/logs", "bad key"),
            (Method::GET, "/v1/apps/../logs", "bad key"),
            (Method::GET, "/v1/apps//logs", "nothing"),
            (Method::GET, "/v1/apps/a/b/logs", "nothing"),
            (Method::GET, "/v1/status/", "nothing"),
            (Method::GET, "/", "nothing"),
        ] {
            let seen = match find(&method, path) {
                Found::Route(route, key) => {
                    format!("{:?} {}", route.action, key.map_or("-".into(), |key| key.to_string()))
                }
                Found::OtherMethod(route) => format!("takes {route}"),
                Found::BadKey(_) => "bad key".into(),
                Found::Nothing => "nothing".into(),
            };
            assert_eq!(seen, expected, "{method} {path}");
        }
    }
}
