"""What the lending desk says of its API (OpenAPI 3)."""

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def thing(required, **fields):
    return {"type": "object", "required": required, "properties": fields}


def answers(status, schema, *errors):
    listed = {status: {"description": "done", "content": {"application/json": {"schema": schema}}}}
    for each in errors:
        listed[each] = {"description": "not done", "content": {"application/json": {"schema": thing(["error"], error=TEXT)}}}
    return listed


def takes(schema):
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def inside(place, name, schema, example=None, required=True):
    schema = dict(schema, **({"example": example} if example is not None else {}))
    return {"name": name, "in": place, "required": required, "schema": schema}


MEMBER = thing(["id", "name"], id=NUMBER, name=TEXT, email=TEXT, password=TEXT, role=TEXT)
BOOK = thing(["id", "title"], id=NUMBER, title=TEXT, author=TEXT, shelf=TEXT)
LOAN = thing(["id"], id=NUMBER, member=NUMBER, book=NUMBER, note=TEXT)
SIGNED_IN = [{"member": []}]
NAME = inside("path", "name", TEXT, "ines")
ID = inside("path", "id", NUMBER, 1)

DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "Lending desk", "version": "1"},
    "components": {"securitySchemes": {"member": {"type": "apiKey", "in": "cookie", "name": "member"}}},
    "paths": {
        "/api/login": {
            "post": {
                "requestBody": takes(
                    thing(["name", "password"], name=dict(TEXT, example="kim"), password=dict(TEXT, example="swordfish"))
                ),
                "responses": answers("200", MEMBER, "401", "404"),
            }
        },
        "/api/members": {
            "get": {"responses": answers("200", thing(["members"], members={"type": "array", "items": MEMBER}))},
            "post": {
                "requestBody": takes(thing(["name", "email", "password"], name=TEXT, email=TEXT, password=TEXT)),
                "responses": answers("201", MEMBER, "409"),
            },
        },
        "/api/members/{name}": {
            "get": {"parameters": [NAME], "responses": answers("200", MEMBER, "404")},
            "patch": {
                "security": SIGNED_IN,
                "parameters": [NAME],
                "requestBody": takes(thing(["email"], email=dict(TEXT, example="ines@lending.example"))),
                "responses": answers("200", MEMBER, "401", "404"),
            },
        },
        "/api/books": {
            "get": {
                "parameters": [inside("query", "q", TEXT, "Ledger", required=False)],
                "responses": answers("200", thing(["books"], books={"type": "array", "items": BOOK})),
            },
            "post": {
                "security": SIGNED_IN,
                "requestBody": takes(thing(["title", "author", "shelf"], title=TEXT, author=TEXT, shelf=TEXT)),
                "responses": answers("201", BOOK, "401"),
            },
        },
        "/api/books/{id}": {"get": {"parameters": [ID], "responses": answers("200", BOOK, "400", "404")}},
        "/api/loans": {
            "get": {
                "security": SIGNED_IN,
                "responses": answers("200", thing(["loans"], loans={"type": "array", "items": LOAN}), "401"),
            },
            "post": {
                "security": SIGNED_IN,
                "requestBody": takes(thing(["book"], book=dict(NUMBER, example=1), note=TEXT)),
                "responses": answers("201", LOAN, "401"),
            },
        },
        "/api/loans/{id}": {
            "get": {"security": SIGNED_IN, "parameters": [ID], "responses": answers("200", LOAN, "401", "404")}
        },
    },
}
