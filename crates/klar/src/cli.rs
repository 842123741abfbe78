//! The command line: what can be typed, and an example of each.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use klar_base::{EnvName, ServiceName};
use klar_prove::words::Lang;

use crate::verbs::backup::At;

/// Runs your web app in production: behind a hardened edge, supervised, deployed without losing a request.
#[derive(Debug, Parser)]
#[command(
    name = "klar",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  klar init && klar up     from a folder with an app to an address that answers\n  klar                     what runs on this machine, at a glance\n  klar deploy              ship your changes\n  klar rollback            take them back, at once\n\nklar.toml describes the app; `klar explain` tells what is in force and why."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The folder that holds everything of this machine's klar [default: /var/lib/klar as root, else
    /// ~/.local/state/klar; $KLAR_STATE comes first]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The folder of the app [default: the nearest one with a klar.toml, from here upwards]
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub app: Option<PathBuf>,
    /// The environment of the app
    #[arg(long, global = true, value_name = "NAME", default_value = "prod")]
    pub env: EnvName,
    /// Print JSON: one value, or one on each line while something goes on
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say only what was asked for, and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What klar can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a klar.toml for the app in this folder, and say what was guessed and why
    #[command(
        after_help = "Examples:\n  klar init            write klar.toml\n  klar init --print    only show it\n  klar -C ../shop init"
    )]
    Init(Init),
    /// Put the app in place; starts klar itself where it does not run
    #[command(
        after_help = "Examples:\n  klar up\n  klar --env staging up    a second one of the same app, beside prod"
    )]
    Up,
    /// Replace the running release by the files as they are now, without losing a request
    #[command(
        after_help = "Examples:\n  klar deploy\n  klar deploy --json | jq -r .type    follow it from a script"
    )]
    Deploy,
    /// Run the production checklist: every item is a probe. Exit status 0: ready, 1: not ready, 3: could not look
    #[command(
        after_help = "Examples:\n  klar check                              the app in this folder\n  klar check --all --lang nb              every row, in Norwegian\n  klar check LAUNCH.md --write            tick your own list, as far as it is true\n  klar check --url https://shop.example --source .\n  klar check --full                       also what disturbs, in a rig\n  klar check --only tls --only sec.headers\n  klar check --prove-probes               show every probe its planted faults"
    )]
    Check(Box<Check>),
    /// Vouch for what only people can know; it expires, is listed apart, and never looks like proof
    #[command(
        after_help = "Examples:\n  klar attest sec.pentest --by 'Kari Nordmann' --until 2027-06-30 --evidence report.pdf\n  klar attest ai.gpu --not-applicable --by Kari --until 2027-06-30 --note 'no models here'\n  klar attest edge.cdn --accept --by Kari --until 2027-01-31 --note 'one country only'"
    )]
    Attest(Attest),
    /// Mend a row where klar.toml can: show the change, or make it
    #[command(after_help = "Examples:\n  klar fix sec.headers.csp --dry-run\n  klar fix mon.health-checks")]
    Fix(Fix),
    /// Show and verify the ledger: what was seen, done and signed, chained and signed itself
    #[command(
        after_help = "Examples:\n  klar ledger                     verify it; print its key and its head\n  klar ledger --head 812:9f3c...  also that it still holds what it held then\n  klar ledger --erase 17          take the payload of an entry away for good"
    )]
    Ledger(LedgerArgs),
    /// Go back to the release before, at once
    #[command(after_help = "Examples:\n  klar rollback\n  klar --env staging rollback")]
    Rollback,
    /// Show what runs (also: `klar` alone)
    #[command(after_help = "Examples:\n  klar status\n  klar status --json | jq '.apps[].health'")]
    Status,
    /// List instances and databases, with process ids and ports
    #[command(
        after_help = "Examples:\n  klar ps\n  klar ps --json | jq -r '.apps[].services[].instances[].pid'"
    )]
    Ps,
    /// Show what the app says
    #[command(
        after_help = "Examples:\n  klar logs                 the last lines of everything\n  klar logs web -f          follow one service\n  klar logs -n 500 --instance web.3\n  klar logs --access -f     requests instead of output\n  klar logs --grep timeout --since 7d    out of all that is kept\n  klar logs --level error"
    )]
    Logs(Logs),
    /// Show how routes did: requests, errors and times, measured by klar; or answer a query in the language of Prometheus
    #[command(
        after_help = "Examples:\n  klar metrics                        each route of this app, over the last hour\n  klar metrics --since 24h\n  klar metrics 'sum by (status) (rate(http_requests_total[5m]))'\n  klar metrics --address              for Grafana, promtool and others: an address with its key"
    )]
    Metrics(Metrics),
    /// Show a dashboard: health, performance, business, cost, security, or one of the app's own
    #[command(
        visible_alias = "dashboards",
        after_help = "Examples:\n  klar dashboard                       which there are, and where a browser shows them\n  klar dashboard performance --since 24h\n  klar dashboard health --svg health.svg\n  klar dashboard cost --template > dashboards/cost.toml    to change it: the app's own come first"
    )]
    Dashboard(Dashboard),
    /// Show a request, by the id that its answer has in `x-request-id`: what its time went to, and what was said meanwhile
    #[command(
        after_help = "Examples:\n  klar trace 019a8f0e5c1b7d2e9f3a4b5c6d7e8f90\n  curl -sI https://shop.example/ | grep -i x-request-id"
    )]
    Trace {
        /// 32 digits
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List requests, the newest first, with the ids for `klar trace`
    #[command(
        after_help = "Examples:\n  klar traces --slower 500ms\n  klar traces --errors --since 1h\n  klar traces --route '/orders/{id}' -n 5"
    )]
    Traces(Traces),
    /// Replace instances by new ones of the same release, one after the other
    #[command(after_help = "Examples:\n  klar restart\n  klar restart worker")]
    Restart {
        /// Only this service
        service: Option<ServiceName>,
    },
    /// Set how many instances a service has, until klar.toml changes
    #[command(after_help = "Examples:\n  klar scale web=4")]
    Scale {
        /// The service and the number
        #[arg(value_name = "SERVICE=N", value_parser = parse_scale)]
        wanted: (ServiceName, u32),
    },
    /// The cache of the edge
    #[command(
        subcommand,
        after_help = "Examples:\n  klar cache purge /prices    forget an address of the app"
    )]
    Cache(Cache),
    /// The firewall: what it stopped, why, and how to let what is honest through
    #[command(
        subcommand,
        after_help = "Examples:\n  klar waf report            which rules spoke, where, how often\n  klar waf explain 01a2...   what was found in a request, and the exception for it\n  klar waf allow 01a2...     write that exception into klar.toml"
    )]
    Waf(Waf),
    /// What is kept of the app's databases: points that were restored and compared, and the log between them
    #[command(
        after_help = "Examples:\n  klar backup                         what can be restored, and when that was proven\n  klar backup now                     a new point, restored and compared before it counts\n  klar backup verify                  read everything in the repository again\n  klar backup key --out drawer.txt    a key for when this machine is gone"
    )]
    Backup {
        #[command(subcommand)]
        what: Option<Backup>,
        /// Which database, where the app has several
        #[arg(long, value_name = "NAME", global = true)]
        store: Option<ServiceName>,
    },
    /// Bring a database back as it was at any second: the plan first, then in place of what is there, or into a folder
    #[command(
        after_help = "Examples:\n  klar restore '10 minutes ago' --dry-run     what it would do\n  klar restore 14:05                          asks for the app's name before it begins\n  klar restore latest --into /srv/copy        the files of a server, beside everything\n  klar restore 14:05 --table orders           one table, beside what is there now\n  klar restore before:1234                    just before transaction 1234 committed"
    )]
    Restore(RestoreArgs),
    /// Run a copy of a database as it was at any second, beside the real one; it disappears by itself
    #[command(
        after_help = "Examples:\n  klar clone --at '10 minutes ago' --psql      look around, then it is gone\n  klar clone --for 4h                          prints how to reach it\n  pg_dump $(klar clone --json | jq -r '\"-h \\(.socket) -U klar \\(.database)\"') -t orders"
    )]
    Clone(CloneArgs),
    /// Rehearse what you hope never to need
    #[command(
        subcommand,
        after_help = "Examples:\n  klar drill restore                       the newest point: restored, compared, timed\n  klar drill restore --key drawer.txt      with the key from the drawer"
    )]
    Drill(Drill),
    /// The certificates of the app's names
    #[command(
        subcommand,
        after_help = "Examples:\n  klar cert renew    new ones, now; the ones before serve on until then"
    )]
    Cert(Cert),
    /// Look into the edge: its traffic as it goes by, and what it would do with a request
    #[command(
        arg_required_else_help = true,
        after_help = "Examples:\n  klar edge top\n  klar edge explain /prices"
    )]
    Edge {
        #[command(subcommand)]
        what: Option<Look>,
        // As the core starts it.
        #[arg(long, hide = true)]
        core_uid: Option<u32>,
        #[arg(long, hide = true)]
        static_root: Vec<PathBuf>,
        #[arg(long, hide = true)]
        cache_folder: Option<PathBuf>,
    },
    /// Stop the app
    #[command(
        after_help = "Examples:\n  klar down                    stop the app; its data stays\n  klar down --purge            also remove releases, logs and databases\n  klar down --all              stop every app and klar itself"
    )]
    Down(Down),
    /// Say what this machine can and cannot do
    #[command(
        after_help = "Examples:\n  klar doctor\n  klar doctor --json | jq '.[] | select(.grade == \"bad\")'"
    )]
    Doctor,
    /// Open the app in a browser, or print its address
    #[command(after_help = "Examples:\n  klar open\n  curl \"$(klar open --print)\"")]
    Open {
        /// Only print the address
        #[arg(long)]
        print: bool,
    },
    /// Say what a key of klar.toml means, what is in force, and where that comes from
    #[command(
        after_help = "Examples:\n  klar explain                        everything in force, defaults too\n  klar explain health\n  klar explain services.web.instances"
    )]
    Explain {
        /// A key or a table
        key: Option<String>,
    },
    /// Make this machine trust the certificates of klar's local authority
    #[command(
        after_help = "Examples:\n  sudo klar trust\n  klar trust --print > klar-ca.pem    the certificate itself, for elsewhere"
    )]
    Trust {
        /// Only print the certificate (PEM)
        #[arg(long)]
        print: bool,
    },
    /// Start klar with the machine (systemd)
    #[command(
        after_help = "Examples:\n  sudo klar service install\n  klar service show\n  sudo klar service uninstall"
    )]
    Service {
        #[command(subcommand)]
        what: Service,
    },
    /// Print the JSON schema of klar.toml, for editors
    #[command(after_help = "Examples:\n  klar schema > klar.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  klar completions bash > /etc/bash_completion.d/klar\n  klar completions fish > ~/.config/fish/completions/klar.fish"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  klar man | man -l -\n  klar man --out /usr/local/share/man/man1    one page for each verb"
    )]
    Man {
        /// Write the pages into this folder instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Serve a small app with faults of your choice, to see whether a check finds them
    #[command(after_help = "Examples:\n  klar foil --list\n  klar foil --fault old-tls --fault no-csp")]
    Foil(FoilArgs),
    /// Print the version, and that of the klar that runs
    #[command(after_help = "Examples:\n  klar version\n  klar version --json")]
    Version,

    /// Go on with another klar program: core, edge and host are replaced, apps run on, no request is lost
    #[command(
        after_help = "Examples:\n  klar upgrade                 what runs becomes the klar that you have just called\n  klar upgrade ./klar-0.2.0    what runs becomes this program\n  klar upgrade --rollback      back to the program before"
    )]
    Upgrade(Upgrade),

    /// What this program reads and speaks, for `klar upgrade`
    #[command(hide = true, after_help = "Examples:\n  klar formats")]
    Formats,
    /// Everything below the command line: what `klar up` and the systemd unit start
    #[command(hide = true, after_help = "Examples:\n  klar host --state /var/lib/klar")]
    Host {
        #[arg(long, requires = "core_pid")]
        core_fd: Option<i32>,
        #[arg(long)]
        core_pid: Option<i32>,
    },
    #[command(hide = true, after_help = "Examples: started by `klar host`")]
    Spawn,
    #[command(hide = true, after_help = "Examples: started by `klar host`")]
    Core {
        #[arg(long)]
        spawner_fd: Option<i32>,
    },
    /// Takes in what happens, keeps it, and answers questions about it.
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    See {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        apps: PathBuf,
        #[arg(long)]
        allow: Vec<u32>,
        /// A listening socket for TCP was handed over, too
        #[arg(long)]
        tcp: bool,
    },
    /// Keeps the databases of an app a second time, and proves that they come back.
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    Keep {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        allow: Vec<u32>,
    },
    /// Reads what an app has written to its folders.
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    ReadFiles {
        #[arg(long)]
        folder: PathBuf,
    },
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    Shim { id: String },
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    Assets { out: PathBuf },
    /// Converts images, one after the other, in a sandbox.
    #[command(hide = true, after_help = "Examples: started by `klar core`")]
    Images {
        /// The memory that one image may take, in bytes
        #[arg(long)]
        memory: Option<u64>,
        /// The time that one image may take, in milliseconds
        #[arg(long)]
        time: Option<u64>,
    },
}

