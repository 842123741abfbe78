"""What programs send: nested JSON, GraphQL, webhooks, sign-in by others, and all the verbs."""

import base64
import json

from corpus import build
from corpus.benign.words import slug, stem


def token(lot, claims=()):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    head = part(b'{"alg":"RS256","typ":"JWT","kid":"2024-05"}')
    body = part(json.dumps({"sub": str(lot.randrange(10**6)), "iss": "https://login.example.no", "exp": 17 * 10**8, **dict(claims)}).encode())
    return f"{head}.{body}.{part(bytes(lot.randrange(256) for _ in range(128)))}"


def uuid(lot):
    raw = f"{lot.getrandbits(128):032x}"
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"


GRAPHQL = [
    "query Orders($first: Int!, $after: String) { orders(first: $first, after: $after, orderBy: {field: CREATED_AT, direction: DESC}) { edges { node { id total } } pageInfo { hasNextPage endCursor } } }",
    "mutation UpdateProfile($input: ProfileInput!) { updateProfile(input: $input) { user { id name } errors { field message } } }",
    "query { viewer { login repositories(last: 5) { nodes { name stargazerCount } } } }",
    "mutation AddToCart($id: ID!, $qty: Int = 1) {\n  addToCart(productId: $id, quantity: $qty) {\n    cart { total lines { sku qty } }\n  }\n}",
    "query Search($q: String!) { search(query: $q, type: ALL) { __typename ... on Product { id name price } ... on Article { slug title } } }",
    "subscription OnMessage($room: ID!) { messageAdded(room: $room) { id body author { name } } }",
    "mutation { deleteComment(id: \"c_17\") { ok } }",
    "query IntrospectionLight { __schema { queryType { name } mutationType { name } } }",
    "query Me { me { id email roles permissions(where: {active: {_eq: true}}) { name } } }",
    "mutation InsertNotes($objects: [notes_insert_input!]!) { insert_notes(objects: $objects, on_conflict: {constraint: notes_pkey, update_columns: [body]}) { affected_rows } }",
    "fragment F on User { id name } query Team($slug: String!) { team(slug: $slug) { members { ...F } } }",
    "query Weather { forecast(lat: 59.91, lon: 10.75) @cached(ttl: 60) { now { temp wind } days(limit: 7) { min max } } }",
    "mutation Login($email: String!, $password: String!) { login(email: $email, password: $password) { token } }",
    "query Products($filter: ProductFilter = {price: {gt: 100, lt: 500}, or: [{color: BLUE}, {color: GREEN}]}) { products(filter: $filter) { totalCount } }",
    "{ a: user(id: 1) { name } b: user(id: 2) { name } }",
    "mutation UploadFile($file: Upload!) { singleUpload(file: $file) { filename mimetype } }",
]
VARIABLES = [
    {"first": 20, "after": "Y3Vyc29yOnYyOpHOAAvKPQ=="}, {"input": {"name": "Siobhán O'Hara", "bio": "I like \"quotes\" & <3"}}, {},
    {"id": "gid://shop/Product/7719", "qty": 2}, {"q": "blå jakke -barn \"regntett\""}, {"room": "r_9"}, {}, {}, {},
    {"objects": [{"title": "Handleliste", "body": "melk; egg; brød (2 stk)\n-- ikke smør!"}]}, {"slug": "team-blå"}, {},
    {"email": "o'brien@example.com", "password": "c0rrect/horse'battery\"staple;--"}, {}, {}, {"file": None},
]

