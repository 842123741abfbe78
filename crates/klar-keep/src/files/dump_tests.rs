//! A real PostgreSQL, dumped, proven and brought back.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use klar_base::Secret;
use klar_base::keep::{DumpOf, KeptDump};

use super::*;
use crate::dump::Globals;
use crate::point::StepKind;
use crate::server::programs::succeeded;
use crate::server::{Door, Programs, Session};

const MINUTE: Duration = Duration::from_secs(60);
const ROOT: &str = "/usr/lib/postgresql";

/// A server that asks for passwords: `klar` may do everything, `shop` owns the database `shop`.
struct Server {
    programs: Programs,
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    fn start(name: &str) -> Self {
        let programs = Programs::newest().expect("PostgreSQL is installed: `apt-get install postgresql`");
        let user =
            nix::unistd::User::from_name("postgres").unwrap().expect("Debian's package makes the user");
        let programs = Programs { server: Some((user.uid.as_raw(), user.gid.as_raw())), ..programs };
        let folder = std::env::temp_dir().join(format!("klar-dump-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        programs.give(&data).unwrap();
        programs.give(&folder).unwrap();
        let mut initdb = programs.server("initdb", "KILL");
        initdb.arg("-D").arg(&data).args(["-U", "klar", "--no-sync", "--auth-local=trust"]);
        initdb.args(["--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]);
        succeeded(&mut initdb, MINUTE).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Self::run(&programs, &folder, port);
        let server = Self { programs, child, port, folder };
        server.wait();
        for sql in [
            "alter role klar password 'all powerful'",
            "create role shop login password 's:ecret@/1'; create role reader",
            "create database shop owner shop",
        ] {
            server.session("postgres").run(sql).unwrap();
        }
        server
    }

    fn run(programs: &Programs, folder: &Path, port: u16) -> Child {
        let mut command = programs.server("postgres", "INT");
        command.arg("-D").arg(folder.join("data")).args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        command.args(["-p", &port.to_string(), "-c"]);
        command.arg(format!("unix_socket_directories={}", folder.display()));
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait(&self) {
        let begun = Instant::now();
        while Session::open(&self.door("postgres")).is_err() {
            let said = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < MINUTE, "the server did not come up: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn door(&self, database: &str) -> Door {
        Door::socket(&self.folder, self.port, "klar").to(database)
    }

    /// As whom everything may be done.
    fn session(&self, database: &str) -> Session {
        Session::open(&self.door(database)).unwrap()
    }

    fn url(&self) -> String {
        format!("postgres://shop:s%3Aecret%40%2F1@127.0.0.1:{}/shop?sslmode=prefer&schema=public", self.port)
    }

    fn by_url(&self, url: &str) -> KeptDump {
        KeptDump { name: "db".parse().unwrap(), of: DumpOf::Url(Secret::new(url.to_owned())), days: 30 }
    }

    fn managed(&self) -> KeptDump {
        let of = DumpOf::Managed {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "klar".into(),
            password: Secret::new("all powerful".into()),
        };
        KeptDump { name: "db-dump".parse().unwrap(), of, days: 30 }
    }

    fn keeper(&self, dump: KeptDump) -> Inner {
        self.keeper_with(dump, Path::new(ROOT))
    }

    fn keeper_with(&self, dump: KeptDump, programs: &Path) -> Inner {
        let settings = Settings {
            name: dump.name.clone(),
            home: self.folder.join("keep"),
            host: "test".into(),
            second_name: format!("shop.prod/{}", dump.name),
        };
        let wishes = Wishes { at: (2, 0), days: dump.days, second: None };
        let source = Source::Dump(Box::new(dump::Source::new(dump).with_programs(programs)));
        Inner::open(settings, wishes, source, Box::new(|_| {})).unwrap()
    }

    /// A schema with what is easily forgotten.
    fn fill(&self) {
        let session = self.session("shop");
        for sql in [
            "set role shop",
            "create table public.orders (id bigserial primary key, what text not null, at timestamptz default now(),
               price numeric(10, 2) generated always as (12.5) stored, raw bytea)",
            "insert into public.orders (what, raw) select 'order ' || n, decode(md5(n::text), 'hex')
               from generate_series(1, 2000) n",
            "create schema other; create table other.orders (id int, \"Odd \"\"name\" text)",
            "insert into other.orders values (1, E'a\\nb\\tc\\\\'), (2, null)",
            "create table public.parts (id int, at date) partition by range (at)",
            "create table public.parts_2025 partition of public.parts for values from ('2025-01-01') to ('2026-01-01')",
            "insert into public.parts values (1, '2025-05-17')",
            "create function public.is_fine(text) returns boolean language sql immutable as 'select length($1) > 0'",
            "create table public.checked (what text check (public.is_fine(what)))",
            "insert into public.checked values ('x')",
            "create materialized view public.sums as select count(*) from public.orders",
            "create index on public.orders (lower(what))",
            "grant select on public.orders to reader",
            "select lo_from_bytea(0, convert_to('SQLite format 3' || repeat('x', 9000), 'UTF8'))",
            "reset role; create schema beside; create extension pgcrypto schema beside",
        ] {
            session.run(&format!("set search_path = public, pg_catalog; {sql}")).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn points(inner: &Inner) -> Vec<FilesPoint> {
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    points.points.into_values().collect()
}

#[test]
fn a_database_by_its_address_is_dumped_and_proven() {
    let server = Server::start("url");
    server.fill();
    let inner = server.keeper(server.by_url(&server.url()));
    let proof = inner.point(&mut |_, _, _| {}).unwrap();
    let steps: Vec<StepKind> = proof.steps.iter().map(|step| step.what).collect();
    assert_eq!(steps, [StepKind::Files, StepKind::Contents, StepKind::Replay, StepKind::Tables], "{proof:?}");
    assert!(proof.is_good(), "{proof:?}");
    let said = format!("{proof:?}");
    assert!(said.contains("without their passwords"), "{said}");
    let point = points(&inner).remove(0);
    let dump = point.read.dump.clone().unwrap();
    let tables: Vec<String> =
        dump.tables.iter().map(|table| format!("{}.{} {}", table.schema, table.table, table.rows)).collect();
    assert_eq!(
        tables,
        [
            "other.orders 2",
            "pg_catalog.pg_largeobject 1",
            "public.checked 1",
            "public.orders 2000",
            "public.parts_2025 1"
        ]
    );
    assert_eq!(dump.globals, Globals::WithoutPasswords);
    assert_eq!((dump.databases.len(), &*dump.databases[0].name), (1, "shop"));
    let extensions: Vec<&str> = dump.databases[0].extensions.iter().map(|one| &*one.name).collect();
    assert_eq!(extensions, ["pgcrypto", "plpgsql"]);
    assert!(!format!("{point:?}").contains("ecret"), "a password is in what is kept");
    assert_eq!(fs::read_dir(server.folder.join("keep/work")).unwrap().count(), 0, "something is left");
}

/// A server that klar runs: all of its databases, with roles and their passwords.
#[test]
fn all_of_a_server_is_dumped() {
    let server = Server::start("managed");
    server.fill();
    for sql in [
        "create database other template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'",
        "create database \"Odd / name\" template template0 locale_provider icu icu_locale 'nb-NO'",
        "alter role reader set work_mem = '8MB'; grant reader to shop",
    ] {
        server.session("postgres").run(sql).unwrap();
    }
    server
        .session("other")
        .run("create table public.orders (what text); insert into public.orders values ('å')")
        .unwrap();
    server.session("Odd / name").run("create table public.orders (what text)").unwrap();
    let inner = server.keeper(server.managed());
    assert_eq!(inner.status().dumps, Some(Dumps::Weekly));
    let proof = inner.point(&mut |_, _, _| {}).unwrap();
    assert!(proof.is_good() && format!("{proof:?}").contains("with all roles"), "{proof:?}");
    let point = points(&inner).remove(0);
    let dump = point.read.dump.clone().unwrap();
    let names: Vec<(&str, &str)> = dump.databases.iter().map(|of| (&*of.name, &*of.folder)).collect();
    assert_eq!(
        names,
        [
            ("Odd / name", "Odd___name.dump"),
            ("other", "other.dump"),
            ("postgres", "postgres.dump"),
            ("shop", "shop.dump")
        ]
    );
    let back = server.folder.join("back");
    restored(&inner.repository, &point, &back).unwrap();
    let globals = fs::read_to_string(back.join(dump::GLOBALS)).unwrap();
    assert!(globals.contains("SCRAM-SHA-256") && globals.contains("work_mem"), "{globals}");

    // A week later most of it is the same.
    server
        .session("shop")
        .run("set role shop; insert into public.orders (what) values ('one more')")
        .unwrap();
    inner.point(&mut |_, _, _| {}).unwrap();
    let second = points(&inner).remove(1);
    assert!(second.added < second.read.bytes, "{} of {}", second.added, second.read.bytes);

    // Damage to the repository is found.
    let keeper = FilesKeeper { inner: Arc::new(inner), thread: None };
    assert!(keeper.notices(Harm::Flipped).unwrap() && keeper.notices(Harm::Gone).unwrap());
}

/// The comparison sees a row that is another one, one that is gone, and a table that is.
#[test]
fn a_row_that_was_changed_is_found() {
    let server = Server::start("changed");
    server.fill();
    let inner = server.keeper(server.managed());
    inner.point(&mut |_, _, _| {}).unwrap();
    let point = points(&inner).remove(0);
    let was = point.read.dump.clone().unwrap();
    let back = server.folder.join("back");
    restored(&inner.repository, &point, &back).unwrap();
    let found = |was: &dump::Dumped| {
        let place = server.folder.join("place");
        let _ = fs::remove_dir_all(&place);
        let loaded = inner.dump().unwrap().load(was, &back, &place, &|| false)?;
        loaded.compare(was, &|| false)
    };
    assert!(found(&was).unwrap().unwrap().contains("are what was read in its snapshot"));
    let path = fs::read_dir(back.join("shop.dump"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("order 1999")))
        .unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("order 1999", "order 1998")).unwrap();
    let told = found(&was).unwrap().unwrap_err();
    assert_eq!(
        told,
        "public.orders of shop has 2000 rows where 2000 were read: the same number of rows with another content"
    );
    let without: Vec<&str> = whole.lines().filter(|line| !line.contains("order 7\t")).collect();
    fs::write(&path, without.join("\n")).unwrap();
    assert_eq!(found(&was).unwrap().unwrap_err(), "public.orders of shop has 1999 rows where 2000 were read");
    fs::write(&path, &whole).unwrap();
    let mut more = was.clone();
    more.tables[0].table = "never".into();
    assert!(found(&more).unwrap().unwrap_err().contains("other.never of shop is not there"));

    // What this machine has not is said by its name, and is no proof.
    let mut lacks = was;
    lacks
        .databases
        .last_mut()
        .unwrap()
        .extensions
        .push(dump::Extension { name: "nonesuch".into(), schema: "public".into() });
    let error = found(&lacks).unwrap_err();
    assert!(
        matches!(&error, dump::DumpError::NotHere { why, .. } if why.contains("needs `nonesuch`")),
        "{error}"
    );
}

/// Two tables that always change together, while it is dumped again and again.
#[test]
fn a_dump_is_of_one_moment() {
    let server = Server::start("moment");
    let session = server.session("shop");
    session.run("set role shop; create table public.a (n int); create table public.b (n int)").unwrap();
    let inner = server.keeper(server.by_url(&server.url()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ends, writes) = (&is_over, &server);
        scope.spawn(move || {
            let session = writes.session("shop");
            while !ends.load(Ordering::Acquire) {
                let sql = "begin; insert into public.a select generate_series(1, 50);
                           insert into public.b select generate_series(1, 50); commit";
                session.run(sql).unwrap();
            }
        });
        let taken: Vec<_> = (0..3).map(|_| inner.point(&mut |_, _, _| {})).collect();
        is_over.store(true, Ordering::Release);
        for proof in taken {
            assert!(proof.as_ref().is_ok_and(Proof::is_good), "{proof:?}");
        }
    });
    let mut before = 0;
    for point in points(&inner) {
        let tables = point.read.dump.unwrap().tables;
        assert!(tables[0].rows == tables[1].rows && tables[0].digest == tables[1].digest, "{tables:?}");
        assert!(tables[0].rows > before, "{tables:?}");
        before = tables[0].rows;
    }
}

/// What cannot be dumped is never a point, and what is said tells what to do.
#[test]
fn what_cannot_be_dumped_is_no_point() {
    let server = Server::start("refused");
    server.fill();
    let said_with = |url: &str, programs: &Path| {
        let inner = server.keeper_with(server.by_url(url), programs);
        let error = inner.point(&mut |_, _, _| {}).unwrap_err();
        assert!(points(&inner).is_empty());
        let left = fs::read_dir(server.folder.join("keep/work")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something is left of {error}");
        let (what, hint) = (error.to_string(), error.hint().unwrap());
        assert!(
            ![&what, &hint].iter().any(|said| said.contains("s%3A") || said.contains("s:ecret")),
            "{what}: {hint}"
        );
        (what, hint)
    };
    let said = |url: &str| said_with(url, Path::new(ROOT));
    let url = server.url();

    let (what, hint) = said(&url.replace("s%3Aecret", "another-s%3Aecret"));
    assert!(
        what.contains("does not let klar in") && what.contains("password authentication failed"),
        "{what}"
    );
    assert!(hint.contains("klar up"), "{hint}");
    let (what, hint) = said(&url.replace(&server.port.to_string(), "1"));
    assert!(what.contains("127.0.0.1:1 cannot be reached") && hint.contains("firewall"), "{what}: {hint}");
    let (what, _) = said(&url.replace("/shop?", "/nonesuch?"));
    assert!(what.contains("does not exist"), "{what}");
    let (what, _) = said(&url.replace("sslmode=prefer", "sslmode=require"));
    assert!(what.contains("SSL"), "sslmode is not honoured: {what}");
    let (what, hint) = said("postgres://nobody");
    assert!(what.contains("names no user") && hint.contains("provider"), "{what}: {hint}");

    // A table that it may not read, and one of which it may not see all rows.
    let session = server.session("shop");
    session.run("create table public.wages (who text)").unwrap();
    let (what, hint) = said(&url);
    assert!(what.contains("does not let `shop` read all of it") && what.contains("wages"), "{what}");
    assert!(hint.contains("GRANT pg_read_all_data TO \"shop\""), "{hint}");
    session
        .run("grant select on public.wages to shop; alter table public.wages enable row level security")
        .unwrap();
    let (what, hint) = said(&url);
    assert!(what.contains("row-level security") && hint.contains("BYPASSRLS"), "{what}: {hint}");
    session.run("drop table public.wages").unwrap();

    // Programs that are not there, or older than the server; what an old one says is what they say.
    let programs = server.folder.join("programs");
    let (what, hint) = said_with(&url, &programs);
    assert!(what.contains("no program of PostgreSQL") && hint.contains("apt-get install"), "{what}: {hint}");
    let own = server.programs.folder.parent().unwrap().file_name().unwrap();
    let stand_in = |version: &str, program: Option<&str>| {
        let _ = fs::remove_dir_all(&programs);
        let bin = programs.join(version).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for entry in fs::read_dir(&server.programs.folder).unwrap() {
            let entry = entry.unwrap();
            std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name())).unwrap();
        }
        if let Some(script) = program {
            fs::remove_file(bin.join("pg_dump")).unwrap();
            fs::write(bin.join("pg_dump"), script).unwrap();
            fs::set_permissions(bin.join("pg_dump"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    stand_in("9", None);
    let (what, hint) = said_with(&url, &programs);
    assert!(
        what.contains("the newest programs here are of version 9") && hint.contains("postgresql-1"),
        "{what}: {hint}"
    );
    let old = "#!/bin/sh\necho 'pg_dump: error: server version: 17.2 (Debian 17.2-1); pg_dump version: 15.18' >&2\n\
               echo 'pg_dump: error: aborting because of server version mismatch' >&2\nexit 1\n";
    stand_in(own.to_str().unwrap(), Some(old));
    let (what, hint) = said_with(&url, &programs);
    assert!(
        what.contains("is version 17, and pg_dump here is 15") && hint.contains("postgresql-17"),
        "{what}: {hint}"
    );
    // One that ends well in the middle of its work has written nothing that can be loaded.
    stand_in(own.to_str().unwrap(), Some("#!/bin/sh\nexit 0\n"));
    let inner = server.keeper_with(server.by_url(&url), &programs);
    assert!(inner.point(&mut |_, _, _| {}).is_err());
    assert!(inner.status().proven_unix_ms.is_none());

    // No password where everybody sees it.
    let seen = server.folder.join("seen");
    let real = server.programs.folder.join("pg_dump");
    let tells = format!(
        "#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline > {}\nexec {} \"$@\"\n",
        seen.display(),
        real.display()
    );
    stand_in(own.to_str().unwrap(), Some(&tells));
    let inner = server.keeper_with(server.by_url(&url), &programs);
    inner.point(&mut |_, _, _| {}).unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("--snapshot=") && !seen.contains("ecret"), "{seen}");

    // Without a server of its version here it is dumped, and never called proven.
    stand_in(own.to_str().unwrap(), None);
    fs::remove_file(programs.join(own).join("bin/postgres")).unwrap();
    let inner = server.keeper_with(server.by_url(&url), &programs);
    let error = inner.point(&mut |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("was taken, and it could not be proven here"), "{error}");
    assert!(error.contains("apt-get install postgresql-"), "{error}");
}

/// Whatever is killed while it is dumped: nothing is published, nothing is left, and the next one works.
#[test]
fn what_dumps_and_what_is_dumped_may_be_killed() {
    let mut server = Server::start("killed");
    server.fill();
    let inner = server.keeper(server.by_url(&server.url()));
    for kills_server in [false, true] {
        let holds = server.session("shop");
        holds.run("begin; lock table public.parts_2025 in access exclusive mode").unwrap();
        let taken = std::thread::scope(|scope| {
            let takes = scope.spawn(|| inner.point(&mut |_, _, _| {}));
            let begun = Instant::now();
            let dumps = loop {
                // The one that waits for the table.
                let wanted = "dbname='shop'";
                let processes = fs::read_dir("/proc").unwrap().flatten();
                let mut found = processes.filter_map(|entry| {
                    let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                    let words = fs::read_to_string(entry.path().join("cmdline")).ok()?;
                    let own = fs::read_to_string(entry.path().join("environ")).ok()?;
                    let is_it = words.contains("pg_dump") && words.contains(wanted);
                    (is_it && own.contains(&format!("PGPORT={}", server.port))).then_some(pid)
                });
                if let Some(pid) = found.next() {
                    break pid;
                }
                assert!(begun.elapsed() < MINUTE, "nothing dumps");
                std::thread::sleep(Duration::from_millis(20));
            };
            if kills_server {
                let pid = nix::unistd::Pid::from_raw(server.child.id() as i32);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).unwrap();
            } else {
                let pid = nix::unistd::Pid::from_raw(dumps);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
                holds.run("rollback").unwrap();
            }
            takes.join().unwrap()
        });
        let error = taken.unwrap_err().to_string();
        assert!(points(&inner).is_empty(), "{error}");
        assert_eq!(fs::read_dir(server.folder.join("keep/work")).unwrap().count(), 0, "{error}");
        if kills_server {
            server.child.wait().unwrap();
            server.child = Server::run(&server.programs, &server.folder, server.port);
            server.wait();
        } else {
            assert!(error.contains("pg_dump failed: signal: 9"), "{error}");
        }
    }
    assert!(inner.point(&mut |_, _, _| {}).unwrap().is_good());
}

/// A constraint may call a function of the app's: it must not run as one who may run programs.
#[test]
fn what_an_app_has_written_may_do_nothing_where_it_is_loaded() {
    let server = Server::start("trap");
    let trace = server.folder.join("trace");
    let door = Door {
        host: "127.0.0.1".into(),
        user: "shop".into(),
        password: Some(Secret::new("s:ecret@/1".into())),
        ..server.door("shop")
    };
    let session = Session::open(&door).unwrap();
    for sql in [
        format!(
            "create function public.trap(text) returns boolean language plpgsql as $$
               begin
                 begin execute 'reset role'; exception when others then null; end;
                 begin execute 'set role \"klar scratch\"'; exception when others then null; end;
                 begin execute 'set session authorization \"klar scratch\"'; exception when others then null; end;
                 execute 'copy (select 1) to program ''touch {}''';
                 return true;
               exception when others then return true; end $$",
            trace.display()
        ),
        "create table public.a (what text check (public.trap(what)))".into(),
        "insert into public.a values ('x')".into(),
        "create table public.b (what text); insert into public.b values ('x')".into(),
        "alter table public.b add check (public.trap(what))".into(),
    ] {
        session.run(&format!("set search_path = public, pg_catalog; {sql}")).unwrap();
    }
    for (kept, name) in [(server.by_url(&server.url()), "by-url"), (server.managed(), "managed")] {
        let _ = fs::remove_dir_all(server.folder.join("keep"));
        let inner = server.keeper(kept);
        let proof = inner.point(&mut |_, _, _| {}).unwrap();
        assert!(proof.is_good(), "{name}: {proof:?}");
        assert!(!trace.exists(), "{name}: a function of the app's has run a program");
        let point = points(&inner).remove(0);
        let back = server.folder.join(name);
        restored(&inner.repository, &point, &back).unwrap();
        if name == "managed" {
            let dump = point.read.dump.as_ref().unwrap();
            inner.dump().unwrap().beside(dump, &back, "20261124t031200", &|| false).unwrap();
            assert!(!trace.exists(), "a function of the app's has run a program on the server itself");
        }
    }
}

/// Beside what is there, which stays as it is.
#[test]
fn a_dump_is_loaded_beside_the_database() {
    let server = Server::start("beside");
    server.fill();
    let stamp = "20261124t031200";
    let of = |session: &Session| {
        let sql = "select count(*) || ' ' || pg_get_userbyid((select relowner from pg_class where oid =
                   'public.orders'::regclass)) from public.orders";
        session.row(sql, "count").unwrap().get(0).unwrap().to_owned()
    };
    for (kept, number) in [(server.by_url(&server.url()), 1), (server.managed(), 2)] {
        let is_managed = number == 2;
        let _ = fs::remove_dir_all(server.folder.join("keep"));
        let inner = server.keeper(kept);
        inner.point(&mut |_, _, _| {}).unwrap();
        let point = points(&inner).remove(0);
        let dump = point.read.dump.clone().unwrap();
        let back = server.folder.join(format!("back-{number}"));
        restored(&inner.repository, &point, &back).unwrap();
        let source = inner.dump().unwrap();
        if !is_managed {
            let error = source.beside(&dump, &back, stamp, &|| false).unwrap_err();
            assert!(error.hint().unwrap().contains("ALTER ROLE \"shop\" CREATEDB"), "{error}");
            server.session("postgres").run("alter role shop createdb").unwrap();
        }
        server.session("shop").run("delete from public.orders where id > 1000").unwrap();
        let made = source.beside(&dump, &back, &format!("{stamp}_{number}"), &|| false).unwrap();
        let now = format!("shop_restored_{stamp}_{number}");
        assert_eq!(made.len(), 1);
        assert_eq!((&*made[0].was, &*made[0].now), ("shop", &*now));
        assert_eq!(of(&server.session(&now)), format!("{} shop", if is_managed { 1000 } else { 2000 }));
        assert_eq!(of(&server.session("shop")), "1000 shop");

        server.session("postgres").run(&format!("drop database \"{now}\" with (force)")).unwrap();

        // A dump that does not load leaves no database.
        let toc = back.join("shop.dump/toc.dat");
        let bytes = fs::read(&toc).unwrap();
        fs::write(&toc, &bytes[..bytes.len() / 2]).unwrap();
        assert!(source.beside(&dump, &back, "again", &|| false).is_err());
        let left = "select count(*) from pg_database where datname like '%again'";
        assert_eq!(server.session("postgres").row(left, "count").unwrap().get(0), Some("0"));
        let left = "select count(*) from pg_roles where rolname like 'klar-load%'";
        assert_eq!(server.session("postgres").row(left, "count").unwrap().get(0), Some("0"));
    }
}