/// `klar backup`.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Show what can be restored, and when that was proven (also: `klar backup` alone)
    #[command(after_help = "Examples:\n  klar backup list\n  klar backup list --json | jq '.points[-1]'")]
    List,
    /// Take a point now, restore it and compare it
    #[command(after_help = "Examples:\n  klar backup now\n  klar backup now && klar deploy")]
    Now,
    /// Read everything in the repository again
    #[command(after_help = "Examples:\n  klar backup verify")]
    Verify,
    /// Make a key that opens the backups without this machine, and print it: klar does not keep it
    #[command(
        after_help = "Examples:\n  klar backup key --out drawer.txt\n  klar drill restore --key drawer.txt    shows that it works"
    )]
    Key {
        /// Write it here instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// `klar drill`.
#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Restore a point into a server of its own, compare it with what was there when it was taken, and time it
    #[command(
        after_help = "Examples:\n  klar drill restore\n  klar drill restore 20261123T020000Z-9f3a\n  klar drill restore --key drawer.txt --json | jq .rto_ms"
    )]
    Restore {
        /// Which point [default: the newest]
        point: Option<String>,
        /// Which database, where the app has several
        #[arg(long, value_name = "NAME")]
        store: Option<ServiceName>,
        /// Open the repository with the key in this file, as if this machine's own were lost
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// From the second place alone, as if this machine were lost
        #[arg(long)]
        offsite: bool,
    },
    /// Write the plan for the day when the machine is lost, from klar.toml: `klar check --full --only disaster` follows it
    #[command(
        after_help = "Examples:\n  klar drill plan\n  klar drill plan --out docs/recovery.md    renews what klar wrote there, and nothing else"
    )]
    Plan {
        /// Write it into this document instead: in the place of the plan that is there, or at its end
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Another repository than that of this machine.
#[derive(Debug, Args)]
pub struct FromArgs {
    /// From the backups of another machine: where its `backup.offsite` put them, or a folder that they were copied to
    #[arg(long, value_name = "PLACE", requires = "key")]
    pub from: Option<String>,
    /// What opens them: the file that `klar backup key` has made
    #[arg(long, value_name = "FILE", requires = "from")]
    pub key: Option<PathBuf>,
    /// What opens PLACE: for a bucket a file with `ID:SECRET` in it, for another machine a private key
    #[arg(long, value_name = "FILE", requires = "from")]
    pub place_key: Option<PathBuf>,
}

/// `klar restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// How far: a time, a point, `latest`, `name:NAME`, `lsn:PLACE`, `before:TRANSACTION`
    #[arg(value_name = "WHEN")]
    pub at: At,
    /// Which database, where the app has several
    #[arg(long, value_name = "NAME")]
    pub store: Option<ServiceName>,
    /// Only show the plan
    #[arg(long)]
    pub dry_run: bool,
    /// Put the files of a server here, and leave the database alone
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Only this table, into a schema of its own beside what is there now (may be given several times)
    #[arg(long = "table", value_name = "NAME", conflicts_with = "into")]
    pub tables: Vec<String>,
    #[command(flatten)]
    pub from: FromArgs,
    /// Agree beforehand, with the app's name
    #[arg(long, value_name = "APP.ENV", conflicts_with_all = ["into", "tables"])]
    pub yes: Option<String>,
}

