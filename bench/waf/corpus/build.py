"""How requests of the corpora are made: whole ones, with the headers that a browser or another client sends.

Everything that is chosen by lot is chosen by a generator of numbers seeded with the name of the piece that the request is
made of, so that a request stays the same when others are added. That name also decides on the half: whatever is made of
one piece is in the same half, or a rule tuned on one half would have seen the other.
"""

import base64
import hashlib
import json
import random
import re
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote_to_bytes

HERE = Path(__file__).parent
SEPARATOR = re.compile(r"^%(?: ([a-z+]+))?$")
HOSTS = ["www.eksempel.no", "app.eksempel.no", "butikk.example.com", "www.exempel.se", "forum.example.org", "min.side.example.no"]
LANGUAGES = ["nb-NO,nb;q=0.9,no;q=0.8,nn;q=0.7,en-US;q=0.6,en;q=0.5", "sv-SE,sv;q=0.9,en-US;q=0.8,en;q=0.7",
             "en-GB,en;q=0.9", "en-US,en;q=0.5", "nb,en;q=0.8", "sv,en;q=0.5", "da-DK,da;q=0.9,en;q=0.7"]
PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Browser:
    """What one kind of browser says of itself."""

    def __init__(self, agent, brands=None, platform=None, mobile=False):
        self.agent, self.brands, self.platform, self.mobile = agent, brands, platform, mobile


def chrome(version, system, platform, brand="Google Chrome", mobile=False, more=""):
    agent = f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 {'Mobile ' if mobile else ''}Safari/537.36{more}"
    brands = f'"Chromium";v="{version}", "{brand}";v="{version}", "Not-A.Brand";v="99"'
    return Browser(agent, brands, platform, mobile)


BROWSERS = [
    chrome(124, "Windows NT 10.0; Win64; x64", "Windows"),
    chrome(131, "Macintosh; Intel Mac OS X 10_15_7", "macOS"),
    chrome(120, "X11; Linux x86_64", "Linux"),
    chrome(129, "Linux; Android 10; K", "Android", mobile=True),
    chrome(126, "Windows NT 10.0; Win64; x64", "Windows", "Microsoft Edge", more=" Edg/126.0.0.0"),
    chrome(118, "X11; CrOS x86_64 14541.0.0", "Chrome OS", "Opera", more=" OPR/104.0.0.0"),
    Browser("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0"),
    Browser("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0"),
    Browser("Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0", mobile=True),
    Browser("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15"),
    Browser("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", mobile=True),
    Browser("Mozilla/5.0 (iPad; CPU OS 16_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/125.0.6422.80 Mobile/15E148 Safari/604.1", mobile=True),
]


def lines(name, kind="benign"):
    """The lines of a file of material; a pilcrow stands for a line end within one."""
    return [line.replace("¶", "\n") for line in (HERE / kind / "material" / name).read_text().split("\n") if line.strip()]


def pieces(name):
    """(tag, text) for each piece of a file whose pieces are parted by lines of `%` and an optional tag."""
    found = []
    for line in (HERE / "benign" / "material" / name).read_text().split("\n"):
        if mark := SEPARATOR.match(line):
            found.append([mark[1], []])
        else:
            found[-1][1].append(line)
    return [(tag, "\n".join(text).strip("\n")) for tag, text in found]


def urlencoded(fields):
    """As a browser submits a form."""
    return "&".join(f"{quote_plus(name, safe='*-._[]')}={quote_plus(str(said).replace(chr(10), chr(13) + chr(10)), safe='*-._')}"
                    for name, said in fields)


def query(fields, style="form"):
    """As a form with method GET does it, or (`script`) as encodeURIComponent does."""
    if style == "form":
        return urlencoded(fields)
    return "&".join(f"{quote(name, safe='')}={quote(str(said), safe='!()*~' + chr(39))}" for name, said in fields)


def multipart(boundary, parts):
    """Parts are (name, text) or (name, file name, type, bytes)."""
    def quoted(text):
        # What browsers encode in names; all else is sent as it is.
        return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")

    out = b""
    for name, *rest in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"'
        if len(rest) == 1:
            out += f"{head}\r\n\r\n".encode() + str(rest[0]).replace("\n", "\r\n").encode()
        else:
            file, kind, data = rest
            out += f'{head}; filename="{quoted(file)}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + data
        out += b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def digest(text, length=8):
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:length]


def normal(path, body):
    """What two requests share that differ in numbers and spaces only."""
    text = unquote_to_bytes(path).lower() + b"\n" + re.sub(rb"(?m)^--.*boundary\w*.*$", b"", body.lower())
    return re.sub(rb"\s+", b" ", re.sub(rb"\d+", b"0", text))


