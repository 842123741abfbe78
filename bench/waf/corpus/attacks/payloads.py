"""Payloads that are a value: each is put where apps take values from, and written in ways that decoders undo."""

import json
import re
from urllib.parse import quote

from corpus import build
from corpus.benign.words import stem

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
SQL_WORD = re.compile(r"\b(select|union|all|and|or|from|where|insert|update|delete|drop|sleep|order|group|by|having|like|into|values|exec|declare|waitfor|delay|null|table)\b", re.I)
HTML_WORD = re.compile(r"(?<=<)[a-z]+|\bon[a-z]+(?==)|javascript(?=:)", re.I)


# --- Ways of writing a payload, before it is put anywhere -----------------------------------------------------------


def mixed_case(payload, words):
    def mix(found):
        return "".join(one.upper() if at % 2 else one.lower() for at, one in enumerate(found[0]))
    return words.sub(mix, payload)


def spaces(text, instead):
    """All but what ends a comment that the rest of the statement is to vanish in."""
    return re.sub(r"(?<!--) (?!-?$)", lambda _: instead, text)


WRITTEN = {
    "as it is": lambda text: text,
    "mixed case (SQL)": lambda text: mixed_case(text, SQL_WORD),
    "mixed case (HTML)": lambda text: mixed_case(text, HTML_WORD),
    "comments for spaces": lambda text: spaces(text, "/**/"),
    "tabs for spaces": lambda text: spaces(text, "\t"),
    "line ends for spaces": lambda text: spaces(text, "\n"),
    "vertical tabs for spaces": lambda text: spaces(text, "\x0b"),
    "comments to the end of a line for spaces": lambda text: spaces(text, "--zq\n"),
    "versioned comments": lambda text: SQL_WORD.sub(lambda found: f"/*!{found[0]}*/", text),
    "IFS for spaces": lambda text: spaces(text, "${IFS}"),
    "empty quotes in words": lambda text: re.sub(r"\b(cat|id|whoami|sleep|curl|wget|passwd|ping)\b", lambda found: found[0][0] + "''" + found[0][1:], text),
    "slashes for spaces": lambda text: re.sub(r"(?<=<[a-z]{3}) ", "/", text),
    "after a harmless word": lambda text: "Oslo " + text,
}

OTHER_THAN_MYSQL = re.compile(r"pg_|xp_|waitfor|v\$|dual|utl_|dbms|sqlite|::|exec|declare|copy|randomblob|attach|/\*|chr\(|convert\(int|db_name", re.I)
OF_WINDOWS = re.compile(r"\\|powershell|certutil|cmd|net user|\bdir\b|-n 5", re.I)


def works(kind, way, payload):
    """Whether a payload written so still does what it is for."""
    if way != "as it is" and WRITTEN[way](payload) == payload:
        return False
    if way == "versioned comments":
        return not OTHER_THAN_MYSQL.search(payload)
    if way in ("comments for spaces", "comments to the end of a line for spaces", "vertical tabs for spaces"):
        return "/*" not in payload and "'{" not in payload
    if way in ("IFS for spaces", "empty quotes in words"):
        return not re.search("['\"]", payload) and not OF_WINDOWS.search(payload)
    if way == "after a harmless word":
        begins = {"sqli": r"[^ ]*['\"]", "command": r"[;|&`$\n]", "xss": r"['\"]?[^ ]*<"}.get(kind, "")
        return re.match(begins, payload) is not None
    return True


# --- Ways of sending it ---------------------------------------------------------------------------------------------


