"""What comes without a word of its writer: pages with long cookies, odd paths, filters, ranges, robots, and handshakes."""

import base64
import json
from urllib.parse import quote

from corpus import build
from corpus.benign.apis import token, uuid
from corpus.benign.words import slug, stem

PATHS = [
    "/blog/2024/05/17/hurra-for-17-mai", "/sv/om-oss/jobba-hos-oss", "/produkter/sko/herre/løpesko", "/wiki/C++", "/wiki/Rock_'n'_Roll", "/wiki/AC/DC",
    "/artikler/«sitat»-og-annet", "/kategori/mat & drikke", "/tag/c#", "/@kari/post/7", "/~lars/notater.html", "/a/b/c/side", "/fil/rapport (1).pdf",
    "/img/hero@2x.jpg", "/assets/index-4f2a91c3.js", "/assets/vendor~main.8b1f.chunk.css", "/fonts/inter-v13-latin-regular.woff2", "/media/2024-05/film;v=2.mp4",
    "/.well-known/security.txt", "/.well-known/openid-configuration", "/.well-known/acme-challenge/3kq_9Zx-aa", "/.well-known/assetlinks.json", "/robots.txt", "/sitemap-index.xml",
    "/favicon.ico", "/apple-touch-icon-precomposed.png", "/manifest.webmanifest", "/sw.js", "/feed/atom/", "/index.php/om-oss", "/default.aspx", "/no/søk/avansert",
    "/butikk/størrelse:42/farge:blå", "/map/59.9139,10.7522,14z", "/kalender/2024-W21", "/calc/1+1=2", "/pris/100-500", "/users/o'brien", "/kunde/d’angelo", "/r/union-select",
    "/docs/select-from-where", "/docs/api/v2/orders", "/hjelp/hva-er-null", "/hjelp/feil-500", "/kurs/sql-for-alle/leksjon-3-drop-table", "/kurs/html/script-taggen",
    "/forum/traad/hvorfor-er-1=1-sant", "/oppskrift/kjøttkaker-i-brun-saus", "/recept/köttbullar", "/emoji/😀", "/日本語/ページ", "/search/label/exec", "/arkiv/etc/diverse", "/bin/søppel",
    "/_next/data/Xy12-abC/no/index.json", "/_nuxt/entry.5c1f.js", "/__webpack_hmr", "/api/trpc/post.byId,user.me", "/socket.io/", "/v/%C3%B8l", "/pakke/react@18.2.0/umd",
    "/node/71/edit", "/system/files/styles/large/public/2024-05/bilde.jpg", "/wp-content/uploads/2024/05/sommer-300x200.jpg", "/wp-json/wp/v2/posts", "/admin/konto/innstillinger",
    "/min-side/passord/glemt", "/logs/oversikt", "/config/hjelp", "/backup/om-tjenesten", "/test/kunnskapsprøve", "/cmd/om-oss", "/ping/kart", "/id/123456789", "/sak/24/00117-3",
]
FILTERS = [
    [("fra", "2024-05-01"), ("til", "2024-05-31"), ("sortering", "-dato")], [("price[min]", "100"), ("price[max]", "499,50"), ("currency", "NOK")],
    [("q", ""), ("f[0]", "brand:O'Neill"), ("f[1]", "size:XL"), ("page", "2")], [("dato", "17.05.2024"), ("tid", "10:00"), ("antall", "2 voksne + 1 barn")],
    [("tlf", "+47 22 33 44 55"), ("land", "NO")], [("bbox", "10.6,59.8,10.9,60.0"), ("zoom", "12.5")], [("filter", "(status eq 'open') and (total gt 100)"), ("$top", "20")],
    [("$filter", "startswith(Name,'Å') or Price lt 10.5"), ("$orderby", "Name desc"), ("$select", "Id,Name")], [("sort", "name,asc"), ("fields", "id,name,price*")],
    [("range", "[2024-01-01 TO 2024-12-31]"), ("facet", "true")], [("where[status][in]", "a,b"), ("include", "user.address")], [("id", "1,2,3,4"), ("op", ">=")],
    [("ids[]", "7"), ("ids[]", "9"), ("ids[]", "11")], [("from", "OSL"), ("to", "BGO"), ("depart", "2024-06-21"), ("return", "")], [("rating", ">4"), ("type", "!draft")],
    [("color", "#ff8800"), ("bg", "rgba(0,0,0,.5)")], [("lat", "-33.8688"), ("lon", "151.2093"), ("unit", "°C")], [("t", "PT1H30M"), ("tz", "Europe/Oslo"), ("now", "2024-05-17T10:00:00+02:00")],
    [("cursor", "eyJpZCI6MTIzLCJkaXIiOiJuZXh0In0="), ("limit", "25")], [("hash", "sha256:9f86d081884c7d659a2feaa0c55ad015"), ("w", "800"), ("q", "75")],
    [("utm_source", "newsletter"), ("utm_campaign", "vår-2024 (uke 20)"), ("utm_content", "knapp_'kjøp'"), ("mc_eid", "a1b2c3")], [("gclid", "Cj0KCQjw_-GxBhC1ARIsADGgDjs"), ("gad_source", "1")],
    [("fbclid", "IwAR0dE-x_9"), ("ref", "share")], [("isbn", "978-82-02-12345-6"), ("utgave", "2.")], [("konto", "1234 56 78903"), ("kid", "0012345678901"), ("belop", "1.249,50")],
    [("iban", "NO93 8601 1117 947"), ("bic", "DNBANOKK")], [("regnr", "EL 12345"), ("chassis", "WVWZZZ1KZ6W000001")], [("expr", "2*(3+4)/7-1")], [("formel", "H2SO4 + 2 NaOH -> Na2SO4 + 2 H2O")],
    [("bibel", "Joh 3:16-17; Sal 23"), ("versjon", "2011")], [("sjakk", "1.e4 e5 2.Nf3 Nc6 3.Bb5 a6"), ("resultat", "1/2-1/2")], [("dna", "ATG;GCC;TAA"), ("fasta", ">seq1")], [("morse", "... --- ..."), ("wpm", "12")],
    [("latex", "\\frac{a}{b} < \\sqrt{2}")], [("xpath", "//div[@class='pris']/text()")], [("css", "ul > li:nth-child(2n+1) a[href^='/']")], [("jq", ".items[] | select(.price > 10) | .name")],
    [("glob", "**/*.{js,ts}")], [("mask", "255.255.255.0"), ("gw", "10.0.0.1")], [("mac", "00:1A:2B:3C:4D:5E")], [("ver", "^1.2.3 || ~2.0"), ("pkg", "@scope/navn")],
]
ROBOTS = [
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "/robots.txt?v=1"), ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "/artikler/bing"),
    ("Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers)", "/feed.xml"), ("NetNewsWire (RSS Reader; https://netnewswire.com/)", "/rss"), ("FreshRSS/1.24.0 (Linux; https://freshrss.org)", "/atom.xml"),
    ("Miniflux/2.1.3", "/blog/feed.json"), ("kube-probe/1.29", "/healthz"), ("ELB-HealthChecker/2.0", "/health?full=0"), ("GoogleHC/1.0", "/_ah/health"), ("Consul Health Check", "/v1/up"), ("UptimeRobot/2.0", "/status/ping"),
    ("Prometheus/2.51.0", "/metrics"), ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "/artikler/delt"), ("Twitterbot/1.0", "/artikler/x"), ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "/artikler/slack"),
    ("WhatsApp/2.23.20.0", "/artikler/wa"), ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "/artikler/ahrefs"), ("DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)", "/artikler/ddg"),
    ("Apple-PubSub/65.28", "/podcast.rss"), ("AntennaPod/3.4.0", "/podkast/episode-12.mp3"), ("iTMS", "/podkast/feed"), ("Wget/1.21.4", "/nedlasting/manual.pdf"), ("curl/7.88.1", "/install.sh"), ("apt-http/1.3 (2.6.1)", "/debian/dists/bookworm/InRelease"),
    ("git/2.43.0", "/team/app.git/info/refs?service=git-upload-pack"), ("pip/24.0 {\"ci\":null,\"cpu\":\"x86_64\",\"implementation\":{\"name\":\"CPython\",\"version\":\"3.12.3\"}}", "/simple/requests/"), ("npm/10.5.0 node/v20.12.2 linux x64 workspaces/false", "/@scope%2fpakke"),
    ("docker/26.1.0 go/go1.21.9 git-commit/c8af8eb os/linux arch/amd64", "/v2/"), ("Docker-Client/26.1.0 (linux)", "/v2/team/app/manifests/1.2.3"), ("cargo 1.78.0 (54d8815d0 2024-03-26)", "/index/se/rd/serde"),
    ("VLC/3.0.20 LibVLC/3.0.20", "/strom/radio.mp3"), ("AppleCoreMedia/1.0.0.21F79 (iPhone; U; CPU OS 17_5 like Mac OS X; nb_no)", "/hls/index.m3u8"), ("CalDAV-client/4.4", "/kalender.ics"), ("Let's Encrypt validation server (+https://www.letsencrypt.org)", "/.well-known/acme-challenge/abc"),
]


