//! The part of the foil that people sign in to: things to look for, orders of their own, a board that shows notes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::app::{Answer, App, plain, with};
use super::sql;

/// The password of all of its accounts.
pub const PASSWORD: &str = "foil-password";
/// Its accounts, and whether they are administrators.
pub const ACCOUNTS: [(&str, bool); 3] =
    [("user@foil.example", false), ("other@foil.example", false), ("admin@foil.example", true)];
const THINGS: usize = 47;
const MOST_LIMIT: usize = 20;
const MOST_ORDERS: usize = 400;

/// What it remembers.
#[derive(Default)]
pub struct Shop {
    sessions: RefCell<BTreeMap<String, Session>>,
    orders: RefCell<Vec<Order>>,
    wrong: Cell<u32>,
    /// Once an order was refused.
    spoiled: Cell<bool>,
    /// The last text that the form of the board was sent.
    said: RefCell<String>,
}

#[derive(Clone)]
struct Session {
    who: usize,
    csrf: String,
}

#[derive(Clone)]
struct Order {
    id: u64,
    owner: usize,
    thing: u64,
    note: String,
}

fn name(id: usize) -> String {
    format!("{} {}", ["red", "blue", "green"][id % 3], ["lamp", "chair", "table", "clock", "shelf"][id % 5])
}

impl Shop {
    pub fn new() -> Self {
        let shop = Self::default();
        for (owner, _) in ACCOUNTS.iter().enumerate().take(2) {
            let id = owner as u64 + 1;
            shop.orders.borrow_mut().push(Order { id, owner, thing: id, note: "first".to_owned() });
        }
        for id in 3..40 {
            shop.orders.borrow_mut().push(Order { id, owner: 2, thing: id, note: "more".to_owned() });
        }
        shop
    }

