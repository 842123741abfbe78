"""Requests that were written, one by one, by who had seen neither the rules nor the other corpora: `fresh`, which rules
were then tuned on, and `unseen`, which none was. What they are sent as is decided here."""

import json
from urllib.parse import quote

from corpus import build
from corpus.attacks.payloads import plain_headers


def written(corpus):
    return read(corpus.folder, corpus.kind)


def read(folder, kind):
    file = build.HERE / folder / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def cookie(pairs):
    return "; ".join(f"{name}={value}" for name, value in pairs)


def parts(fields):
    return [(field[0], field[1]) if len(field) == 2 else (field[0], field[1], field[2], field[3].encode()) for field in fields]


def honest(corpus):
    for one in written(corpus):
        stem, note, path, fields, method = one["id"], one["note"], one["path"], one["fields"], one["method"]
        match one["place"]:
            case "query":
                corpus.add(stem, note, method, f"{path}?{build.query(fields, 'script')}", corpus.browser(stem))
            case "form":
                corpus.form(stem, note, path, fields, method)
            case "json":
                corpus.json(stem, note, path, fields, method)
            case "multipart":
                corpus.upload(stem, note, path, parts(fields), method)
            case "cookie":
                corpus.add(stem, note, method, path, corpus.browser(stem, cookie=cookie(fields)))
            case "header":
                own = {name.lower() for name, _ in fields}
                corpus.add(stem, note, method, path,
                           [pair for pair in corpus.browser(stem) if pair[0].lower() not in own] + [tuple(pair) for pair in fields])
            case "text":
                corpus.add(stem, note, method, path, corpus.browser(stem, origin=True, before=[("Content-Type", fields[0])]), fields[1])
            case "path":
                corpus.add(stem, note, method, path, corpus.browser(stem))
            case other:
                raise ValueError(f"{stem}: {other}")


def attack(corpus):
    for one in written(corpus):
        stem, path, fields, method = one["id"], one["path"], one["fields"], one["method"]
        more = {"class": one["class"], "placement": one["place"], "encoding": "as needed", "expect": "block"}
        headers, body = plain_headers(), b""
        match one["place"]:
            case "query":
                path += "?" + "&".join(f"{quote(name, safe='[]')}={quote(str(value), safe='')}" for name, value in fields)
            case "form":
                headers, body = [*headers, ("Content-Type", build.FORM)], build.urlencoded(fields)
            case "json":
                headers, body = [*headers, ("Content-Type", build.JSON)], json.dumps(fields, ensure_ascii=False)
            case "multipart":
                boundary = "----------------" + build.digest(stem)
                headers = [*headers, ("Content-Type", f"multipart/form-data; boundary={boundary}")]
                body = build.multipart(boundary, parts(fields))
            case "cookie":
                headers = [*headers, ("Cookie", cookie(fields))]
            case "header":
                own = {name.lower() for name, _ in fields}
                headers = [pair for pair in headers if pair[0].lower() not in own] + [tuple(pair) for pair in fields]
            case "text":
                headers, body = [*headers, ("Content-Type", fields[0])], fields[1]
            case "path":
                pass
            case other:
                raise ValueError(f"{stem}: {other}")
        corpus.add(stem, one["note"], method, path, headers, body, **more)


def fill(corpus):
    for corpus.folder in ("fresh", "unseen"):
        {"benign": honest, "attacks": attack}[corpus.kind](corpus)
    corpus.folder = None
