"""A lending desk for books, as it must never be written: see README.md for its holes.

Everything is made up, and made anew at each start. Listen on loopback only.
"""

import os
import sqlite3

from flask import Flask, g, jsonify, redirect, request

from description import DOCUMENT

HERE = os.path.dirname(os.path.abspath(__file__))
FILE = os.path.join(os.environ.get("LENDING_DATA", os.path.join(HERE, "data")), "lending.sqlite")

TABLES = """
CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT UNIQUE, email TEXT, password TEXT, role TEXT);
CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT, author TEXT, shelf TEXT);
CREATE TABLE loans (id INTEGER PRIMARY KEY, member INTEGER, book INTEGER, note TEXT);
CREATE TABLE greetings (id INTEGER PRIMARY KEY, text TEXT);
"""
MEMBERS = [("kim", "member"), ("noor", "member"), ("ines", "member"), ("keeper", "keeper")]
BOOKS = [
    ("The Lighthouse Ledger", "A. Holm", "A"),
    ("Knots and Splices", "B. Ruud", "A"),
    ("A Winter of Small Repairs", "C. Dahl", "B"),
    ("Bread Without Hurry", "D. Moe", "B"),
    ("The Ferry Timetable", "E. Lie", "C"),
    ("Moss, Lichen, Stone", "F. Vik", "C"),
]

app = Flask(__name__, static_folder=None)


def database():
    if "database" not in g:
        g.database = sqlite3.connect(FILE)
        g.database.row_factory = sqlite3.Row
    return g.database


@app.teardown_appcontext
def close(_error):
    if "database" in g:
        g.database.close()


def rows(statement, values=()):
    return [dict(row) for row in database().execute(statement, values)]


def write(statement, values):
    written = database().execute(statement, values)
    database().commit()
    return written.lastrowid


def member():
    """Whoever says that they are somebody is believed."""
    found = rows("SELECT * FROM members WHERE id = ?", (request.cookies.get("member", "0"),))
    return found[0] if found else None


def make():
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    if os.path.exists(FILE):
        os.remove(FILE)
    with sqlite3.connect(FILE) as new:
        new.executescript(TABLES)
        new.executemany(
            "INSERT INTO members (name, email, password, role) VALUES (?, ?, ?, ?)",
            [(name, f"{name}@lending.example", "swordfish", role) for name, role in MEMBERS],
        )
        new.executemany("INSERT INTO books (title, author, shelf) VALUES (?, ?, ?)", BOOKS)
        new.executemany("INSERT INTO loans (member, book, note) VALUES (?, ?, ?)", [(1, 1, "for the ferry"), (2, 4, "until May")])
        new.execute("INSERT INTO greetings (text) VALUES ('Welcome!')")


