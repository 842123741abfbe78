"""Makes what the app shows: a small register, the same each time."""

import os
import sqlite3

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "harbour.db")
HARBOURS = [("Nordvik", 12), ("Sundhavn", 30), ("Ytterholmen", 8), ("Gamlebrygga", 45)]
KINDS = ["sloop", "ferry", "tug", "trawler", "pilot"]
FIRST = ["Grey", "Little", "Northern", "Quiet", "Red", "Silver", "Stout", "Windy"]
LAST = ["Gull", "Heron", "Otter", "Petrel", "Seal", "Tern", "Whale"]

if os.path.exists(FILE):
    os.remove(FILE)
with sqlite3.connect(FILE) as register:
    register.executescript(
        """
        CREATE TABLE harbours (id INTEGER PRIMARY KEY, name TEXT NOT NULL, berths INTEGER NOT NULL);
        CREATE TABLE boats (id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, home INTEGER REFERENCES harbours(id));
        CREATE TABLE calls (
            id INTEGER PRIMARY KEY, boat INTEGER REFERENCES boats(id), harbour INTEGER REFERENCES harbours(id), day TEXT NOT NULL
        );
        CREATE INDEX boats_by_home ON boats(home);
        CREATE INDEX calls_by_boat ON calls(boat);
        CREATE INDEX calls_by_harbour ON calls(harbour);
        """
    )
    register.executemany("INSERT INTO harbours (name, berths) VALUES (?, ?)", HARBOURS)
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    register.executemany(
        "INSERT INTO boats (name, kind, home) VALUES (?, ?, ?)",
        [(name, KINDS[place % len(KINDS)], 1 + place % len(HARBOURS)) for place, name in enumerate(names)],
    )
    register.executemany(
        "INSERT INTO calls (boat, harbour, day) VALUES (?, ?, ?)",
        [(1 + (7 * n) % len(names), 1 + (3 * n) % len(HARBOURS), f"2026-{1 + n % 12:02}-{1 + n % 28:02}") for n in range(600)],
    )
