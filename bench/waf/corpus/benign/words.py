"""What people write: in comments, profiles, search boxes, editors and support forms."""

import re

from corpus import build

WHERE = ["kommentar", "innlegg", "artikkel/17-mai", "post/vinterdekk", "thread/4711-help", "nyheter/2024/05", "produkt/stol-blaa"]


def slug(text, length=28):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or build.digest(text)


def stem(kind, text):
    return f"{kind}-{slug(text, 20)}-{build.digest(text, 4)}"


def prose(corpus):
    for tongue in ("nb", "sv", "en"):
        for text in build.lines(f"prose.{tongue}.txt"):
            name = stem(tongue, text)
            lot = corpus.lot(name)
            title = " ".join(text.split()[:4])
            corpus.form(name, "a comment in a form", f"/{lot.choice(WHERE)}/kommentarer",
                        [("_token", build.digest(name, 40)), ("parent_id", lot.randrange(9999)), ("comment", text), ("submit", "Send")])
            corpus.json(name, "a message in an app", f"/api/v1/{lot.choice(['messages', 'tickets', 'comments', 'reviews'])}",
                        {"subject": title, "body": text, "tags": lot.sample(["help", "faktura", "retur", "bug", "ros"], 2),
                         "rating": lot.randrange(1, 6), "anonymous": lot.random() < 0.3})
            if len(text) < 130:
                corpus.search(name, "a text in a link", "/oversett", [("fra", tongue), ("til", "de"), ("tekst", text)])
            else:
                corpus.upload(name, "a contact form with an empty file field", "/kontakt",
                              [("navn", "Kari Nordmann"), ("epost", f"kari.{lot.randrange(999)}@example.com"), ("emne", title),
                               ("melding", text), ("vedlegg", "", "application/octet-stream", b"")])


def code(corpus):
    for tongue, text in build.pieces("code.txt"):
        name = stem(f"code-{tongue.replace('+', 'p')}", text)
        lot = corpus.lot(name)
        corpus.json(name, f"a snippet of {tongue}", "/api/snippets",
                    {"files": {f"{slug(text, 12)}.{tongue}": {"content": text}}, "public": lot.random() < 0.5, "description": f"{tongue} example"})
        corpus.form(name, f"{tongue} in a question of a forum", "/questions/ask/submit",
                    [("title", f"How does this {tongue} work?"), ("post-text", f"I've got this:\n\n```{tongue}\n{text}\n```\n\nWhat's wrong with it?"),
                     ("tagnames", f"{tongue} beginner"), ("fkey", build.digest(name, 32))])


def markdown(corpus):
    for _, text in build.pieces("markdown.txt"):
        name = stem("markdown", text)
        lot = corpus.lot(name)
        corpus.json(name, "an issue in Markdown", f"/api/v4/projects/{lot.randrange(99)}/issues",
                    {"title": text.split("\n")[0][:60], "description": text, "labels": "bug,help wanted"})
        corpus.form(name, "a page of a wiki", f"/wiki/{slug(text)}/edit",
                    [("authenticity_token", build.digest(name, 43) + "=="), ("page[content]", text), ("page[format]", "markdown"),
                     ("page[message]", "Update " + slug(text, 12)), ("commit", "Save changes")], method="POST")


def rich_text(corpus):
    for _, text in build.pieces("richtext.txt"):
        name = stem("richtext", text)
        lot = corpus.lot(name)
        corpus.form(name, "an editor in a form", f"/admin/sider/{lot.randrange(999)}/{slug(text, 10)}",
                    [("title", re.sub(r"<[^>]+>", " ", text).strip()[:40]), ("content", text), ("status", "publish"), ("_method", "put")])
        corpus.json(name, "an editor over JSON", f"/wp-json/wp/v2/pages/{lot.randrange(999)}",
                    {"content": text, "excerpt": "", "status": "draft", "meta": {"_edit_lock": f"17{lot.randrange(10**8)}:1"}})
        corpus.upload(name, "a newsletter", "/nyhetsbrev/lag",
                      [("emne", "Nytt i mai"), ("html", f"<html><body>{text}</body></html>"), ("avsender", "post@eksempel.no")])