/// `klar clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// Replace what says something of a person, by the rules in `backup.anonymise`: without one for each column it fails
    #[arg(long)]
    pub anonymise: bool,
    /// How far: a time, a point, `latest`, `name:NAME`, `lsn:PLACE`, `before:TRANSACTION`
    #[arg(long, value_name = "WHEN", default_value = "latest")]
    pub at: At,
    /// Which database, where the app has several
    #[arg(long, value_name = "NAME")]
    pub store: Option<ServiceName>,
    #[command(flatten)]
    pub from: FromArgs,
    /// When it disappears
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_since)]
    pub for_: std::time::Duration,
    /// Open a prompt on it; it disappears when that is closed
    #[arg(long)]
    pub psql: bool,
}

/// `klar metrics`.
#[derive(Debug, Args)]
pub struct Metrics {
    /// A query in the language of Prometheus (PromQL)
    #[arg(value_name = "QUERY", conflicts_with = "address")]
    pub query: Option<String>,
    /// How far to look back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_since)]
    pub since: std::time::Duration,
    /// Only print where Grafana and others can ask, with the key that they have to show
    #[arg(long)]
    pub address: bool,
}

/// `klar dashboard`.
#[derive(Debug, Args)]
pub struct Dashboard {
    /// Which
    pub name: Option<String>,
    /// How far to look back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_since)]
    pub since: std::time::Duration,
    /// Draw it into this file
    #[arg(long, value_name = "FILE", requires = "name")]
    pub svg: Option<PathBuf>,
    /// Only print the file that it is made from
    #[arg(long, requires = "name", conflicts_with = "svg")]
    pub template: bool,
}