def long_cookie(lot, name):
    parts = [
        f"_ga=GA1.1.{lot.randrange(10**9)}.{lot.randrange(10**10)}", f"_ga_{build.digest(name, 10).upper()}=GS1.1.1715{lot.randrange(10**6)}.3.1.1715{lot.randrange(10**6)}.60.0.0",
        f"_gcl_au=1.1.{lot.randrange(10**9)}.1715000000", f"_fbp=fb.1.1715000000000.{lot.randrange(10**9)}", f"__stripe_mid={uuid(lot)}{build.digest(name, 6)}",
        "OptanonConsent=isGpcEnabled=0&datestamp=Fri+May+17+2024+10%3A00%3A00+GMT%2B0200+(sentraleuropeisk+sommertid)&version=202403.1.0&groups=C0001%3A1%2CC0002%3A0&AwaitingReconsent=false",
        "CookieConsent={stamp:%27" + base64.b64encode(name.encode()).decode() + "==%27%2Cnecessary:true%2Cpreferences:false%2Cver:1%2Cregion:%27no%27}",
        f"token={token(lot)}", f"ajs_anonymous_id=%22{uuid(lot)}%22", f"connect.sid=s%3A{build.digest(name, 32)}.{quote(base64.b64encode(bytes(lot.randrange(256) for _ in range(32))).decode(), safe='')}",
        f"XSRF-TOKEN={quote(base64.b64encode(json.dumps({'iv': build.digest(name, 16), 'value': build.digest(name + 'v', 40)}).encode()).decode(), safe='')}", f"laravel_session={build.digest(name, 40)}", f"PHPSESSID={build.digest(name, 26)}",
        f"JSESSIONID={build.digest(name, 32).upper()}.node1", f"ASP.NET_SessionId={build.digest(name, 24)}", "wordpress_test_cookie=WP%20Cookie%20check", f"wordpress_logged_in_{build.digest(name, 32)}=kari%7C1716{lot.randrange(10**6)}%7C{build.digest(name, 43)}",
        f"cart=%7B%22items%22%3A%5B%7B%22id%22%3A{lot.randrange(999)}%2C%22name%22%3A%22O'Neill%20jakke%22%7D%5D%7D", "prefs={\"lang\":\"nb\",\"theme\":\"dark\"}", "sist_besokt=/produkter/sko?farge=bl%C3%A5&str=42", f"intercom-device-id-a1b2={uuid(lot)}",
        f"_hjSessionUser_{lot.randrange(10**6)}=eyJpZCI6IjEyMyIsImNyZWF0ZWQiOjE3MTUwMDAwMDAwMDAsImV4aXN0aW5nIjp0cnVlfQ==", f"mp_{build.digest(name, 32)}_mixpanel=%7B%22distinct_id%22%3A%20%22%24device%3A{build.digest(name, 12)}%22%7D", "hide_banner=1", f"rack.session={quote(base64.b64encode(bytes(lot.randrange(256) for _ in range(90))).decode(), safe='')}--{build.digest(name, 40)}",
    ]
    return "; ".join(lot.sample(parts, lot.randrange(5, 12)))