    /// The answer, where the path is the shop's.
    pub async fn answer(&self, app: &App, head: &Parts, body: &Bytes) -> Option<Answer> {
        let path = head.uri.path();
        let query = query_of(head.uri.query().unwrap_or_default());
        let known = ["/api/items", "/api/orders", "/api/users", "/api/session"]
            .iter()
            .any(|known| path == *known || path.starts_with(&format!("{known}/")));
        if !known && !["/openapi.json", "/search", "/board", "/api/notes"].contains(&path) {
            return None;
        }
        let error = |status, next: &str| Some(app.error(head, status, next));
        let nowhere = || error(StatusCode::NOT_FOUND, "Check the address, or begin at the first page.");
        let cookie = header(head, "cookie").split("; ").find_map(|each| each.strip_prefix("foil="));
        let session = cookie.and_then(|token| self.session(app, token));
        let get = matches!(head.method, Method::GET | Method::HEAD);
        if self.refuses(app, head, body) {
            return error(StatusCode::FORBIDDEN, "Ask for it in other words.");
        }
        let allowed: &[Method] = match path {
            "/api/session" => &[Method::GET, Method::POST, Method::DELETE],
            "/api/orders" => &[Method::GET, Method::POST],
            _ if path.starts_with("/api/orders/") => &[Method::GET, Method::PATCH],
            "/board" if app.has("xss-form") => &[Method::GET, Method::POST],
            _ => &[Method::GET],
        };
        if !allowed.contains(if head.method == Method::HEAD { &Method::GET } else { &head.method }) {
            let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let answer = app.error(head, StatusCode::METHOD_NOT_ALLOWED, "Use one of the methods in Allow.");
            return Some(with(answer, "allow", &names));
        }
        if !get && let Some(refused) = self.refuse_foreign(app, head, session.as_ref()) {
            return Some(refused);
        }
        if path == "/board" && head.method == Method::POST {
            let text = String::from_utf8_lossy(body);
            *self.said.borrow_mut() = query_of(&text).remove("said").unwrap_or_default();
            return Some(with(plain(StatusCode::SEE_OTHER, "text/html", ""), "location", "/board"));
        }
        let body = match (&head.method, path) {
            (&Method::POST | &Method::PATCH, _) => {
                if !header(head, "content-type").starts_with("application/json") {
                    return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send JSON.");
                }
                match serde_json::from_slice::<Value>(body) {
                    Ok(body) => body,
                    Err(_) if app.has("crashes-on-bad-json") => return Some(app.crash()),
                    Err(_) => return error(StatusCode::BAD_REQUEST, "Send JSON that is whole."),
                }
            }
            _ => Value::Null,
        };
        if app.has("crashes-on-types") && body.get("note").is_some_and(Value::is_number) {
            return Some(app.crash());
        }
        match path {
            "/openapi.json" => {
                return Some(plain(StatusCode::OK, "application/json", &document(app).to_string()));
            }
            "/search" => return Some(self.search_page(app, query.get("q").map_or("", String::as_str))),
            "/board" => return Some(self.board(app)),
            "/api/notes" => return Some(self.notes()),
            "/api/session" => return Some(self.session_route(app, head, session.as_ref(), &body)),
            "/api/items" => return Some(self.items(app, head, &query).await),
            _ => {}
        }
        if let Some(id) = path.strip_prefix("/api/items/") {
            return Some(self.item(app, head, &unpercent(id)));
        }
        let open = app.has("no-sign-in-needed") && path.starts_with("/api/orders");
        let session = match session {
            Some(session) => session,
            None if open => Session { who: 0, csrf: String::new() },
            None => return error(StatusCode::UNAUTHORIZED, "Sign in first."),
        };
        let admin = ACCOUNTS.get(session.who).is_some_and(|(_, admin)| *admin);
        if path == "/api/users" {
            if !admin && !app.has("users-for-all") {
                return error(StatusCode::FORBIDDEN, "Ask an administrator.");
            }
            let users: Vec<_> = ACCOUNTS
                .iter()
                .enumerate()
                .map(|(id, (name, _))| json!({ "id": id + 1, "email": name }))
                .collect();
            return Some(json_answer(StatusCode::OK, &json!({ "users": users })));
        }
        let sees = |order: &Order| admin || order.owner == session.who;
        if path == "/api/orders" {
            if get {
                let day = query.get("placed_on").map(|day| day.parse::<jiff::civil::Date>());
                if let Some(Err(_)) = day {
                    let crashes = app.has("crashes-on-odd-days");
                    return if crashes {
                        Some(app.crash())
                    } else {
                        error(StatusCode::BAD_REQUEST, "Ask for a day that there is.")
                    };
                }
                let orders: Vec<_> =
                    self.orders.borrow().iter().rev().filter(|order| sees(order)).map(shown).collect();
                return Some(page(app, head, "orders", orders, &query));
            }
            return Some(self.order(app, head, session.who, &body).await);
        }
        let Some(id) = path.strip_prefix("/api/orders/").and_then(|id| id.parse::<u64>().ok()) else {
            return nowhere();
        };
        let mut orders = self.orders.borrow_mut();
        let whose = |order: &&mut Order| {
            order.id == id
                && (sees(order) || app.has(if get { "reads-of-others" } else { "writes-of-others" }))
        };
        let Some(order) = orders.iter_mut().find(whose) else { return nowhere() };
        if get {
            let answer = json_answer(StatusCode::OK, &shown(order));
            let public = app.has("public-order");
            return Some(if public { with(answer, "cache-control", "public, max-age=300") } else { answer });
        }
        match note_of(app, &body) {
            Ok(note) => {
                order.note = note;
                Some(json_answer(StatusCode::OK, &shown(order)))
            }
            Err(next) => error(StatusCode::UNPROCESSABLE_ENTITY, next),
        }
    }

    /// Whether this looks like an attack, to those who look for that.
    pub fn refuses(&self, app: &App, head: &Parts, body: &Bytes) -> bool {
        app.has("sqli-behind-waf") && suspicious(head, body)
    }

    fn session(&self, app: &App, token: &str) -> Option<Session> {
        if app.has("forged-tokens") {
            // It looks at the shape of a token and not at who made it.
            let who = token.chars().next()?.to_digit(10)? as usize;
            return (who < ACCOUNTS.len())
                .then(|| self.sessions.borrow().values().find(|each| each.who == who).cloned())?;
        }
        self.sessions.borrow().get(token).cloned()
    }