DOCUMENTS = {
    "order": lambda lot: {"customer": {"id": uuid(lot), "company": "Øst & Vest A/S"}, "lines": [{"sku": f"A-{lot.randrange(999)}", "qty": lot.randrange(1, 9), "price": {"amount": "199.00", "currency": "NOK"}} for _ in range(3)], "note": "Ring på; ikke bank!", "coupon": None},
    "form-builder": lambda lot: {"form": {"title": "Påmelding", "fields": [{"type": "select", "name": "from", "options": [{"label": "Oslo", "value": "osl"}, {"label": "Å", "value": "aa"}]}, {"type": "script", "name": "where", "validate": "value.length > 3 && value !== ''"}], "onSubmit": {"action": "redirect", "to": "/takk"}}},
    "quill": lambda lot: {"delta": {"ops": [{"insert": "It's "}, {"insert": "bold", "attributes": {"bold": True}}, {"insert": "\n", "attributes": {"header": 2}}, {"insert": {"image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"}}]}},
    "prosemirror": lambda lot: {"doc": {"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "marks": [{"type": "link", "attrs": {"href": "https://example.com/?a=1&b=2", "target": "_blank"}}], "text": "her"}]}]}, "version": lot.randrange(99)},
    "geojson": lambda lot: {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [10.7 + lot.random(), 59.9]}, "properties": {"name": "O'Learys", "tags": ["pub", "sport"]}}]},
    "json-patch": lambda lot: [{"op": "replace", "path": "/address/street", "value": "King's Rd. 7"}, {"op": "remove", "path": "/phones/0"}, {"op": "test", "path": "/version", "value": lot.randrange(99)}],
    "filter": lambda lot: {"where": {"and": [{"status": {"in": ["new", "open"]}}, {"created": {"gte": "2024-01-01"}}]}, "order": ["created desc"], "limit": 50, "select": ["id", "title"]},
    "feature-flags": lambda lot: {"flags": {"dark_mode": True, "new-checkout": {"rollout": 0.25, "rules": [{"if": "country == 'NO' && age >= 18", "then": True}]}}},
    "analytics": lambda lot: {"events": [{"name": "page_view", "ts": 17 * 10**11 + lot.randrange(10**9), "props": {"path": "/kasse?steg=2", "ref": "https://www.google.com/", "vw": 1440, "title": "Kasse – O'Hara's"}}, {"name": "click", "props": {"sel": "body > div#app > main > button.btn.btn--primary:nth-child(2)", "text": "Kjøp nå!"}}]},
    "sentry": lambda lot: {"exception": {"values": [{"type": "TypeError", "value": "undefined is not an object (evaluating 'a.b')", "stacktrace": {"frames": [{"filename": "https://app.example.com/main.js", "function": "?", "lineno": 1, "colno": lot.randrange(9999)}]}}]}},
    "csp-like": lambda lot: {"csp-report": {"document-uri": "https://www.eksempel.no/", "violated-directive": "script-src-elem", "blocked-uri": "inline", "source-file": "https://www.eksempel.no/kasse", "line-number": lot.randrange(99)}},
    "translation": lambda lot: {"nb": {"cart.empty": "Handlekurven er tom", "greeting": "Hei, {{name}}!", "items": "{count, plural, one {# vare} other {# varer}}"}, "sv": {"greeting": "Hej, {{name}}!"}},
    "template": lambda lot: {"subject": "Your order {{ order.id }} is on its way", "html": "<p>Hi {{ user.first_name }},</p>{% if order.gift %}<p>It's wrapped!</p>{% endif %}", "engine": "liquid"},
    "spreadsheet": lambda lot: {"cells": {"A1": "Sum", "B1": "=SUM(B2:B9)", "C1": "=IF(B1>100;\"høy\";\"lav\")", "D1": "@kari", "E1": "-1 + 2"}, "sheet": "Ark 1"},
    "cron": lambda lot: {"jobs": [{"name": "backup", "schedule": "0 3 * * *", "command": "bin/backup --full", "env": {"PATH": "/usr/bin:/bin"}}]},
    "chart": lambda lot: {"type": "bar", "data": {"labels": ["jan", "feb", "mar"], "datasets": [{"label": "2024", "data": [lot.randrange(99) for _ in range(3)]}]}, "options": {"scales": {"y": {"beginAtZero": True}}}},
    "survey": lambda lot: {"answers": {"q1": "Ja", "q2": ["a", "c"], "q3": "Det som var bra: maten. Det som ikke var bra: \"musikken\".", "q4": 7, "q5": None, "q6": "N/A"}, "took_ms": lot.randrange(10**5)},
    "settings": lambda lot: {"notifications": {"email": {"daily": False, "from": "08:00", "to": "16:00"}}, "privacy": {"profile": "friends"}, "editor": {"theme": "one-dark", "keymap": "vim", "exec_on_save": ["prettier --write"]}},
    "calendar": lambda lot: {"summary": "Møte: 'status' & veien videre", "start": {"dateTime": "2024-05-21T09:00:00+02:00"}, "recurrence": ["RRULE:FREQ=WEEKLY;BYDAY=TU;UNTIL=20241231T000000Z"], "attendees": [{"email": "lars.o'hara@example.com"}]},
    "shipping": lambda lot: {"from": {"postalCode": "0150", "countryCode": "NO"}, "to": {"postalCode": "123 45", "countryCode": "SE"}, "parcels": [{"weight": 1.25, "dim": "30x20x10"}], "options": {"select": "cheapest", "union": False}},
    "import-map": lambda lot: {"imports": {"react": "https://esm.example.sh/react@18.2.0", "./": "/src/"}, "scopes": {"/admin/": {"lodash": "/node_modules/lodash-es/lodash.js"}}},
    "permissions": lambda lot: {"role": "editor", "grants": [{"action": "update", "resource": "table:orders", "effect": "allow", "condition": "resource.owner == user.id"}, {"action": "delete", "resource": "*", "effect": "deny"}]},
    "diff": lambda lot: {"patch": "@@ -1,2 +1,2 @@\n-SELECT 1;\n+SELECT 2; -- better\n", "base": build.digest(str(lot.random()), 40)},
    "emoji": lambda lot: {"reaction": "👍🏽", "on": uuid(lot), "text": "Så bra! 🎉🇳🇴 <3 :-P"},
    "invoice": lambda lot: {"invoice": {"kid": "0012345678901", "due": "2024-06-14", "amount": 1249.5, "lines": [{"text": "Konsulent, 3 t á 950,-", "vat": "25 %"}, {"text": "Rabatt (10 %)", "amount": -95}]}},
}