def encoded(path):
    return quote(path, safe="/%:@!$&'()*+,;=~#?-._")


def pages(corpus):
    for path in PATHS:
        name = stem("page", path)
        lot = corpus.lot(name)
        address = quote(path, safe="/%:@!$'()*,;=~-._+&")
        corpus.get(name, "a page, with what a visitor has collected", address, cookie=long_cookie(lot, name),
                   referer=lot.choice(["https://www.google.com/", "https://duckduckgo.com/?q=" + quote("it's here"), "https://www.eksempel.no/sok?q=select+from&side=2", "android-app://com.google.android.gm/"]))
        corpus.get(name, "the same in a frame, with tracking", f"{address}?utm_source={slug(name, 9)}&ts={lot.randrange(10**9)}&{lot.choice(['v', '_', 'ver', 'cb', 'r'])}=0.{lot.randrange(10**9)}",
                   mode=lot.choice(["no-cors", "cors"]), dest=lot.choice(["image", "script", "style", "empty", "iframe"]), accept="*/*", cookie=long_cookie(lot, name + "2"))


def filters(corpus):
    for fields in FILTERS:
        name = stem("filter", fields[0][0] + fields[0][1])
        lot = corpus.lot(name)
        corpus.search(name, "a filtered list", lot.choice(["/liste", "/api/items", "/produkter/alle", "/rapport"]), fields, cookie=long_cookie(lot, name))
        corpus.json(name, "a filter in JSON", "/api/v3/query", {"filters": [{"field": key, "value": said} for key, said in fields], "view": slug(fields[0][0])})
        corpus.form(name, "a filter in a form", "/rapporter/lag", [*fields, ("format", lot.choice(["pdf", "xlsx", "csv"])), ("knapp", "Lag rapport »")])