/// `klar upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The program to go on with [default: this one]
    #[arg(value_name = "PATH", conflicts_with = "rollback")]
    pub program: Option<PathBuf>,
    /// Go back to the program that ran before
    #[arg(long)]
    pub rollback: bool,
}

/// `klar check`.
#[derive(Debug, Default, Args)]
pub struct Check {
    /// A checklist of your own (Markdown, in English, Norwegian or Swedish): what is true of each of its boxes
    #[arg(value_name = "FILE.md")]
    pub list: Option<PathBuf>,
    /// Tick in FILE.md what is proven, and write the evidence beside each item
    #[arg(long, requires = "list")]
    pub write: bool,
    /// An address to check, with or without klar behind it
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The folder with its sources
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// The address of its PostgreSQL
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Its OpenAPI document, where the app does not serve it
    #[arg(long, value_name = "FILE")]
    pub openapi: Option<PathBuf>,
    /// Known weaknesses of libraries, as OSV files or a copy of RustSec's database; without them nobody is told that
    /// there are none
    #[arg(long, value_name = "DIR")]
    pub advisories: Option<PathBuf>,
    /// A certificate authority to trust beside the usual ones (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Only this check or row; can be repeated
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Also run what attacks, kills and stops, in a rig: the same release a second time, with databases of its own
    #[arg(long, conflicts_with_all = ["url", "disruptive"])]
    pub full: bool,
    /// Also run what attacks, kills and stops against the target itself
    #[arg(long)]
    pub disruptive: bool,
    /// With --full: how long the load goes on under which memory is watched; what asks for a soak wants 30m
    #[arg(long, value_name = "TIME", requires = "full", value_parser = parse_soak)]
    pub soak: Option<std::time::Duration>,
    /// Run what disturbs nobody and whose evidence has half aged, keep the result, and say nothing
    #[arg(long, hide = true)]
    pub due: bool,
    /// Only show every check its planted faults
    #[arg(long)]
    pub prove_probes: bool,
    /// Every row with every part, instead of the first few things to do
    #[arg(long)]
    pub all: bool,
    /// The language of the report: en, nb, sv [default: that of the shell]
    #[arg(long, value_name = "LANG")]
    pub lang: Option<Lang>,
    /// The form of the report
    #[arg(long, value_name = "FORM")]
    pub format: Option<Format>,
    /// Write the report here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Look at nothing: compute the report from the evidence in a ledger
    #[arg(long, value_name = "FILE", requires = "key")]
    pub replay: Option<PathBuf>,
    /// With --replay: as of this time [default: now]
    #[arg(long, value_name = "TIME", requires = "replay")]
    pub at: Option<jiff::Timestamp>,
    /// With --replay: the key that must have signed it
    #[arg(long, value_name = "KEY", requires = "replay")]
    pub key: Option<klar_store::KeyId>,
    /// With --replay: the head of the ledger as it was kept elsewhere
    #[arg(long, value_name = "HEAD", requires = "replay")]
    pub head: Option<klar_store::Head>,
}

