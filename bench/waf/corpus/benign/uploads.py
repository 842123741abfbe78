"""Files that people send, as far as their first bytes, in forms and alone."""

import io
import zipfile
import zlib

from corpus import build
from corpus.benign.words import stem

TEXT = "Prosjekt: Brygge 4\nAnsvarlig: Åse O'Hara\n\n1) Riv den gamle -- forsiktig!\n2) Bygg den nye; mål to ganger, kapp én.\n"
CSV = "id;navn;e-post;beløp\n1;O'Brien, Sean;sean@example.com;1 200,50\n2;\"Lie; \"\"Totta\"\"\";totta@example.no;-75\n3;=SUM(D2:D3);;\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M4 4h16v16H4z" style="fill:#c00"/><title>Kasse</title></svg>'
ICS = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:7@example.no\r\nDTSTART;TZID=Europe/Oslo:20240517T100000\r\nSUMMARY:17. mai; frokost\\, tog\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
VCF = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:O'Hara;Åse;;;\r\nTEL;TYPE=CELL:+47 99 88 77 66\r\nEND:VCARD\r\n"
GPX = '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="klokke"><trk><name>Besseggen</name><trkseg><trkpt lat="61.50" lon="8.74"><ele>1743</ele></trkpt></trkseg></trk></gpx>\n'
EML = "From: kari@example.com\r\nTo: post@eksempel.no\r\nSubject: =?utf-8?q?S=C3=B8knad?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHei! Se vedlegg.\r\n"


def noise(lot, size):
    return bytes(lot.randrange(256) for _ in range(size))


def archive(lot):
    """A spreadsheet or a document of an office suite is an archive of XML."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "docProps/core.xml"):
            file.writestr(zipfile.ZipInfo(name), f'<?xml version="1.0"?><x n="{lot.randrange(10**6)}"/>')
    return out.getvalue()


KINDS = {
    "pdf": ("application/pdf", lambda lot: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\nstream\n" + noise(lot, 300) + b"\nendstream\n%%EOF\n"),
    "docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", archive),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", archive),
    "xls": ("application/vnd.ms-excel", lambda lot: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise(lot, 300)),
    "ppt": ("application/vnd.ms-powerpoint", lambda lot: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise(lot, 200)),
    "jpg": ("image/jpeg", lambda lot: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x00H\x00H\x00\x00" + noise(lot, 400)),
    "png": ("image/png", lambda lot: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x00\x00\x00\x01\x00\x08\x06\x00\x00\x00" + noise(lot, 400)),
    "txt": ("text/plain", lambda lot: TEXT.encode()),
    "md": ("text/markdown", lambda lot: b"# Plan\n\n* `rm` the old table\n* **select** a new one\n"),
    "csv": ("text/csv", lambda lot: CSV.encode()),
    "gz": ("application/gzip", lambda lot: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + zlib.compress(noise(lot, 200))),
    "html": ("text/html", lambda lot: b"<!doctype html>\n<title>Hei</title>\n<p class=\"x\">It's fine</p>\n"),
    "css": ("text/css", lambda lot: b"a:hover{color:#fff;background:url('/x.png')}\n"),
    "tex": ("application/x-tex", lambda lot: b"\\documentclass{article}\\begin{document}$a<b$\\end{document}\n"),
    "m4a": ("audio/mp4", lambda lot: b"\x00\x00\x00\x1cftypM4A \x00\x00\x00\x00" + noise(lot, 300)),
    "dwg": ("image/vnd.dwg", lambda lot: b"AC1032\x00\x00" + noise(lot, 200)),
    "p7b": ("application/x-pkcs7-certificates", lambda lot: b"\x30\x82\x0b\x06\x09\x2a\x86\x48" + noise(lot, 200)),
    "svg": ("image/svg+xml", lambda lot: SVG.encode()),
    "ics": ("text/calendar", lambda lot: ICS.encode()),
    "vcf": ("text/vcard", lambda lot: VCF.encode()),
    "gpx": ("application/gpx+xml", lambda lot: GPX.encode()),
    "eml": ("message/rfc822", lambda lot: EML.encode()),
}
MORE_FILES = ["ikon.svg", "kalender 2024.ics", "O'Hara, Åse.vcf", "tur (Besseggen).gpx", "Re: søknad.eml", "kart&skisse.svg"]


def fill(corpus):
    for file in [*build.lines("filenames.txt"), *MORE_FILES]:
        name = stem("file", file)
        lot = corpus.lot(name)
        kind, content = KINDS.get(file.rpartition(".")[2].lower(), ("application/octet-stream", lambda lot: b"node_modules/\n*.log\n"))
        corpus.upload(name, "a file with a title", "/dokumenter/last-opp",
                      [("tittel", file.rpartition(".")[0] or "uten navn"), ("mappe", "Felles/2024"), ("fil", file, kind, content(lot))])
        corpus.upload(name, "a chat with an attachment", f"/api/v2/conversations/{lot.randrange(999)}/messages",
                      [("payload_json", '{"content":"See attached, it\'s the last one","tts":false}'), ("files[0]", file, kind, content(lot))],
                      accept="application/json", mode="cors", dest="empty")
        corpus.search(name, "a download by name", "/filer", [("navn", file), ("v", lot.randrange(9)), ("last_ned", "1")])
    for number, (file, kind) in enumerate(("profil.jpg", "image/jpeg") for _ in range(8)):
        name = f"avatar-{number}"
        corpus.upload(name, "a cropped picture", "/profil/bilde",
                      [("crop[x]", "12.5"), ("crop[y]", "-3"), ("crop[w]", str(100 + number * number)), ("avatar", file, kind, KINDS["jpg"][1](corpus.lot(name)))])
    for kind in ("png", "jpg", "pdf"):
        name = f"put-{kind}"
        mime, content = KINDS[kind]
        corpus.client(name, "a file by PUT", "PUT", f"/storage/v1/object/uploads/bilde.{kind}",
                      [("User-Agent", "okhttp/4.12.0"), ("Authorization", "Bearer " + build.digest(name, 40)), ("Content-Type", mime)], content(corpus.lot(name)))
