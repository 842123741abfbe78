//! Nothing of a person is left in a copy that people may look at.

use std::fs;
use std::path::Path;
use std::time::Duration;

use klar_base::anonymise::Rule;
use klar_keep::anonymise::{Done, anonymise};
use klar_keep::server::Session;

use crate::cluster::{Cluster, Home};

/// What must be found nowhere afterwards.
const CANARY: &str = "kanarifugl";

const MADE: &str = "
    create domain public.address as text check (value like '%@%');
    create schema shop;
    create table public.users (
        id serial primary key, email public.address unique, name varchar(10) not null, phone text, born date,
        token uuid default gen_random_uuid(), about jsonb, tags text[], photo bytea, seen timestamptz, points int,
        whole text generated always as (name || '!') stored, note text);
    create table shop.orders (id int primary key, email text, \"Ship To\" text);
    create table public.sessions (id int, token text);
    create table public.visits (day date, who text) partition by range (day);
    create table public.visits_1 partition of public.visits for values from ('2026-01-01') to ('2027-01-01');
    create materialized view public.names as select name from public.users;
    create function public.refuse() returns trigger language plpgsql as $$ begin raise 'never'; end $$;
    insert into public.users (email, name, phone, born, about, tags, photo, seen, points, note)
      select n || 'kanarifugl@example.com', 'kanarifugl', 'kanarifugl', '1980-05-06', '{\"a\": \"kanarifugl\"}', '{kanarifugl}',
        'kanarifugl', '2026-03-04 12:00', 7, case when n > 1 then 'kanarifugl' end from generate_series(1, 100) n;
    insert into shop.orders select n, n || 'kanarifugl@example.com', 'kanarifugl' from generate_series(1, 50) n;
    insert into public.sessions select n, 'kanarifugl' from generate_series(1, 50) n;
    insert into public.visits select '2026-02-02', 'kanarifugl' from generate_series(1, 50);
    create trigger refuses before update or delete on public.users for each row execute function public.refuse();
    refresh materialized view public.names;
    create role kanari login password 'kanarifugl';
    analyze";

const RULES: [&str; 14] = [
    "users.email email",
    "users.name name",
    "users.phone phone",
    "users.born year",
    "users.token hash",
    "users.about blank",
    "users.tags blank",
    "users.photo blank",
    "users.note null",
    "users.* keep",
    "shop.orders.email email",
    "shop.orders.* blank",
    "sessions.* empty",
    "visits.who hash",
];

fn rules(all: &[&str]) -> Vec<Rule> {
    all.iter().map(|rule| rule.parse().unwrap()).collect()
}

fn found(session: &Session, sql: &str) -> String {
    let rows = session.rows(sql, Duration::from_secs(30)).unwrap();
    rows.first().and_then(|row| row.get(0)).unwrap_or("null").to_owned()
}

fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn nothing_of_a_person_is_left() {
    let home = Home::new("anonymise");
    let cluster = Cluster::start(&home);
    cluster.session().run("create database app").unwrap();
    cluster.session().run("create database other").unwrap();
    let door = cluster.door.to("app");
    let session = Session::open(&door).unwrap();
    session.run("set search_path = public").unwrap();
    session.rows(MADE, Duration::from_secs(60)).unwrap();

    // Nobody has said what `visits.day` is, nor anything of orders.
    let some: Vec<&str> = RULES.into_iter().filter(|rule| !rule.starts_with("shop")).collect();
    let error = anonymise(&door, &rules(&some)).unwrap_err().to_string();
    let expected =
        "nobody has said what becomes of visits.day, shop.orders.id, shop.orders.email, shop.orders.Ship To";
    assert_eq!(error, expected);
    for (rule, expected) in [
        ("users.points hash", "public.users.points is `integer`: only texts become that"),
        (
            "users.name null",
            "public.users.name is `character varying(10)`: it may not be null; `blank` is possible",
        ),
        ("users.about year", "public.users.about is `jsonb`: only dates have a year"),
    ] {
        let all: Vec<&str> = [rule, "visits.* keep"].into_iter().chain(RULES).collect();
        assert_eq!(anonymise(&door, &rules(&all)).unwrap_err().to_string(), expected);
    }
    let blank: Vec<&str> = ["users.email blank", "visits.* keep"].into_iter().chain(RULES).collect();
    assert!(anonymise(&door, &rules(&blank)).is_err(), "two users have the same address");
    assert_eq!(found(&session, "select count(*) from users where email like '%kanarifugl%'"), "100");

    let all: Vec<&str> =
        RULES.into_iter().chain(["visits.* keep", "shop.orders.id keep", "nobody.* keep"]).collect();
    assert_eq!(anonymise(&door, &rules(&all)).unwrap(), Done { tables: 4, columns: 12 });
    for (sql, expected) in [
        ("select count(*) from users where email like '%@example.invalid' and length(email) = 28", "100"),
        ("select count(distinct email) from users", "100"),
        // The same person everywhere.
        ("select count(*) from users join shop.orders using (email)", "50"),
        (
            "select count(*) from users where name like 'Person %' and length(name) = 10 and whole = name || '!'",
            "100",
        ),
        ("select count(*) from users where phone ~ '^[+]999[0-9]{8}$'", "100"),
        ("select string_agg(distinct born::text, ',') from users", "1980-01-01"),
        ("select string_agg(distinct about::text || tags::text || photo::text, ',') from users", "{}{}\\x"),
        (
            "select count(*) from users where note is null and points = 7 and extract(month from seen) = 3",
            "100",
        ),
        ("select string_agg(distinct \"Ship To\", ',') from shop.orders", ""),
        ("select count(*) from sessions", "0"),
        ("select count(distinct who) from visits_1 where length(who) = 32", "1"),
        ("select count(*) from names where name like 'Person %'", "100"),
        ("select count(*) from pg_authid where rolpassword is not null", "0"),
        ("select string_agg(datname, ',') from pg_database where not datistemplate", "app"),
        (
            "select count(*) from pg_stats where most_common_vals::text || histogram_bounds::text like '%kanari%'",
            "0",
        ),
    ] {
        assert_eq!(found(&session, sql), expected, "{sql}");
    }
    session.run("checkpoint").unwrap();
    let left: Vec<String> = files_with(&cluster.data.join("base"), CANARY);
    assert_eq!(left, Vec::<String>::new());

    // What cannot be replaced is refused.
    session.run("select lo_from_bytea(0, 'kanarifugl')").unwrap();
    let error = anonymise(&door, &rules(&all)).unwrap_err().to_string();
    assert!(error.contains("large object"), "{error}");
}
