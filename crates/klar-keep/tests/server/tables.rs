//! A single table comes back beside what is there now.

use std::fs;
use std::time::Duration;

use klar_keep::restore;
use klar_keep::scratch::{Then, Until};
use klar_keep::server::{Door, Session};
use klar_keep::tables;

use crate::cluster::{Cluster, Home, Kept};

const MADE: &str = "
    create role shop login;
    create schema sales;
    create table public.customers (id serial primary key, name text not null);
    create table public.orders (
        id bigserial primary key, customer int not null references public.customers, state text default 'new');
    create index orders_by_state on public.orders (state);
    create table public.\"Visits\" (day date not null, count int) partition by range (day);
    create table public.visits_1 partition of public.\"Visits\" for values from ('2026-01-01') to ('2027-01-01');
    create table sales.items (id int primary key);
    create function public.refuse() returns trigger language plpgsql as $$ begin raise 'never'; end $$;
    insert into public.customers (name) select 'customer ' || n from generate_series(1, 10) n;
    insert into public.orders (customer) select 1 + n % 10 from generate_series(1, 1000) n;
    insert into public.\"Visits\" select date '2026-02-01' + n, n from generate_series(1, 30) n;
    insert into sales.items select generate_series(1, 5);
    create trigger refuses before update on public.orders for each row execute function public.refuse();
    alter database postgres owner to shop";

fn found(session: &Session, sql: &str) -> String {
    let rows = session.rows(sql, Duration::from_secs(30)).unwrap();
    rows.first().and_then(|row| row.get(0)).unwrap_or("nothing").to_owned()
}

#[test]
fn a_table_comes_back_beside_what_is_there_now() {
    let home = Home::new("tables");
    let cluster = Cluster::start(&home);
    let session = cluster.session();
    session.rows(MADE, Duration::from_secs(60)).unwrap();
    let mut kept = Kept::begin(&cluster, &home);
    kept.point(&cluster, "klar-1");
    // Gone, emptied and changed since.
    session.run("delete from public.orders where id > 10").unwrap();
    session.run("drop table public.\"Visits\"").unwrap();
    kept.end(&cluster);
    let trusted = [kept.key.id()];
    let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
    let plan = all.plan(Until::Lsn(all.points.points.values().next().unwrap().stop), None).unwrap();

    let bring = |schema: &str, names: &[&str]| {
        let folder = home.join(schema);
        let (data, log) = (folder.join("data"), folder.join("log"));
        all.bring_back(&plan, &cluster.programs, &data, &log).unwrap();
        let own = folder.join("home");
        let server =
            restore::start(&plan, &cluster.programs, &data, &log, &own, Then::Promote, false).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let to = |door: &Door| door.to("postgres");
        let brought =
            tables::bring(&cluster.programs, &to(server.door()), &to(&cluster.door), schema, &names, &folder);
        drop(server);
        fs::remove_dir_all(folder).unwrap();
        brought
    };

    let brought = bring("restored_1", &["orders", "\"Visits\"", "sales.items"]).unwrap();
    let shown: Vec<_> = brought.iter().map(|table| (&*table.name, &*table.now, table.rows)).collect();
    let expected = [
        ("orders", "\"restored_1\".\"orders\"", 1000),
        ("\"Visits\"", "\"restored_1\".\"Visits\"", 30),
        ("sales.items", "\"restored_1\".\"items\"", 5),
    ];
    assert_eq!(shown, expected);
    for (sql, expected) in [
        ("select count(*) from public.orders", "10"),
        // It is the app's, and whole but for what speaks of other tables.
        ("select tableowner from pg_tables where schemaname = 'restored_1' and tablename = 'orders'", "shop"),
        ("select count(*) from pg_indexes where schemaname = 'restored_1' and tablename = 'orders'", "2"),
        ("select nextval('restored_1.orders_id_seq')", "1001"),
        ("select count(*) from pg_constraint where conrelid = 'restored_1.orders'::regclass and contype = 'f'", "0"),
        ("select count(*) from pg_trigger where tgrelid = 'restored_1.orders'::regclass", "0"),
        ("with new as (insert into public.orders select * from restored_1.orders on conflict do nothing returning 1)
          select count(*) from new", "990"),
        ("select count(*) from restored_1.visits_1", "30"),
    ] {
        assert_eq!(found(&session, sql), expected, "{sql}");
    }

    let missing = bring("restored_2", &["customers", "nobody"]).unwrap_err().to_string();
    assert_eq!(missing, "there was no table `nobody` then");
    let injected = bring("restored_3", &["x'); drop table public.customers; --"]).unwrap_err().to_string();
    assert!(injected.contains("invalid name syntax") || injected.contains("no table"), "{injected}");
    assert_eq!(found(&session, "select count(*) from public.customers"), "10");
    let left = found(&session, "select count(*) from pg_namespace where nspname like 'restored_%'");
    assert_eq!(left, "1");
}