def robots(corpus):
    for number, (agent, path) in enumerate(ROBOTS):
        name = stem("robot", agent)
        lot = corpus.lot(name)
        headers = [("Host", "10.0.0.7:8080" if agent.startswith(("kube-probe", "ELB")) else lot.choice(build.HOSTS)), ("User-Agent", agent), ("Accept", lot.choice(["*/*", "application/rss+xml, application/atom+xml;q=0.9, */*;q=0.1", "text/html,*/*;q=0.5"]))]
        if number % 3 == 0:
            headers += [("If-Modified-Since", "Fri, 17 May 2024 10:00:00 GMT"), ("If-None-Match", f'W/"{build.digest(name)}"')]
        if number % 4 == 0:
            headers += [("Accept-Encoding", "gzip"), ("From", "bot(at)example.com")]
        corpus.client(name, "a robot, a reader or a probe", "GET", path, headers)


def special(corpus):
    files = ["/video/film.mp4", "/lyd/episode-12.mp3", "/nedlasting/app-3.2.1.dmg", "/kart/norge.pmtiles", "/hls/720p/segment_004.ts", "/iso/debian-12.5.0-amd64-netinst.iso", "/pdf/haandbok.pdf", "/data/tabell.parquet", "/video/reklame (1).webm", "/backup/bilder-2024.zip"]
    ranges = ["bytes=0-", "bytes=0-1023", "bytes=1048576-2097151", "bytes=-500", "bytes=0-0", "bytes=100-199,300-399", "bytes=65536-", "bytes=0-99, -1", "bytes=32768-49151", "bytes=500-999"]
    for number, (path, span) in enumerate(zip(files, ranges)):
        for again in ("", "?v=2&token=" + build.digest(path, 20)):
            name = f"range-{number}"
            corpus.get(name, "a part of a file", encoded(path) + again, mode="no-cors", dest="video", accept="*/*",
                       after=[("Range", span), ("If-Range", f'"{build.digest(path)}"' if again else "Fri, 17 May 2024 10:00:00 GMT")])
    wishes = [("PUT", "content-type,authorization"), ("DELETE", "x-csrf-token"), ("PATCH", "content-type,if-match,x-request-id"), ("POST", "content-type,x-api-key,x-amz-date"), ("GET", "authorization,traceparent,baggage")]
    for number, (method, headers) in enumerate(wishes):
        for path in ("/api/orders", "/graphql", "/upload/init", "/v1/select/from/users"):
            name = f"preflight-{number}-{slug(path)}"
            corpus.add(name, "a preflight", "OPTIONS", f"{path}/{method.lower()}?for={slug(headers)}",
                       corpus.browser(name, accept="*/*", mode="cors", dest="empty", site="cross-site", origin=True, cookie="",
                                      before=[("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", headers)]))
    for number, path in enumerate(["/ws", "/socket.io/?EIO=4&transport=websocket&sid=abc-_9", "/cable", "/graphql/subscriptions", "/hub?id=x1y2&access_token=eyJhbGciOi", "/phoenix/live/websocket?_csrf_token=Qx~1&vsn=2.0.0", "/signalr/connect?transport=webSockets&connectionToken=AQ%2B%2F%3D", "/sockjs/000/abcd1234/websocket", "/_next/webpack-hmr", "/vite/?token=ab", "/yjs/rom-7?user=O'Hara", "/mqtt", "/live/kurs?symbol=EQNR.OL", "/terminal/ws?cols=80&rows=24&shell=bash", "/chat/rom/«stua»"]):
        name = f"websocket-{number}"
        lot = corpus.lot(name)
        key = base64.b64encode(bytes(lot.randrange(256) for _ in range(16))).decode()
        host = lot.choice(build.HOSTS)
        corpus.add(name, "a WebSocket handshake", "GET", encoded(path),
                   [("Host", host), ("Connection", lot.choice(["Upgrade", "keep-alive, Upgrade"])), ("Pragma", "no-cache"), ("Cache-Control", "no-cache"), ("User-Agent", lot.choice(build.BROWSERS).agent), ("Accept", "*/*"),
                    ("Upgrade", "websocket"), ("Origin", f"https://{host}"), ("Sec-WebSocket-Version", "13"), ("Accept-Encoding", "gzip, deflate, br"), ("Accept-Language", lot.choice(build.LANGUAGES)),
                    ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"), *([("Sec-WebSocket-Protocol", "graphql-transport-ws, graphql-ws")] if "graphql" in path else [])])
    for number, (kind, body) in enumerate([("text/plain;charset=UTF-8", '{"t":"beacon","d":[1,2,"it\'s"]}'), ("application/xml", "<?xml version=\"1.0\"?><ordre id=\"7\"><navn>O'Hara &amp; S\u00f8nn</navn></ordre>"), ("text/xml; charset=utf-8", '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><HentKunde xmlns="http://eksempel.no/"><Nr>42</Nr></HentKunde></s:Body></s:Envelope>'),
                                           ("application/soap+xml", '<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope"><env:Body/></env:Envelope>'), ("application/json; charset=utf-8", '"just a string; it\'s fine"'), ("application/vnd.api+json", '{"data":{"type":"orders","attributes":{"note":"a < b"}}}'), ("application/merge-patch+json", '{"a":null}'), ("application/x-ndjson", '{"n":1}\n{"n":2}\n')]):
        name = f"body-{number}"
        corpus.client(name, f"a body of {kind}", "POST", f"/inn/{slug(kind)}", [("Host", "www.eksempel.no"), ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"), ("Accept", "*/*"), ("Content-Type", kind)], body.encode())


def fill(corpus):
    for part in (pages, filters, robots, special):
        part(corpus)