WEBHOOKS = [
    ("stripe", "/webhooks/stripe", "Stripe/1.0 (+https://stripe.com/docs/webhooks)", ("Stripe-Signature", "t=1715000000,v1=%s,v0=%s"),
     ["charge.succeeded", "customer.subscription.updated", "invoice.payment_failed", "checkout.session.completed", "payout.paid"],
     lambda lot, kind: {"id": f"evt_{build.digest(kind, 24)}", "object": "event", "type": kind, "livemode": False, "data": {"object": {"id": f"in_{lot.randrange(10**9)}", "amount": lot.randrange(10**5), "currency": "nok", "description": "Kari's plan (månedlig)", "metadata": {"order": str(lot.randrange(999))}, "receipt_url": "https://pay.stripe.com/receipts/payment/CAcaFwoVYWNjdF8"}}}),
    ("github", "/hooks/git", "GitHub-Hookshot/2a8f1c3", ("X-Hub-Signature-256", "sha256=%s"),
     ["push", "pull_request", "issues", "release", "workflow_run", "issue_comment"],
     lambda lot, kind: {"action": "opened", "ref": "refs/heads/fix/select-from-where", "repository": {"full_name": "team/app", "html_url": "https://github.com/team/app"}, "head_commit": {"message": f"{kind}: don't drop the table; update it\n\nCloses #4 & #7", "author": {"name": "Åse O'Hara", "email": "ase@example.com"}, "modified": ["src/db/union.rs", ".github/workflows/ci.yml", "../README.md"]}, "sender": {"login": "lars-o", "id": lot.randrange(10**6)}}),
    ("slack", "/integrations/slack/events", "Slackbot 1.0 (+https://api.slack.com/robots)", ("X-Slack-Signature", "v0=%s"),
     ["message", "app_mention", "reaction_added", "url_verification"],
     lambda lot, kind: {"type": "event_callback", "event": {"type": kind, "user": "U02ABC", "text": "<@U01> can't you just `rm` it? :laughing: <https://example.com|link>", "ts": f"17150000{lot.randrange(99)}.000200"}, "challenge": build.digest(kind, 40)}),
    ("vipps", "/vipps/callbacks/v2/payments", "Vipps Webhooks/1.0", ("Authorization", "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=%s="),
     ["RESERVE", "CANCEL", "SALE"],
     lambda lot, kind: {"merchantSerialNumber": "123456", "orderId": f"ord-{lot.randrange(10**6)}", "transactionInfo": {"amount": 39900, "status": kind, "timeStamp": "2024-05-17T10:00:00.123Z"}}),
    ("mail", "/inbound/mail", "mail-hook/3.1", ("X-Signature", "%s"),
     ["delivered", "bounced", "opened", "clicked"],
     lambda lot, kind: {"event": kind, "recipient": "o'brien+shop@example.com", "reason": "550 5.1.1 <x@example.com>: Recipient address rejected: User unknown in virtual mailbox table", "user-agent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)", "url": "https://example.com/?a=1&b=%27", "n": lot.randrange(10**6)}),
    ("alert", "/alertmanager", "Alertmanager/0.27.0", ("X-Scope-OrgID", "%s"),
     ["firing", "resolved"],
     lambda lot, kind: {"status": kind, "alerts": [{"labels": {"alertname": "HighLoad", "instance": "10.0.0.5:9100"}, "annotations": {"summary": "load > 4 for 5m; see `top`", "expr": "rate(http_requests_total{code=~\"5..\"}[5m]) > 0.1 or up == 0"}}], "v": lot.randrange(99)}),
]