/// `klar attest`.
#[derive(Debug, Args)]
pub struct Attest {
    /// The row
    pub row: String,
    /// The address that is signed for, where it is not the app of this folder
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Who vouches
    #[arg(long, value_name = "NAME")]
    pub by: String,
    /// The last day it is good
    #[arg(long, value_name = "DATE")]
    pub until: jiff::civil::Date,
    /// The document behind it; its digest is kept
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// Why, in your own words
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// It has no meaning for this app
    #[arg(long, requires = "note")]
    pub not_applicable: bool,
    /// It does not hold, and that is accepted until then
    #[arg(long, requires = "note", conflicts_with = "not_applicable")]
    pub accept: bool,
}

/// `klar fix`.
#[derive(Debug, Args)]
pub struct Fix {
    /// The row
    pub row: String,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// The address of its PostgreSQL, where klar does not run it
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// `klar ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// It must still hold this head, as it was kept elsewhere
    #[arg(long, value_name = "HEAD")]
    pub head: Option<klar_store::Head>,
    /// Take the payload of this entry away for good
    #[arg(long, value_name = "SEQ", conflicts_with = "head")]
    pub erase: Option<u64>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal.
    Text,
    /// For programs: all of it, in all languages.
    Json,
    /// Markdown, for a pull request or a wiki.
    Md,
    /// A page to show around: one file, nothing fetched.
    Html,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for pipelines.
    Junit,
    /// An SVG, for a README.
    Badge,
}

