//! Dashboards as pages: `/dashboards/` lists them, `/dashboards/APP.ENV/NAME` shows one; with `.svg` or `.json` behind it
//! one is a picture, or its numbers. `?since=6h` says how far back.

use http::StatusCode;
use klar_base::AppKey;

use super::params::{Params, duration};
use super::{Answer, text, typed};
use crate::board::{self, Board, Filled, escaped};
use crate::{Shared, now_ms};

/// How far back, when nobody says so, and at most, in milliseconds.
const RANGE_MS: i64 = 3_600_000;
const RANGE_MAX_MS: i64 = 400 * 86_400_000;
const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "body{margin:0 auto;max-width:1200px;padding:16px;font:16px system-ui,sans-serif;background:#f4f5f7;\
                     color:#1a1d21}a{color:#0059b3}svg{max-width:100%;height:auto}nav a{margin-right:1em}";

pub(super) fn answer(shared: &Shared, what: &str, params: &Params) -> Answer {
    let apps: Vec<(AppKey, Option<String>)> = {
        let state = shared.state();
        let apps = state.world().apps.iter();
        apps.map(|app| (app.key.clone(), app.release.as_ref().map(ToString::to_string))).collect()
    };
    if let Some(app) = what.strip_suffix(".json").filter(|app| !app.contains('/')) {
        let found = apps.iter().find(|(key, _)| key.to_string() == app);
        return match found {
            Some((key, release)) => names(shared, key, release.as_deref()),
            None => text(StatusCode::NOT_FOUND, format!("there is no app `{app}`\n")),
        };
    }
    let Some((app, name)) = what.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        let found = if what.is_empty() {
            apps
        } else {
            apps.into_iter().filter(|(key, _)| key.to_string() == what).collect()
        };
        return list(shared, &found);
    };
    let Some((key, release)) = apps.into_iter().find(|(key, _)| key.to_string() == app) else {
        return text(StatusCode::NOT_FOUND, format!("there is no app `{app}`\n"));
    };
    let (name, form) = match name.rsplit_once('.') {
        Some((name, form @ ("svg" | "json" | "toml"))) => (name, form),
        _ => (name, "html"),
    };
    let mut all = board::all(&shared.apps, &key, release.as_deref());
    let names: Vec<String> = all.keys().cloned().collect();
    let board = match all.remove(name) {
        None => {
            return text(
                StatusCode::NOT_FOUND,
                format!("there is no dashboard `{name}`; there are {}\n", names.join(", ")),
            );
        }
        Some(_) if form == "toml" => {
            let source = board::source(&shared.apps, &key, release.as_deref(), name);
            return typed(StatusCode::OK, "application/toml", source.unwrap_or_default());
        }
        Some(Err(why)) => return text(StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")),
        Some(Ok(board)) => board,
    };
    let range_ms = match params.get("since").map(duration).transpose() {
        Ok(range_ms) => range_ms.unwrap_or(RANGE_MS),
        Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    if !(60_000..=RANGE_MAX_MS).contains(&range_ms) {
        return text(StatusCode::BAD_REQUEST, "`since` is from 1m to 400d\n");
    }
    let filled = fill(shared, &board, &key, range_ms);
    match form {
        "svg" => typed(StatusCode::OK, "image/svg+xml", board::draw(&filled)),
        "json" => match serde_json::to_vec(&filled) {
            Ok(json) => typed(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => typed(StatusCode::OK, HTML, page(&key, &names, &filled)),
    }
}

/// What there is, for programs.
fn names(shared: &Shared, key: &AppKey, release: Option<&str>) -> Answer {
    let all: Vec<serde_json::Value> = board::all(&shared.apps, key, release)
        .into_iter()
        .map(|(name, board)| match board {
            Ok(board) => serde_json::json!({ "name": name, "title": board.title }),
            Err(why) => serde_json::json!({ "name": name, "error": why }),
        })
        .collect();
    typed(StatusCode::OK, "application/json", serde_json::Value::from(all).to_string())
}

fn fill(shared: &Shared, board: &Board, key: &AppKey, range_ms: i64) -> Filled {
    board::fill(shared, board, key, now_ms(), range_ms)
}

fn page(key: &AppKey, names: &[String], filled: &Filled) -> String {
    let links: String = names
        .iter()
        .map(|name| format!("<a href=\"/dashboards/{key}/{name}\">{name}</a>", name = escaped(name)))
        .collect();
    let spans: String = ["1h", "6h", "1d", "7d", "30d"]
        .iter()
        .map(|since| format!("<a href=\"?since={since}\">{since}</a>"))
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"30\"><title>{}: {key}</title><style>{STYLE}</style>\
         <nav>{links}</nav><nav>{spans}</nav>{}</html>",
        escaped(&filled.title),
        board::draw(filled)
    )
}

fn list(shared: &Shared, apps: &[(AppKey, Option<String>)]) -> Answer {
    let mut body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Dashboards</title><style>{STYLE}</style><h1>Dashboards</h1>"
    );
    for (key, release) in apps {
        body.push_str(&format!("<h2>{key}</h2><ul>"));
        for (name, board) in board::all(&shared.apps, key, release.as_deref()) {
            let name = escaped(&name);
            match board {
                Ok(_) => body.push_str(&format!("<li><a href=\"/dashboards/{key}/{name}\">{name}</a></li>")),
                Err(why) => body.push_str(&format!("<li>{name}: {}</li>", escaped(&why))),
            }
        }
        body.push_str("</ul>");
    }
    body.push_str("</html>");
    typed(StatusCode::OK, HTML, body)
}