    fn refuse_foreign(&self, app: &App, head: &Parts, session: Option<&Session>) -> Option<Answer> {
        let origin = header(head, "origin");
        let own = format!("https://{}", header(head, "host"));
        let foreign = !origin.is_empty() && origin != own || header(head, "sec-fetch-site") == "cross-site";
        if foreign {
            let refused = || app.error(head, StatusCode::FORBIDDEN, "Do this on the site itself.");
            return (!app.has("any-origin")).then(refused);
        }
        let session = session?;
        let right = header(head, "x-csrf-token") == session.csrf && !app.has("strict-csrf-token");
        if !right && !app.has("no-csrf-token") {
            return Some(app.error(head, StatusCode::FORBIDDEN, "Load the page again, then try once more."));
        }
        None
    }

    fn session_route(&self, app: &App, head: &Parts, session: Option<&Session>, body: &Value) -> Answer {
        if head.method == Method::DELETE {
            let Some(session) = session else {
                return app.error(head, StatusCode::UNAUTHORIZED, "Sign in first.");
            };
            self.sessions.borrow_mut().retain(|_, each| each.csrf != session.csrf);
            return plain(StatusCode::NO_CONTENT, "application/json", "");
        }
        if head.method != Method::POST {
            let user = session.and_then(|session| ACCOUNTS.get(session.who)).map(|(name, _)| *name);
            return json_answer(StatusCode::OK, &json!({ "user": user }));
        }
        let (Some(email), Some(password)) = (
            body.get("email").and_then(Value::as_str).filter(|email| email.len() < 200),
            body.get("password").and_then(Value::as_str).filter(|password| password.len() < 200),
        ) else {
            return app.error(head, StatusCode::UNPROCESSABLE_ENTITY, "Send email and password.");
        };
        let who = ACCOUNTS.iter().position(|(name, _)| *name == email);
        let shut = app.has("limits-everybody") && self.wrong.get() > 10;
        let Some(who) = who.filter(|_| password == PASSWORD && !shut) else {
            self.wrong.set(self.wrong.get() + 1);
            if self.wrong.get() > 10 {
                let answer = app.error(head, StatusCode::TOO_MANY_REQUESTS, "Wait a little, then try again.");
                return if app.has("no-retry-after") { answer } else { with(answer, "retry-after", "900") };
            }
            return app.error(head, StatusCode::UNAUTHORIZED, "Check the name and the password.");
        };
        let token = format!("{who}{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let csrf = format!("{:016x}", fastrand::u64(..));
        let said = json!({ "user": { "id": who + 1, "email": email }, "csrf_token": csrf });
        self.sessions.borrow_mut().insert(token.clone(), Session { who, csrf });
        let flags =
            if app.has("bare-cookie") { "; Path=/" } else { "; Path=/; Secure; HttpOnly; SameSite=Lax" };
        with(json_answer(StatusCode::CREATED, &said), "set-cookie", &format!("foil={token}{flags}"))
    }

    async fn items(&self, app: &App, head: &Parts, query: &BTreeMap<String, String>) -> Answer {
        let q = query.get("q").cloned().unwrap_or_default();
        if q.chars().count() > 100 || q.contains('\0') {
            return app.error(head, StatusCode::BAD_REQUEST, "Search for less at a time.");
        }
        let mut found = Vec::new();
        for id in 1..=THINGS {
            let name = name(id);
            let outcome = sql::evaluate(&format!("name LIKE '%{q}%'"), id as i64, &name);
            let fits = |outcome: &sql::Outcome| outcome.added.iter().all(|row| row.len() == 2);
            let mut here = name.contains(&q);
            if app.has("sqli-boolean") || app.has("sqli-behind-waf") {
                here = outcome.as_ref().is_ok_and(|outcome| outcome.found && fits(outcome));
            }
            if app.has("sqli-union") && id == 1 {
                let Ok(outcome) =
                    outcome.as_ref().map_err(drop).and_then(|all| fits(all).then_some(all).ok_or(()))
                else {
                    return app.error(head, StatusCode::INTERNAL_SERVER_ERROR, "Try again later.");
                };
                let second = |row: &Vec<sql::Value>| row.get(1).map(sql::text).unwrap_or_default();
                found.extend(outcome.added.iter().map(|row| json!({ "id": 0, "name": second(row) })));
            }
            if here {
                found.push(thing(id));
            }
        }
        page(app, head, "items", found, query)
    }

    fn item(&self, app: &App, head: &Parts, id: &str) -> Answer {
        if app.has("sqli-error")
            && let Err(why) = sql::evaluate(&format!("id = {id}"), 1, "x")
        {
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "application/json",
                &json!({ "message": why }).to_string(),
            );
        }
        match id.parse::<usize>() {
            Ok(id @ 1..=THINGS) => json_answer(StatusCode::OK, &thing(id)),
            _ => app.error(head, StatusCode::NOT_FOUND, "Look for it in the list."),
        }
    }