/// `klar foil`.
#[derive(Debug, Args)]
pub struct FoilArgs {
    /// Switch a fault on; can be repeated
    #[arg(long = "fault", value_name = "NAME")]
    pub faults: Vec<String>,
    /// Name the faults
    #[arg(long)]
    pub list: bool,
}

/// `klar init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Only print it
    #[arg(long)]
    pub print: bool,
    /// Replace the klar.toml that is there
    #[arg(long, conflicts_with = "print")]
    pub force: bool,
}

/// `klar logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Only this service or database
    pub service: Option<ServiceName>,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines from the past
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub lines: usize,
    /// Only this instance: `web.3`
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Requests instead of output
    #[arg(long, conflicts_with_all = ["service", "instance"])]
    pub access: bool,
    /// Only lines with this text, out of all that are kept
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["access", "follow"])]
    pub grep: Option<String>,
    /// Only lines that are so bad: trace, debug, info, warn, error, fatal
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["access", "follow"])]
    pub level: Option<String>,
    /// With --grep or --level: how far to look back
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
    pub since: std::time::Duration,
}

/// `klar traces`.
#[derive(Debug, Args)]
pub struct Traces {
    /// Only those that took so long
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub slower: Option<std::time::Duration>,
    /// Only those that failed
    #[arg(long)]
    pub errors: bool,
    /// Only those of a route
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
    /// How far to look back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_since)]
    pub since: std::time::Duration,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    pub count: usize,
}

/// `klar cache`.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Have answers of the app forgotten that the edge keeps, and say how many there were
    #[command(
        after_help = "Examples:\n  klar cache purge /prices                      at every host of the app\n  klar cache purge https://shop.example/a?b=1   this address exactly\n  klar cache purge --prefix /blog/\n  klar cache purge --tag goods                  what the app calls so in Cache-Tag or Surrogate-Key\n  klar cache purge --all --json | jq .dropped"
    )]
    Purge(PurgeArgs),
}