SIGN_IN = [
    ("/oauth/callback", [("code", "4/0AX4XfWh-{hex}"), ("scope", "email profile https://www.googleapis.com/auth/userinfo.email openid"), ("authuser", "0"), ("prompt", "consent"), ("state", "{b64}")]),
    ("/auth/github/callback", [("code", "{hex}"), ("state", "{hex}"), ("iss", "https://github.com/login/oauth")]),
    ("/login/oidc/return", [("code", "{b64}"), ("session_state", "{uuid}"), ("state", "eyJyZXR1cm4iOiIvb3JkcmUvNyJ9.{hex}")]),
    ("/auth/callback", [("error", "access_denied"), ("error_description", "The user denied the request; you can't proceed"), ("state", "{hex}")]),
    ("/authorize", [("response_type", "code id_token"), ("client_id", "{uuid}"), ("redirect_uri", "https://app.eksempel.no/auth/callback?next=%2Fordre"), ("scope", "openid profile"), ("nonce", "{hex}"), ("code_challenge", "{b64}"), ("code_challenge_method", "S256")]),
    ("/saml/login", [("SAMLRequest", "fZLNTsMwEITv{b64}"), ("RelayState", "https://app.eksempel.no/"), ("SigAlg", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"), ("Signature", "{b64}==")]),
    ("/magic", [("token", "{b64}"), ("email", "o'brien@example.com"), ("redirect", "/velkommen?ny=1")]),
    ("/bankid/return", [("transaction", "{uuid}"), ("status", "COMPLETE"), ("name", "NORDMANN, OLA"), ("hintCode", "")]),
]


def graphql(corpus):
    for number, (text, variables) in enumerate(zip(GRAPHQL, VARIABLES)):
        name = f"graphql-{number}"
        corpus.json(name, "GraphQL", "/graphql", {"operationName": None, "query": text, "variables": variables})
        if text.startswith(("query", "{")):
            corpus.search(name, "GraphQL by GET", "/graphql", [("query", text), ("variables", json.dumps(variables))], accept="application/json", mode="cors", dest="empty")
        corpus.json(name, "persisted GraphQL", "/api/graphql/batch",
                    [{"query": text, "variables": variables, "extensions": {"persistedQuery": {"version": 1, "sha256Hash": build.digest(text, 64)}}}])


def documents(corpus):
    for kind, make in DOCUMENTS.items():
        for number in range(3):
            name = f"doc-{kind}"
            lot = corpus.lot(name)
            method = ("POST", "PUT", "PATCH")[number]
            headers = [("User-Agent", lot.choice(CLIENTS)), ("Accept", "application/json"), ("Content-Type", "application/json"),
                       ("Authorization", f"Bearer {token(lot)}"), ("X-Request-Id", uuid(lot))]
            path = f"/api/v{number + 1}/{kind}s" + ("" if method == "POST" else f"/{uuid(lot)}")
            body = json.dumps(make(lot), ensure_ascii=number == 1, indent=2 if number == 2 else None)
            corpus.client(name, f"{method} of a nested document", method, path, headers, body)


CLIENTS = ["curl/8.5.0", "python-requests/2.31.0", "Go-http-client/1.1", "okhttp/4.12.0", "axios/1.6.8", "PostmanRuntime/7.39.0", "Dart/3.4 (dart:io)",
           "Apache-HttpClient/5.3.1 (Java/21.0.2)", "GuzzleHttp/7", "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)", "MyApp/3.2.1 (iPhone; iOS 17.5; Scale/3.00)",
           "Eksempel-Android/412 (Pixel 8; Android 14)", "aiohttp/3.9.5", "Ruby", "reqwest/0.12.4", "HTTPie/3.2.2"]


def verbs(corpus):
    things = ["orders", "kunder", "notes", "sessions", "comments", "files", "tables", "users", "select-lists", "unions", "scripts", "exports"]
    for number, thing in enumerate(things):
        for method in ("DELETE", "PATCH", "PUT", "GET", "HEAD"):
            name = f"verb-{thing}"
            lot = corpus.lot(name)
            headers = [("User-Agent", CLIENTS[(number + lot.randrange(9)) % len(CLIENTS)]), ("Accept", lot.choice(["*/*", "application/json", "application/hal+json"])),
                       ("Authorization", lot.choice([f"Bearer {token(lot)}", "Basic " + base64.b64encode(b"app:p'ss;word").decode()]))]
            body = b""
            if method in ("PATCH", "PUT"):
                headers.append(("Content-Type", "application/json"))
                body = json.dumps({"title": f"{thing}: it's no. {number}", "archived": method == "PUT", "updatedAt": "2024-05-17T10:00:00Z", "tags": [thing, "null", "a/b"]})
            if method in ("PUT", "DELETE"):
                headers.append(("If-Match", f'"{build.digest(thing + method)}"'))
            path = {"GET": f"/v1/{thing}?limit=50&offset={number * 50}&fields=id,name,created_at&sort=-created_at&filter[status]=open",
                    "HEAD": f"/v1/{thing}/export.csv"}.get(method, f"/v1/{thing}/{uuid(lot)}" + ("?force=true" if method == "DELETE" else ""))
            corpus.client(name, f"{method} by a client", method, path, headers, body)


def webhooks(corpus):
    for who, path, agent, (header, signed), kinds, make in WEBHOOKS:
        for kind in kinds:
            name = f"hook-{who}-{slug(kind)}"
            lot = corpus.lot(name)
            headers = [("Host", "app.eksempel.no"), ("User-Agent", agent), ("Accept", "*/*"), ("Content-Type", "application/json"),
                       (header, signed.replace("%s", build.digest(name, 64))), ("X-Event-Type", kind), ("X-Delivery", uuid(lot))]
            corpus.client(name, f"a webhook as {who} sends it", "POST", f"{path}/{slug(kind)}", headers, json.dumps(make(lot, kind)))
            if who in ("slack", "github", "mail"):
                form = [("payload", json.dumps(make(lot, kind)))]
                plain = [(one, "application/x-www-form-urlencoded") if one == "Content-Type" else (one, said) for one, said in headers]
                corpus.client(name, f"a webhook as a form, as {who} sends it", "POST", f"{path}/{slug(kind)}", plain, build.urlencoded(form))


def sign_in(corpus):
    for number, (path, fields) in enumerate(SIGN_IN):
        for host in ("app.eksempel.no", "min.side.example.no", "www.exempel.se"):
            name = f"signin-{number}"
            lot = corpus.lot(name)
            filled = [(key, said.replace("{hex}", build.digest(host + path + key, 40)).replace("{uuid}", uuid(lot))
                       .replace("{b64}", base64.urlsafe_b64encode(bytes(lot.randrange(256) for _ in range(60))).rstrip(b"=").decode())) for key, said in fields]
            corpus.search(name, "back from signing in elsewhere", path, filled, host=host, site="cross-site", referer="https://accounts.example.com/")
    for number, kind in enumerate(("authorization_code", "refresh_token", "client_credentials", "password", "urn:ietf:params:oauth:grant-type:device_code")):
        name = f"token-{number}"
        lot = corpus.lot(name)
        fields = [("grant_type", kind), ("client_id", uuid(lot)), ("client_secret", base64.b64encode(bytes(lot.randrange(256) for _ in range(30))).decode()),
                  ("code", build.digest(kind, 43)), ("redirect_uri", "https://app.eksempel.no/auth/callback"), ("username", "d'angelo@example.com"), ("password", "Sommer--2024!;")]
        corpus.client(name, "a request for a token", "POST", "/oauth/token",
                      [("User-Agent", CLIENTS[number]), ("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")], build.urlencoded(fields[:4 + number % 4]))
    for number, text in enumerate(build.lines("urls.txt")):
        name = stem("url", text)
        lot = corpus.lot(name)
        field = lot.choice(["url", "redirect", "next", "return_to", "u", "continue", "ref", "image", "og:image", "callback"])
        corpus.search(name, "an address in a parameter", lot.choice(["/login", "/share", "/go", "/oembed", "/preview"]), [(field, text), ("v", lot.randrange(9)), ("src", slug(text, 8))])
        corpus.json(name, "an address in JSON", "/api/links", {"url": text, "title": f"Lenke {number}: {slug(text)}", "meta": {"og:image": text if number % 2 else None, "og:title": "It's here"}})
        corpus.form(name, "an address in a form", "/bokmerker/ny", [("adresse", text), ("tittel", slug(text).replace("-", " ")), ("stikkord", "lese, senere")])


def fill(corpus):
    for part in (graphql, documents, verbs, webhooks, sign_in):
        part(corpus)