    async fn order(&self, app: &App, head: &Parts, who: usize, body: &Value) -> Answer {
        let item = body.get("item_id").and_then(Value::as_u64).filter(|id| (1..=THINGS as u64).contains(id));
        let item = if app.has("believes-input") { item.or(Some(1)) } else { item };
        let spoiled = app.has("spoiled-by-errors") && self.spoiled.get();
        let (Some(thing), Ok(note), false) = (item, note_of(app, body), spoiled) else {
            self.spoiled.set(true);
            return app.error(
                head,
                StatusCode::UNPROCESSABLE_ENTITY,
                "Name an item, and write a short note.",
            );
        };
        if app.has("sqli-time")
            && let Ok(outcome) = sql::evaluate(&format!("'{note}' = name"), 1, "x")
        {
            tokio::time::sleep(std::time::Duration::from_secs_f64(outcome.sleeps.min(5.0))).await;
        }
        let mut orders = self.orders.borrow_mut();
        let id = orders.last().map_or(1, |last| last.id + 1);
        let order = Order { id, owner: who, thing, note };
        let answer = json_answer(StatusCode::CREATED, &shown(&order));
        orders.push(order);
        if orders.len() > MOST_ORDERS {
            orders.remove(0);
        }
        answer
    }

    fn search_page(&self, app: &App, q: &str) -> Answer {
        let shown = if app.has("xss-text") { q.to_owned() } else { escape(q) };
        let held =
            if app.has("xss-attribute") { q.replace('<', "&lt;").replace('>', "&gt;") } else { escape(q) };
        let script = if app.has("xss-script") {
            format!("<script>var q = '{}';</script>", q.replace('<', "\\x3c"))
        } else {
            String::new()
        };
        let page = format!(
            "<!doctype html><html lang=en><title>Search</title><h1>Search</h1><form action=\"/search\"><input name=\"q\" value=\"{held}\"></form><p>Results for {shown}</p>{script}</html>"
        );
        plain(StatusCode::OK, "text/html; charset=utf-8", &page)
    }

    /// The latest notes, for the script that draws them.
    fn notes(&self) -> Answer {
        let orders = self.orders.borrow();
        let notes: Vec<&String> = orders.iter().rev().take(20).map(|order| &order.note).collect();
        json_answer(StatusCode::OK, &json!({ "notes": notes }))
    }

    fn board(&self, app: &App) -> Answer {
        let mut page = "<!doctype html><html lang=en><title>Board</title><h1>Board</h1><ul>".to_owned();
        for order in self.orders.borrow().iter() {
            let note = if app.has("xss-stored") { order.note.clone() } else { escape(&order.note) };
            page += &format!("<li>{note}</li>");
        }
        if app.has("xss-form") {
            let said = self.said.borrow();
            page += &format!("<li>{said}</li></ul><form method=post><input name=said></form><ul>");
        }
        plain(StatusCode::OK, "text/html; charset=utf-8", &(page + "</ul></html>"))
    }
}

fn thing(id: usize) -> Value {
    json!({ "id": id, "name": name(id) })
}

fn shown(order: &Order) -> Value {
    json!({ "id": order.id, "user_id": order.owner + 1, "item_id": order.thing, "note": order.note })
}