/// `klar waf`.
#[derive(Debug, Subcommand)]
pub enum Waf {
    /// Count what the firewall has found, by rule, route and parameter
    #[command(
        after_help = "Examples:\n  klar waf report\n  klar waf report --json | jq -s 'group_by(.rule)'"
    )]
    Report(WafReport),
    /// Judge requests that were let through by other rules, and find the exceptions that let the honest ones pass
    #[command(
        after_help = "Examples:\n  klar waf try                                   the next level, or the Core Rule Set instead of klar's own rules\n  klar waf try --level 3 --write                 puts the exceptions that level 3 needs into klar.toml\n  klar waf try --rules coreruleset-4.28.0.tar.gz  a newer release, before `klar waf add`\n  klar waf try --json | jq .then.stopped"
    )]
    Try(WafTry),
    /// Say what the firewall found in a request, and which exception would let it through
    #[command(after_help = "Examples:\n  klar waf explain 01a20302f13ee046f683e8051d44287b")]
    Explain {
        /// The id that the visitor's page shows, and every record
        #[arg(value_name = "REQUEST-ID")]
        id: String,
    },
    /// Write the narrowest exception for a request into klar.toml: these rules, this path, this parameter
    #[command(after_help = "Examples:\n  klar waf allow 01a20302f13ee046f683e8051d44287b --dry-run")]
    Allow(WafAllow),
    /// Take a release of the OWASP Core Rule Set, for apps with `waf_rules = "crs"`
    #[command(
        after_help = "Examples:\n  klar waf add coreruleset-4.28.0-minimal.tar.gz\n  klar waf add ./coreruleset-4.28.0"
    )]
    Add {
        /// Its folder, or its .tar.gz
        #[arg(value_name = "PATH")]
        from: PathBuf,
    },
}

/// `klar waf report`.
#[derive(Debug, Args)]
pub struct WafReport {
    /// Look through so many of the newest requests
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100_000)]
    pub records: usize,
}

/// `klar waf try`.
#[derive(Debug, Args)]
pub struct WafTry {
    /// `crs` (the Core Rule Set of this machine), `core` (klar's own), or a release of the Core Rule Set: its folder or
    /// .tar.gz
    #[arg(long, value_name = "RULES")]
    pub rules: Option<String>,
    /// At this paranoia level; without it, of the Core Rule Set the one above that in force
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub level: Option<u8>,
    /// Put the exceptions into klar.toml
    #[arg(long)]
    pub write: bool,
}

/// `klar waf allow`.
#[derive(Debug, Args)]
pub struct WafAllow {
    /// The id that the visitor's page shows, and every record
    #[arg(value_name = "REQUEST-ID")]
    pub id: String,
    /// Only show the change
    #[arg(long)]
    pub dry_run: bool,
}

/// `klar cert`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Cert {
    /// Renew them now, though klar does so in time by itself: of its own authority, or of the one that `edge.acme` names
    #[command(after_help = "Examples:\n  klar cert renew\n  klar --env staging cert renew")]
    Renew,
}

/// `klar cache purge`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PurgeArgs {
    /// An address, or its path and query
    #[arg(value_parser = parse_address)]
    pub url: Option<String>,
    /// All addresses that begin so
    #[arg(long, value_name = "URL", value_parser = parse_address)]
    pub prefix: Option<String>,
    /// All answers with this name
    #[arg(long)]
    pub tag: Option<String>,
    /// All answers of the app
    #[arg(long)]
    pub all: bool,
}

fn parse_soak(text: &str) -> Result<std::time::Duration, String> {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(3600);
    let period: klar_base::Period = text.parse().map_err(|why: klar_base::QuantityError| why.to_string())?;
    if period.0.is_zero() || period.0 > LONGEST {
        return Err("it is at most an hour, and not nothing: 30m".into());
    }
    Ok(period.0)
}

fn parse_since(text: &str) -> Result<std::time::Duration, String> {
    const SHORTEST: std::time::Duration = std::time::Duration::from_secs(60);
    let period: klar_base::Period = text.parse().map_err(|why: klar_base::QuantityError| why.to_string())?;
    if period.0 < SHORTEST { Err("it is at least a minute: 1h".into()) } else { Ok(period.0) }
}

fn parse_address(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text.starts_with("https://") {
        return Ok(text.into());
    }
    Err("write it as /path or https://host/path".into())
}