def questions(corpus):
    """Texts that look like SQL, expressions, commands, and traces of errors."""
    for text in build.lines("sqlish.txt"):
        name = stem("sqlish", text)
        corpus.search(name, "a search that reads like SQL", "/sok", [("q", text), ("side", 1)])
        corpus.form(name, "a note that reads like SQL", "/notater", [("tittel", text[:20]), ("tekst", f"{text[0].upper()}{text[1:]}."), ("lagre", "1")])
        corpus.json(name, "a chat that reads like SQL", "/api/chat", {"room": "general", "text": text, "client_msg_id": build.digest(name, 12)})
    for text in build.lines("regexes.txt"):
        name = stem("regex", text)
        corpus.search(name, "a regular expression in a search", "/search", [("regex", "1"), ("q", text), ("case", "no")])
        corpus.json(name, "a regular expression in a rule", "/api/filters",
                    {"name": f"filter {build.digest(text, 6)}", "match": {"field": "subject", "op": "regex", "value": text}, "then": "archive"})
    for text in build.lines("shell.txt"):
        name = stem("shell", text)
        corpus.form(name, "a question of shells", "/forum/ny-trad", [("subforum", "linux"), ("emne", " ".join(text.split()[:5])), ("innhold", text)])
        corpus.json(name, "an answer of shells", f"/api/posts/{corpus.lot(name).randrange(9999)}/answers", {"markdown": text, "accept_terms": True})
    for _, text in build.pieces("logs.txt"):
        name = stem("log", text)
        corpus.form(name, "an error in a support form", "/support", [("product", "app"), ("version", "3.2.1"), ("what_happened", "It said:\n" + text)])
        corpus.json(name, "an error that an app reports", "/api/0/envelope/",
                    {"level": "error", "platform": "javascript", "message": text, "extra": {"retry": False, "user": None}})


def searches(corpus):
    for number, text in enumerate(build.lines("searches.txt")):
        name = stem("search", text)
        lot = corpus.lot(name)
        path, field = lot.choice([("/search", "q"), ("/sok", "query"), ("/s", "k"), ("/produkter", "sok"), ("/suche/", "term"), ("/", "s")])
        more = lot.sample([("page", lot.randrange(1, 9)), ("sort", "price_asc"), ("lang", "nb"), ("utm_source", "google"), ("type", "all")], 2)
        corpus.search(name, "a search", path, [(field, text), *more])
        if number % 2:
            corpus.json(name, "a search over JSON", "/api/search", {"query": text, "filters": {"in_stock": True}, "from": 0, "size": 20})


def short(corpus):
    """What stands in one field: titles, measures, placeholders, and what somebody tries out."""
    for text in build.lines("short.txt"):
        name = stem("short", text)
        lot = corpus.lot(name)
        corpus.form(name, "one field of a form", lot.choice(["/annonser/ny", "/lager/vare", "/prosjekt/felt"]), [("csrf", build.digest(name, 20)), ("tittel", text), ("antall", lot.randrange(99))])
        corpus.json(name, "one value of a cell", f"/api/tables/{lot.randrange(99)}/cells", {"row": lot.randrange(999), "column": "tittel", "value": text}, method="PATCH")


def people(corpus):
    streets = ["Storgata 12B", "Øvre Slottsgate 3", "c/o O'Hara, 5th Fl.", "Kungsgatan 4 lgh 1102", "St. Mary's Rd 9", "Rådhusplassen 1, 2. etg.",
               "Åsgårdsveien 7 & 9", "Box 17", "Flat 1/2, King's Cross", "Gamle Drammensvei 102 (bakgård)"]
    cities = ["Oslo", "Tromsø", "Malmö", "Örebro", "Bø i Telemark", "Ås", "St. John's", "Mo i Rana", "'s-Hertogenbosch", "Å i Lofoten"]
    phones = ["+47 22 33 44 55", "0047 99887766", "(08) 123 45 67", "+46-70-123 45 67", "+1 (555) 010-9999 x12", "22 33 44 55", "+44.20.7946.0958"]
    for text in build.lines("names.txt"):
        name = stem("name", text)
        lot = corpus.lot(name)
        first, _, last = text.partition(" ")
        mail = re.sub(r"[^a-z.+']", "", text.lower().replace(" ", ".")) or "post"
        address = f"{mail}{lot.choice(['', '+nyhetsbrev', '.' + str(lot.randrange(99))])}@{lot.choice(['example.com', 'epost.example.no', 'mail.exempel.se'])}"
        corpus.form(name, "a registration", "/konto/ny",
                    [("csrf", build.digest(name, 32)), ("fornavn", first), ("etternavn", last), ("epost", address), ("telefon", lot.choice(phones)),
                     ("adresse", lot.choice(streets)), ("postnr", f"{lot.randrange(10000):04}"), ("sted", lot.choice(cities)),
                     ("fodt", f"19{lot.randrange(40, 99)}-0{lot.randrange(1, 9)}-1{lot.randrange(9)}"), ("passord", lot.choice(["Hest&Kjerre#9", "correct horse battery", "p'ss\"w0rd;--", "xK9$(fg)!2", "1' eller 2'"])), ("vilkar", "on")])
        corpus.json(name, "a profile", f"/api/users/{lot.randrange(9999)}/profile",
                    {"name": {"first": first, "last": last, "display": text}, "emails": [{"address": address, "primary": True}],
                     "address": {"street": lot.choice(streets), "city": lot.choice(cities), "geo": [59.9 + lot.random(), 10.7]}, "bio": None}, method="PUT")
        corpus.search(name, "a search for a person", "/telefonkatalog", [("navn", text), ("sted", lot.choice(cities)), ("epost", address)])


def fill(corpus):
    for part in (prose, code, markdown, rich_text, questions, searches, short, people):
        part(corpus)