fn note_of(app: &App, body: &Value) -> Result<String, &'static str> {
    match body.get("note") {
        Some(Value::String(note)) if app.has("believes-input") => Ok(note.clone()),
        Some(Value::String(note)) if note.chars().count() <= 200 && !note.contains('\0') => Ok(note.clone()),
        Some(_) if app.has("believes-input") => Ok(String::new()),
        _ => Err("Write a note of up to 200 characters."),
    }
}

fn suspicious(head: &Parts, body: &Bytes) -> bool {
    let all = format!("{} {}", unpercent(&head.uri.to_string()), String::from_utf8_lossy(body));
    let all = all.to_ascii_lowercase();
    ["<script", "union select", "' or '1'='1", "../"].iter().any(|word| all.contains(word))
}

fn page(app: &App, head: &Parts, name: &str, rows: Vec<Value>, query: &BTreeMap<String, String>) -> Answer {
    let wrong = |next: &str| app.error(head, StatusCode::BAD_REQUEST, next);
    let number = |name: &str| query.get(name).map(|value| value.parse::<usize>()).transpose();
    let (Ok(limit), Ok(after)) = (number("limit"), number("cursor")) else {
        return wrong("Send numbers as limit and cursor.");
    };
    if limit == Some(0) {
        return wrong("Ask for at least one.");
    }
    let mut rows = rows;
    if app.has("no-pages") {
        while rows.len() < 300 && !rows.is_empty() {
            rows.extend_from_within(..rows.len().min(50));
        }
        return json_answer(StatusCode::OK, &json!({ name: rows, "next": null }));
    }
    let total = rows.len() + usize::from(app.has("wrong-total"));
    let limit = if app.has("ignores-limit") { MOST_LIMIT } else { limit.unwrap_or(10).min(MOST_LIMIT) };
    // Behind the row that was shown last, so that new rows shift nothing.
    let id = |row: &Value| row.get("id").and_then(Value::as_u64).unwrap_or(0) as usize;
    let newest_first = matches!(rows.as_slice(), [first, .., last] if id(first) > id(last));
    let start = match after {
        None => 0,
        Some(after) if app.has("shifting-pages") => after,
        Some(after) => {
            let behind = |row: &Value| if newest_first { id(row) < after } else { id(row) > after };
            rows.iter().position(behind).unwrap_or(rows.len())
        }
    };
    let end = start.saturating_add(limit).min(rows.len());
    let next = (end < rows.len()).then(|| {
        if app.has("shifting-pages") {
            return end;
        }
        let last = if app.has("gap-in-pages") { end } else { end.saturating_sub(1) };
        rows.get(last).map_or(0, id)
    });
    let rows: Vec<Value> = rows.into_iter().skip(start).take(limit).collect();
    let fields: Option<Vec<&str>> = query.get("fields").map(|fields| fields.split(',').collect());
    let rows: Vec<Value> = match (&fields, app.has("ignores-fields")) {
        (Some(fields), false) => {
            if !fields.iter().all(|field| ["id", "name", "user_id", "item_id", "note"].contains(field)) {
                return wrong("Ask for fields that there are.");
            }
            let few = |row: Value| match row {
                Value::Object(all) => Value::Object(
                    all.into_iter().filter(|(name, _)| fields.contains(&name.as_str())).collect(),
                ),
                other => other,
            };
            rows.into_iter().map(few).collect()
        }
        _ => rows,
    };
    json_answer(
        StatusCode::OK,
        &json!({ name: rows, "next": next.map(|next| next.to_string()), "total": total }),
    )
}