class Corpus:
    """Requests as they are collected. `stem` names the piece that a request is made of; its id is that and a number."""

    def __init__(self, kind):
        self.kind, self.requests, self.numbers, self.seen = kind, [], {}, {}
        # The folder of the requests that are added, if they were written one by one.
        self.folder = None

    def lot(self, stem):
        return random.Random(f"{self.kind} {stem} {self.numbers.get(stem, 0)}")

    def half(self, stem):
        if self.folder == "unseen":
            return "held-out"
        return "tune" if int(digest(f"{self.kind} {stem}"), 16) % 2 else "check"

    def add(self, stem, note, method, path, headers, body=b"", **more):
        number = self.numbers[stem] = self.numbers.get(stem, 0) + 1
        body = body.encode() if isinstance(body, str) else body
        if body or method in ("POST", "PUT", "PATCH"):
            if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
                headers = [*headers[:2], ("Content-Length", str(len(body))), *headers[2:]]
        one = {"id": f"{stem}-{number}", "note": note, **more, "method": method, "path": path, "headers": [list(pair) for pair in headers]}
        try:
            if body:
                one["body"] = body.decode()
        except UnicodeDecodeError:
            one["body_b64"] = base64.b64encode(body).decode()
        if more or self.folder:
            key = method, path, str(headers), body
        else:
            key = normal(path, body)
        if key in self.seen:
            raise ValueError(f"{one['id']} is {self.seen[key]} again: {path}")
        self.seen[key] = one["id"]
        self.requests.append((self.half(stem), one))

    # --- What browsers send -------------------------------------------------------------------------------------------

    def browser(self, stem, host=None, accept=PAGE, mode="navigate", dest="document", site=None, cookie=None, referer=None,
                origin=False, before=(), after=()):
        lot = self.lot(stem)
        one, host = lot.choice(BROWSERS), host or lot.choice(HOSTS)
        site = site or lot.choice(["same-origin", "none"] if mode == "navigate" and not origin else ["same-origin"])
        headers = [("Host", host), ("Connection", "keep-alive")]
        if one.brands:
            headers += [("sec-ch-ua", one.brands), ("sec-ch-ua-mobile", "?1" if one.mobile else "?0"),
                        ("sec-ch-ua-platform", f'"{one.platform}"')]
        if mode == "navigate":
            headers += [("Upgrade-Insecure-Requests", "1")]
        headers += [("User-Agent", one.agent), ("Accept", accept)]
        headers += before
        if origin:
            headers += [("Origin", f"https://{host}")]
        headers += [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
        if referer or site == "same-origin":
            headers += [("Referer", referer or f"https://{host}/")]
        headers += [("Accept-Encoding", "gzip, deflate, br"), ("Accept-Language", lot.choice(LANGUAGES))]
        if cookie is None and lot.random() < 0.5:
            cookie = "; ".join(lot.sample([f"session={digest(stem, 32)}", f"_ga=GA1.2.{lot.randrange(10**9)}.17{lot.randrange(10**8):08}",
                                           "lang=nb", "theme=dark", f"csrftoken={digest(stem + 'c', 24)}"], 3))
        if cookie:
            headers += [("Cookie", cookie)]
        return headers + list(after)

    def get(self, stem, note, path, **how):
        self.add(stem, note, "GET", path, self.browser(stem, **how))

    def search(self, stem, note, path, fields, **how):
        lot = self.lot(stem)
        self.get(stem, note, f"{path}?{query(fields, lot.choice(['form', 'script']))}", **how)

    def form(self, stem, note, path, fields, method="POST", **how):
        headers = self.browser(stem, origin=True, before=[("Content-Type", FORM)], **how)
        self.add(stem, note, method, path, headers, urlencoded(fields))

    def json(self, stem, note, path, value, method="POST", kind=JSON, **how):
        headers = self.browser(stem, accept="application/json, text/plain, */*", mode="cors", dest="empty", origin=True,
                               before=[("Content-Type", kind)], **how)
        lot = self.lot(stem)
        self.add(stem, note, method, path, headers,
                 json.dumps(value, ensure_ascii=lot.random() < 0.2, separators=lot.choice([(",", ":"), (",", ":"), (", ", ": ")])))

    def upload(self, stem, note, path, parts, method="POST", **how):
        lot = self.lot(stem)
        boundary = lot.choice(["----WebKitFormBoundary", "---------------------------", "----geckoformboundary"])
        boundary += f"{lot.randrange(10**15):015}" + digest(stem, 8) if boundary[-1] != "-" else f"{lot.randrange(10**28):028}"
        headers = self.browser(stem, origin=True, before=[("Content-Type", f"multipart/form-data; boundary={boundary}")], **how)
        self.add(stem, note, method, path, headers, multipart(boundary, parts))

    # --- What other clients send --------------------------------------------------------------------------------------

    def client(self, stem, note, method, path, headers, body=b""):
        """A program: it has no headers but these, and Host."""
        if not any(name.lower() == "host" for name, _ in headers):
            headers = [("Host", "api.eksempel.no"), *headers]
        self.add(stem, note, method, path, headers, body)