/// `klar edge`.
#[derive(Debug, Subcommand)]
pub enum Look {
    /// Show routes, instances and connections as they are, each second. Keys: s sorts, q quits. In a pipe: once
    #[command(
        after_help = "Examples:\n  klar edge top\n  klar edge top --once                  one second, and end\n  klar edge top --json | jq .routes     one object each second"
    )]
    Top {
        /// Look for one second, and end
        #[arg(long)]
        once: bool,
    },
    /// Say what the edge would do with a request, and why: route, instance, settings, cache. Nothing is sent. Exit
    /// status 1: no app or no route takes it
    #[command(
        after_help = "Examples:\n  klar edge explain /prices                     of the app in this folder\n  klar edge explain https://shop.example/a?b=1\n  klar edge explain /api/orders --method POST\n  klar edge explain / --header 'cookie: session=1' --header 'accept-encoding: gzip'\n  klar edge explain / --json | jq .cache"
    )]
    Explain(ExplainRequest),
}

/// `klar edge explain`.
#[derive(Debug, Args)]
pub struct ExplainRequest {
    /// An address, or its path and query
    #[arg(value_parser = parse_any_address)]
    pub url: String,
    /// The method
    #[arg(short = 'X', long, value_name = "M", default_value = "GET")]
    pub method: String,
    /// A header of the request; may be given several times
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub header: Vec<(String, String)>,
    /// Who connects to klar, such as a trusted proxy; else a stranger
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// A file (PEM) with the certificate that the visitor shows, and with those that lead to its authority
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

fn parse_any_address(text: &str) -> Result<String, String> {
    if text.starts_with("http://") { Ok(text.into()) } else { parse_address(text) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let wanted = || "write it as 'name: value', for instance 'cookie: session=1'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wanted)?;
    if name.trim().is_empty() {
        return Err(wanted());
    }
    Ok((name.trim().into(), value.trim().into()))
}

/// `klar down`.
#[derive(Debug, Args)]
pub struct Down {
    /// Also remove its releases, logs, folders and databases
    #[arg(long)]
    pub purge: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Stop every app, the edge and klar itself
    #[arg(long, conflicts_with = "purge")]
    pub all: bool,
}

/// `klar service`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Service {
    /// Write the unit and start it
    #[command(after_help = "Examples:\n  sudo klar service install")]
    Install,
    /// Remove the unit; what runs goes on until `klar down --all`
    #[command(after_help = "Examples:\n  sudo klar service uninstall")]
    Uninstall,
    /// Print the unit
    #[command(after_help = "Examples:\n  klar service show > /etc/systemd/system/klar.service")]
    Show,
}

fn parse_scale(text: &str) -> Result<(ServiceName, u32), String> {
    let wanted = || "write it as SERVICE=N, for instance web=3".to_owned();
    let (service, number) = text.split_once('=').ok_or_else(wanted)?;
    let service = service.parse().map_err(|error| format!("{error}"))?;
    Ok((service, number.parse().map_err(|_| wanted())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn each(command: &clap::Command, look: &mut impl FnMut(&clap::Command)) {
        look(command);
        let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
        verbs.for_each(|verb| each(verb, look));
    }

    #[test]
    fn every_help_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        each(&command, &mut |command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}: {help}", command.get_name());
        });
    }

    #[test]
    fn the_core_starts_the_edge_as_ever() {
        let args = ["klar", "edge", "--core-uid", "7", "--static-root", "/a", "--static-root", "/b"];
        let verb = Cli::try_parse_from(args).unwrap().verb;
        let Some(Verb::Edge { what: None, core_uid: Some(7), static_root, .. }) = verb else {
            panic!("{verb:?}")
        };
        assert_eq!(static_root.len(), 2);
    }

    #[test]
    fn headers_are_written_as_everywhere() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_header("cookie: a=1; b=2"), pair("cookie", "a=1; b=2"));
        assert_eq!(parse_header("X-Time:12:30"), pair("X-Time", "12:30"));
        assert_eq!(parse_header("x-empty:"), pair("x-empty", ""));
        assert!(parse_header("cookie").is_err() && parse_header(": a").is_err());
    }

    #[test]
    fn scale_is_said_in_one_word() {
        assert_eq!(
            parse_scale("web=3").map(|(name, number)| (name.to_string(), number)),
            Ok(("web".into(), 3))
        );
        for text in ["web", "web=", "web=-1", "=3", "Web=3"] {
            assert!(parse_scale(text).is_err(), "{text}");
        }
    }
}