fn document(app: &App) -> Value {
    let error = json!({ "description": "as it says", "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let answers = |good: &str, schema: Value| {
        let mut all = json!({ good: { "description": "as asked", "content": { "application/json": { "schema": schema } } } });
        for status in ["400", "401", "403", "404", "413", "415", "422", "429"] {
            if let Some(all) = all.as_object_mut() {
                all.insert(status.to_owned(), error.clone());
            }
        }
        all
    };
    let list = |name: &str, row: Value| json!({ "type": "object", "required": [name, "next"], "properties": { name: { "type": "array", "items": row }, "next": { "type": ["string", "null"] } } });
    let pages = json!([
        { "name": "limit", "in": "query", "schema": { "type": "integer", "minimum": 1, "example": if app.has("wrong-example") { 0 } else { 5 } } },
        { "name": "cursor", "in": "query", "schema": { "type": "string", "pattern": "^[0-9]+$" } },
        { "name": "fields", "in": "query", "schema": { "type": "string", "example": "id" } }]);
    let mut searched = pages.clone();
    if let Some(searched) = searched.as_array_mut() {
        searched.push(
            json!({ "name": "q", "in": "query", "schema": { "type": "string", "maxLength": 100, "example": "red" } }),
        );
    }
    let mut placed = pages.clone();
    if let Some(placed) = placed.as_array_mut() {
        placed.push(
            json!({ "name": "placed_on", "in": "query", "schema": { "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$", "example": "2026-05-17" } }),
        );
    }
    let id = json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer", "minimum": 1 } }]);
    let item = json!({ "type": "object", "properties": { "id": { "type": "integer" }, "name": { "type": if app.has("wrong-schema") { "integer" } else { "string" } } } });
    let order = json!({ "type": "object", "properties": { "id": { "type": "integer" }, "user_id": { "type": "integer" }, "item_id": { "type": "integer" }, "note": { "type": "string" } } });
    let note = json!({ "type": "string", "maxLength": 200 });
    let read = json!([{ "cookie": [] }]);
    let write = json!([{ "cookie": [], "csrf": [] }]);
    let takes =
        |schema: Value| json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "foil", "version": "1" },
        "paths": {
            "/api/items": { "get": { "security": [], "parameters": searched, "responses": answers("200", list("items", item.clone())) } },
            "/api/items/{id}": { "get": { "security": [], "parameters": id.clone(), "responses": answers("200", item) } },
            "/api/orders": {
                "get": { "security": read, "parameters": placed, "responses": answers("200", list("orders", order.clone())) },
                "post": { "security": write, "requestBody": takes(json!({ "type": "object", "required": ["item_id", "note"],
                    "properties": { "item_id": { "type": "integer", "minimum": 1, "maximum": THINGS }, "note": note } })),
                    "responses": answers("201", order.clone()) } },
            "/api/orders/{id}": {
                "get": { "security": read, "parameters": id.clone(), "responses": answers("200", order.clone()) },
                "patch": { "security": write, "parameters": id, "requestBody": takes(json!({ "type": "object", "required": ["note"], "properties": { "note": note } })),
                    "responses": answers("200", order) } },
            "/api/users": { "get": { "security": read, "x-role": "admin", "responses": answers("200", json!({ "type": "object", "required": ["users"] })) } },
            "/api/session": {
                "get": { "security": [], "responses": answers("200", json!({ "type": "object", "required": ["user"] })) },
                "post": { "security": [], "requestBody": takes(json!({ "type": "object", "required": ["email", "password"],
                    "properties": { "email": { "type": "string", "maxLength": 199 }, "password": { "type": "string", "maxLength": 199 } } })),
                    "responses": answers("201", json!({ "type": "object", "required": ["user", "csrf_token"] })) },
                "delete": { "security": write, "responses": answers("204", json!({})) } },
        },
        "components": {
            "schemas": { if app.has("broken-document") { "Trouble" } else { "Problem" }: { "type": "object", "required": ["title", "status", "detail"], "properties": { "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" } } } },
            "securitySchemes": { "cookie": { "type": "apiKey", "in": "cookie", "name": "foil" }, "csrf": { "type": "apiKey", "in": "header", "name": "X-CSRF-Token" } },
        },
    })
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    with(plain(status, "application/json", &body.to_string()), "cache-control", "no-store")
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn query_of(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (unpercent(name), unpercent(value))).collect()
}

fn unpercent(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut hex = || char::from(bytes.next()?).to_digit(16);
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                if let (Some(high), Some(low)) = (hex(), hex()) {
                    out.push((high * 16 + low) as u8);
                }
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}
