//! A real PostgreSQL, dumped, proven and brought back.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

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
            "reset role; create extension pgcrypto",
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
    assert_eq!(dump.databases[0].extensions, ["pgcrypto", "plpgsql"]);
    assert!(!format!("{point:?}").contains("ecret"), "a password is in what is kept");
    assert_eq!(fs::read_dir(server.folder.join("keep/work")).unwrap().count(), 0, "something is left");
}