def every_byte(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


def encoded(text, how):
    """For an address or a form."""
    if how == "every byte":
        return every_byte(text)
    if how == "twice":
        return quote(quote(text, safe=""), safe="")
    if how == "%u":
        return "".join(f"%u{ord(one):04x}" if not one.isalnum() else one for one in text)
    if how == "verbatim":
        # It is encoded already, in its own way.
        return re.sub(r"[^\x21-\x7e]|[#&+\"<>]", lambda found: quote(found[0], safe=""), text)
    if how == "little":
        # Only what would break the request line; most tools send it so.
        return re.sub(r"[^\x21-\x7e]|[#&+%]", lambda found: quote(found[0], safe=""), text)
    return quote(text, safe="")


FIELDS = ["id", "q", "name", "page", "file", "url", "search", "category", "lang", "view", "user", "sort", "template", "path", "comment"]


def plain_headers(host="www.eksempel.no", agent=AGENT):
    return [("Host", host), ("User-Agent", agent), ("Accept", "*/*"), ("Accept-Language", "nb,en;q=0.8")]


def put(corpus, kind, payload, place, written, sent, field=None):
    """One attack: `payload` written as `written`, sent as `sent`, at `place`."""
    name = stem(kind, payload)
    lot = corpus.lot(name)
    text = WRITTEN[written](payload)
    if kind == "crlf":
        text = text.replace("\n", "\r\n")
    field = field or lot.choice(FIELDS)
    more = {"class": kind, "placement": place, "encoding": f"{written}, {sent}", "expect": "block"}
    note = f"{kind} in {place}: {written}, {sent}"
    headers, said = plain_headers(), encoded(text, sent)
    if place == "query":
        corpus.add(name, note, "GET", f"/{lot.choice(['item', 'sok', 'vis.php', 'api/list', 'download', ''])}?{field}={said}{lot.choice(['', '&x=1'])}", headers, **more)
    elif place == "name":
        corpus.add(name, note, "GET", f"/list?{said}=1", headers, **more)
    elif place == "path":
        corpus.add(name, note, "GET", f"/{lot.choice(['item', 'user', 'files'])}/{said}", headers, **more)
    elif place == "form":
        body = f"{field}={said.replace('&', '%26').replace(';', '%3B')}&submit=1"
        corpus.add(name, note, "POST", "/form", [*headers, ("Content-Type", build.FORM)], body, **more)
    elif place == "multipart":
        boundary = "----------------" + build.digest(payload)
        body = build.multipart(boundary, [("csrf", "1"), (field, text)])
        corpus.add(name, note, "POST", "/upload", [*headers, ("Content-Type", f"multipart/form-data; boundary={boundary}")], body, **more)
    elif place == "json":
        value = json.dumps(text, ensure_ascii=False)
        if sent == "every byte":
            value = '"' + "".join(f"\\u{ord(one):04x}" for one in text if ord(one) < 0x10000) + '"'
        body = lot.choice(['{"%s":%s}', '{"data":{"%s":%s,"n":1}}', '{"items":[{"%s":%s}]}']) % (field, value)
        corpus.add(name, note, "POST", "/api/items", [*headers, ("Content-Type", build.JSON)], body, **more)
    elif place == "cookie":
        quoted = said if sent != "as needed" else quote(text, safe="'\"()<>=/:!*|${}[]@?&~`.")
        corpus.add(name, note, "GET", "/", [*headers, ("Cookie", f"session={build.digest(name, 16)}; {field}={quoted.replace(';', '%3B')}")], **more)
    elif place == "header":
        header = lot.choice(["User-Agent", "Referer", "X-Forwarded-For", "X-Api-Version", "Accept-Language"])
        line = re.sub(r"[\r\n]", " ", text)
        value = {"User-Agent": f"Mozilla/5.0 {line}", "Referer": f"https://www.eksempel.no/?{field}={quote(line, safe=chr(39) + '()<>=/:!*;,|${}')}"}.get(header, line)
        headers = [(one, said) for one, said in headers if one != header]
        corpus.add(name, note, "GET", "/", [*headers, (header, value.strip())], **{**more, "encoding": f"{written}, {header}"})


# For each class: how many of its forms each payload takes, and the forms. The first is for all; of the others some are
# chosen by lot.
SENT = ["as needed", "every byte", "little"]
SQL = ["as it is", "mixed case (SQL)", "comments for spaces", "tabs for spaces", "line ends for spaces", "vertical tabs for spaces",
       "comments to the end of a line for spaces", "versioned comments", "after a harmless word"]
CLASSES = {
    "sqli": ("sqli.txt", 4, SQL, SENT, ["form", "json", "cookie", "header", "path", "multipart", "query"], None),
    "xss": ("xss.txt", 4, ["as it is", "mixed case (HTML)", "slashes for spaces", "after a harmless word", "tabs for spaces"], SENT, ["form", "json", "cookie", "header", "path", "multipart", "query", "name"], None),
    "traversal": ("traversal.txt", 4, ["as it is"], ["as needed", "every byte", "twice", "%u", "little"], ["form", "json", "cookie", "path", "query"], ["file", "page", "path", "template", "include", "doc"]),
    "ssrf": ("ssrf.txt", 3, ["as it is"], SENT, ["form", "json", "multipart", "query", "cookie"], ["url", "uri", "target", "feed", "image", "callback", "include"]),
    "command": ("commands.txt", 4, ["as it is", "IFS for spaces", "empty quotes in words", "tabs for spaces", "after a harmless word"], ["as needed", "every byte"], ["form", "json", "cookie", "header", "path", "multipart", "query"], ["host", "ip", "cmd", "file", "name", "domain"]),
    "template": ("templates.txt", 3, ["as it is", "after a harmless word"], SENT, ["form", "json", "header", "path", "multipart", "query"], ["name", "template", "subject", "message", "redirect"]),
    "code": ("languages.txt", 3, ["as it is"], SENT, ["form", "json", "cookie", "header", "multipart", "query"], ["data", "code", "x", "obj", "state", "cfg"]),
    "nosql": ("nosql-values.txt", 3, ["as it is"], SENT, ["form", "json", "query", "cookie"], ["username", "filter", "where", "q"]),
    "ldap": ("ldap.txt", 3, ["as it is"], ["as needed", "every byte"], ["form", "json", "query"], ["user", "uid", "cn", "search"]),
    "log4shell": ("log4shell.txt", 5, ["as it is", "after a harmless word"], ["as needed", "every byte"], ["form", "json", "cookie", "header", "header", "path", "query"], None),
    "crlf": ("crlf.txt", 4, ["as it is"], ["as needed", "every byte"], ["form", "query", "cookie"], ["redirect", "lang", "next", "email", "to"]),
}


def forms_of(kind, payload, written, sent, places):
    """Every (place, writing, sending) that this payload can be sent in."""
    if re.search("%[0-9a-f]{2}", payload, re.I):
        return [(place, "as it is", "verbatim") for place in places if place in ("query", "form", "path")]
    forms = []
    for place in places:
        # A header and a text part are sent as they are; only JSON has another way of writing a character.
        possible = {"header": ["as needed"], "multipart": ["as needed"], "json": ["as needed", "every byte"]}.get(place, sent)
        if place not in ("query", "form"):
            possible = [how for how in possible if how != "little"]
        if place == "cookie":
            possible = [how for how in possible if how not in ("twice", "%u")]
        for way in written:
            if works(kind, way, payload) and not (place == "header" and re.search(r"[\r\n\x0b]", WRITTEN[way](payload))):
                forms += [(place, way, how) for how in possible]
    return forms


def values(corpus):
    for kind, (file, count, written, sent, places, fields) in CLASSES.items():
        for payload in build.lines(file, "attacks"):
            lot = corpus.lot(stem(kind, payload))
            field = lot.choice(fields) if fields else None
            forms = forms_of(kind, payload, written, sent, places)
            lot.shuffle(forms)
            first = [form for form in forms if form[:2] == ("query", "as it is")][:1]
            # Then another place each time, as far as there are any.
            left = [form for form in forms if form not in first]
            seen = {}
            ranked = []
            for form in left:
                seen[form[0]] = seen.get(form[0], 0) + 1
                ranked.append((seen[form[0]], form))
            ranked.sort(key=lambda one: one[0])
            for form in first + [form for _, form in ranked[:count - len(first)]]:
                put(corpus, kind, payload, *form, field)


def names(corpus):
    """Where the name of a field is part of the attack."""
    for payload in build.lines("nosql.txt", "attacks") + build.lines("prototype.txt", "attacks") + build.lines("code-names.txt", "attacks"):
        kind = "prototype" if re.search("__proto__|prototype", payload) else "nosql" if "[$" in payload or "][" in payload else "code"
        name, more = stem(kind, payload), {"class": kind, "expect": "block"}
        for place, way in (("query", "as it is"), ("query", "brackets encoded"), ("form", "as it is")):
            text = quote(payload, safe="=&$_.-%") if way != "as it is" else quote(payload, safe="=&[]$_.,:/-;%")
            if way != "as it is" and "[" not in payload:
                continue
            extra = {**more, "placement": place, "encoding": way}
            if place == "query":
                corpus.add(name, f"{kind} in names of a query", "GET", f"/api/login?{text}", plain_headers(), **extra)
            else:
                corpus.add(name, f"{kind} in names of a form", "POST", "/login", [*plain_headers(), ("Content-Type", build.FORM)], text, **extra)
    bodies = [("prototype", text) for text in build.lines("prototype-json.txt", "attacks")]
    bodies += [("nosql", text) for text in ['{"user":{"$ne":null},"pass":{"$ne":null}}', '{"user":"admin","pass":{"$gt":""}}', '{"q":{"$where":"sleep(5000)"}}', '{"user":{"$regex":"^a"},"pass":{"$exists":true}}',
                                            '{"filter":{"$or":[{},{"a":"a"}]}}', '{"id":{"$in":[1,2,3]}}', '{"pipeline":[{"$lookup":{"from":"users","as":"u"}}]}', '{"$expr":{"$function":{"body":"return 1","args":[],"lang":"js"}}}']]
    for kind, text in bodies:
        for method, path in (("POST", "/api/login"), ("PUT", "/api/settings")):
            corpus.add(stem(kind, text), f"{kind} as JSON", method, path, [*plain_headers(), ("Content-Type", build.JSON)], text,
                       **{"class": kind, "placement": "json", "encoding": "as it is", "expect": "block"})


def fill(corpus):
    values(corpus)
    names(corpus)