def page(body):
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lending desk</title></head>
<body><h1>Lending desk</h1>
<form action="/search"><input name="q"><button>Search</button></form>
<p><a href="/">Home</a> <a href="/shelves?shelf=A">Shelf A</a> <a href="/greetings">Greetings</a></p>
{body}
<script>document.title += " (" + location.pathname + ")"</script>
</body></html>"""


@app.get("/")
def home():
    return page("<ul>" + "".join(f"<li>{book['title']}</li>" for book in rows("SELECT * FROM books ORDER BY id LIMIT 6")) + "</ul>")


@app.get("/search")
def search():
    # Bound, so this one is safe for the database; the page that shows it is not.
    word = request.args.get("q", "")
    found = rows("SELECT title FROM books WHERE title LIKE ? ORDER BY id", (f"%{word}%",))
    return page(f"<p>{len(found)} books for {word}</p>")


@app.get("/shelves")
def shelves():
    shelf = request.args.get("shelf", "A")
    found = rows(f"SELECT title, author FROM books WHERE shelf = '{shelf}' ORDER BY id")
    return page("".join(f"<p>{book['title']}, {book['author']}</p>" for book in found))


@app.get("/greetings")
def greetings():
    said = rows("SELECT text FROM greetings ORDER BY id DESC LIMIT 20")
    form = '<form action="/greetings" method="post"><input name="text" value="Hello"><button>Leave it</button></form>'
    return page(form + "".join(f"<p>{each['text']}</p>" for each in said))


@app.post("/greetings")
def greet():
    write("INSERT INTO greetings (text) VALUES (?)", (request.form.get("text", ""),))
    return redirect("/greetings")


@app.get("/healthz")
def health():
    return jsonify(ok=True)


@app.get("/openapi.json")
def description():
    return jsonify(DOCUMENT)


@app.post("/api/login")
def login():
    given = request.get_json()
    found = rows("SELECT * FROM members WHERE name = ?", (given["name"],))
    if not found:
        return jsonify(error="nobody has this name"), 404
    if found[0]["password"] != given["password"]:
        return jsonify(error="the password is wrong"), 401
    answer = jsonify(found[0])
    answer.set_cookie("member", str(found[0]["id"]))
    return answer


@app.get("/api/members")
def members():
    return jsonify(members=rows("SELECT * FROM members ORDER BY id"))


@app.post("/api/members")
def join():
    given = request.get_json()
    if rows("SELECT id FROM members WHERE name = ?", (given["name"],)):
        return jsonify(error="the name is taken"), 409
    # The role too is taken from whoever asks.
    values = (given["name"], given["email"], given["password"], given.get("role", "member"))
    number = write("INSERT INTO members (name, email, password, role) VALUES (?, ?, ?, ?)", values)
    return jsonify(rows("SELECT * FROM members WHERE id = ?", (number,))[0]), 201


@app.get("/api/members/<name>")
def one_member(name):
    found = rows(f"SELECT id, name, email, role FROM members WHERE name = '{name}'")
    return jsonify(found[0]) if found else (jsonify(error="nobody has this name"), 404)


@app.patch("/api/members/<name>")
def change_member(name):
    if not member():
        return jsonify(error="sign in first"), 401
    # Any field, of any member.
    for field, value in request.get_json().items():
        write(f"UPDATE members SET {field} = ? WHERE name = ?", (value, name))
    found = rows("SELECT * FROM members WHERE name = ?", (name,))
    return jsonify(found[0]) if found else (jsonify(error="nobody has this name"), 404)


@app.get("/api/books")
def books():
    word = request.args.get("q", "")
    return jsonify(books=rows(f"SELECT * FROM books WHERE title LIKE '%{word}%' ORDER BY id"))


@app.post("/api/books")
def add_book():
    if not member():
        return jsonify(error="sign in first"), 401
    given = request.get_json()
    number = write("INSERT INTO books (title, author, shelf) VALUES (?, ?, ?)", (given["title"], given["author"], given["shelf"]))
    return jsonify(rows("SELECT * FROM books WHERE id = ?", (number,))[0]), 201


@app.get("/api/books/<number>")
def one_book(number):
    try:
        found = rows(f"SELECT * FROM books WHERE id = {number}")
    except sqlite3.Error as error:
        return jsonify(error=str(error)), 400
    return jsonify(found[0]) if found else (jsonify(error="no such book"), 404)


@app.get("/api/loans")
def loans():
    who = member()
    if not who:
        return jsonify(error="sign in first"), 401
    return jsonify(loans=rows("SELECT * FROM loans WHERE member = ? ORDER BY id", (who["id"],)))


@app.get("/api/loans/<int:number>")
def one_loan(number):
    # Whose it is does not matter.
    if not member():
        return jsonify(error="sign in first"), 401
    found = rows("SELECT * FROM loans WHERE id = ?", (number,))
    return jsonify(found[0]) if found else (jsonify(error="no such loan"), 404)


@app.post("/api/loans")
def lend():
    who = member()
    if not who:
        return jsonify(error="sign in first"), 401
    given = request.get_json()
    number = write("INSERT INTO loans (member, book, note) VALUES (?, ?, ?)", (who["id"], given["book"], given.get("note", "")))
    return jsonify(rows("SELECT * FROM loans WHERE id = ?", (number,))[0]), 201


if __name__ == "__main__":
    make()
    app.run("127.0.0.1", int(os.environ.get("PORT", "8000")), debug=True, use_reloader=False)
