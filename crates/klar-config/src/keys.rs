//! Every key of `klar.toml`: type, default, bounds, doc and example, once.
//!
//! This is the file to edit to add or change a key. `klar explain`, the schema for editors, the reference, the
//! validator and the structs that other crates use all come from here (see [`crate::table`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use klar_base::{AppName, ByteSize, Network, Period, ServiceName};
use serde::{Deserialize, Serialize};

use crate::read::{Computed, Reader};
use crate::secret::SecretRef;
use crate::table::{Section, section};
use crate::tree::{Node, Table, toml_string};
use crate::values::{
    Acme, CheckCategory, CheckPriority, Clock, ColumnRule, Command, Cores, Csp, Day, Email, EnvValue,
    ForwardedHeader, HeaderField, HostName, Offsite, Place, PlainHttp, PlainText, RelativePath, Role,
    RouteCache, Schedule, Script, ServiceKind, ServiceProtocol, ServiceWorker, UrlPath, VarName, Waf,
    WafPlace, WafRoute, WafRules,
};

/// A table at the top of the file.
#[derive(Debug, Clone, Copy)]
pub struct Root {
    /// Its name.
    pub name: &'static str,
    /// The keys of the table, or of each table in it.
    pub section: &'static Section,
    /// Whether the user names the tables in it: `[services.NAME]`.
    pub named: bool,
    /// What people call it who come from other tools.
    pub aliases: &'static [&'static str],
}

/// The tables of a `klar.toml`, in the order in which they are best read.
pub const ROOTS: [Root; 15] = [
    Root { name: "app", section: App::SECTION, named: false, aliases: &["application", "project"] },
    Root {
        name: "services",
        section: Service::SECTION,
        named: true,
        aliases: &["service", "processes", "process"],
    },
    Root {
        name: "routes",
        section: RoutePolicy::SECTION,
        named: true,
        aliases: &["route", "routing", "paths"],
    },
    Root {
        name: "data",
        section: StoreKeys::SECTION,
        named: true,
        aliases: &["database", "databases", "stores", "db"],
    },
    Root { name: "edge", section: Edge::SECTION, named: false, aliases: &["proxy", "http", "server"] },
    Root { name: "logs", section: Logs::SECTION, named: false, aliases: &["log", "logging"] },
    Root {
        name: "see",
        section: See::SECTION,
        named: false,
        aliases: &["telemetry", "observability", "monitoring"],
    },
    Root { name: "backup", section: Backup::SECTION, named: false, aliases: &["backups", "restore"] },
    Root {
        name: "recovery",
        section: Recovery::SECTION,
        named: false,
        aliases: &["disaster", "disaster_recovery", "dr", "plan"],
    },
    Root {
        name: "deploy",
        section: Deploy::SECTION,
        named: false,
        aliases: &["deployment", "rollout", "release"],
    },
    Root { name: "check", section: Check::SECTION, named: false, aliases: &["readiness"] },
    Root {
        name: "checks",
        section: OwnCheck::SECTION,
        named: true,
        aliases: &["probe", "probes", "assertions", "own_checks"],
    },
    Root {
        name: "waivers",
        section: Waiver::SECTION,
        named: true,
        aliases: &["waiver", "exceptions", "accepted"],
    },
    Root {
        name: "waf",
        section: WafException::SECTION,
        named: true,
        aliases: &["firewall", "waf_exceptions", "modsecurity"],
    },
    Root {
        name: "accounts",
        section: Account::SECTION,
        named: true,
        aliases: &["account", "users", "logins", "credentials"],
    },
];

/// The name of the table that holds the environments.
pub const ENV: &str = "env";

/// What `[env.NAME]` does, for the docs.
pub const ENV_DOC: &str = "Overrides any key above for one environment, which is chosen with `--env NAME`; without it \
    klar means `prod`. Tables are merged key by key, lists and single values are replaced. Where keys exclude each \
    other (`run` and `static`; `postgres`, `redis` and `url`), the one that the environment sets wins. `app.name` cannot \
    be overridden, and the domains of `[app]` count for `prod` only.";

const WEB: &[Role] = &[Role::Web];
const STATIC: &[Role] = &[Role::Static];
const CRON: &[Role] = &[Role::Cron];
const LASTING: &[Role] = &[Role::Web, Role::Worker];
const PROCESS: &[Role] = &[Role::Web, Role::Worker, Role::Cron];

section! {
    /// The app as a whole: what it is called, where it is reached, and what of its folder is left behind.
    pub struct App in "app", "an app";

    /// Names the app. Everything klar keeps carries this name: releases, backups, users, sockets. It cannot be
    /// changed later without starting anew.
    name as "name": AppName = required("everything klar keeps carries the app's name") {
        example: r#"name = "shop""#,
    };

    /// The host names under which the app is reached. Left out, the app answers on `localhost` with a certificate of
    /// klar's own authority; for a public name klar gets one from a public authority (`edge.acme`), or you give one
    /// (`edge.certificate`). The domains in `[app]`
    /// belong to the environment `prod`; another environment gets its own in `[env.NAME.app]`, so that staging never
    /// answers for production.
    domains as "domains": Vec<HostName> =
        computed("`localhost` and `APP.localhost`; in another environment than prod `ENV.APP.localhost`", default_domains) {
        example: r#"domains = ["shop.example", "www.shop.example"]"#,
        aliases: &["domain", "host", "hosts", "hostname", "hostnames", "url"],
    };

    /// Files and folders that are left out of releases: a bare name wherever it occurs, a path with `/` as seen
    /// from `klar.toml`. `.git`, `.hg`, `.svn` and `.klar` are always left out; where a service has a `build`, so
    /// are `node_modules`, `.venv`, `__pycache__` and `target`, because the build makes them anew.
    ignore as "ignore": Vec<RelativePath> = fixed("[]") {
        example: r#"ignore = ["docs", "test/fixtures"]"#,
        aliases: &["exclude", "excludes", "ignored"],
    };
}

section! {
    /// One part of the app: a command that klar keeps running (`run`), or a folder that the edge serves (`static`).
    #[serde(default)]
    pub struct Service in "services.*", "a service", alternatives &["run", "static"];

    /// What kind of work the service does.
    kind as "kind": ServiceKind = fixed("\"web\"") {
        example: r#"kind = "worker""#,
        aliases: &["type"],
    };

    /// The command that runs the service, in the folder of the release, by `/bin/sh`. It gets `PORT` (a web service
    /// must listen on `127.0.0.1:$PORT`), the addresses of the stores in `[data]`, the variables in `env`, and, where
    /// `env` does not say otherwise, `NODE_ENV=production` and the variables by which OpenTelemetry sends to klar
    /// (`OTEL_EXPORTER_OTLP_ENDPOINT` and others).
    run as "run": Option<Command> = absent("a service without `run` needs `static`") {
        example: r#"run = "node server.js""#,
        only: PROCESS,
        aliases: &["command", "cmd", "start", "exec", "entrypoint", "script"],
    };

    /// A folder that the edge serves itself, without a process, with long caching for files whose name carries a
    /// hash, and compressed: a copy beside a file (`app.js.br`, `app.js.gz`) is sent as it is. It may be made by
    /// `build`.
    static_dir as "static": Option<RelativePath> = absent("the service is a command") {
        example: r#"static = "dist""#,
        only: STATIC,
        aliases: &["root", "folder", "dir", "public", "publish", "static_dir"],
    };

    /// A command that is run once for each release, in its folder, before anything of it starts. Its failure stops
    /// the deploy and nothing changes.
    build as "build": Option<Command> = absent("nothing is built") {
        example: r#"build = "npm ci && npm run build""#,
        aliases: &["install", "prebuild"],
    };

    /// A command that is run once after the build and before the switch to the new release, with the same variables
    /// as `run`: the place for migrations of the database. Its failure stops the deploy, and the old release stays.
    release as "release": Option<Command> = absent("nothing is run") {
        example: r#"release = "npx prisma migrate deploy""#,
        only: PROCESS,
        aliases: &["migrate", "predeploy", "pre_deploy", "before"],
    };

    /// The path that klar asks to learn whether an instance can take requests: it must answer with a status below
    /// 400. An instance that stops doing so gets no more requests and is replaced.
    health as "health": Option<UrlPath> = absent("any answer below 500 on `/` counts as healthy") {
        example: r#"health = "/healthz""#,
        only: WEB,
        aliases: &["healthcheck", "health_check", "health_path", "check", "probe", "readiness", "healthz"],
    };

    /// The path at which the app shows what it counts itself, in the text format of Prometheus. klar asks each instance
    /// every 15 seconds, and keeps it beside its own metrics. Visitors can ask for it, too, where a route leads there.
    metrics as "metrics": Option<UrlPath> = absent("only what klar itself measures is kept") {
        example: r#"metrics = "/metrics""#,
        only: WEB,
        aliases: &["metrics_path", "prometheus", "scrape"],
    };

    /// The port that the app insists on. Better left out: only one instance can listen on a fixed port, so there is
    /// no second one to take over while a release changes.
    port as "port": Option<u16> = absent("klar chooses a free port for each instance and hands it over as `PORT`") {
        example: "port = 3000",
        min: Some("1"),
        max: Some("65535"),
        only: WEB,
        aliases: &["ports", "listen"],
    };

    /// How many instances run: a number, or the smallest and the largest that there may be. The smallest number runs
    /// until `klar scale` says otherwise. Two or more keep the app reachable while one is replaced.
    instances as "instances": Instances =
        computed(
            "2 to 10 for web; 1 for a worker, with a fixed `port`, or where a SQLite file is found; none for cron and static",
            default_instances
        ) {
        example: "instances = { min = 2, max = 10 }",
        min: Some("1"),
        max: Some("1000"),
        only: LASTING,
        aliases: &["replicas", "scale", "count", "workers", "concurrency"],
    };

    /// Whether a visitor is led to the same instance each time (by a cookie), for apps that keep sessions in memory.
    /// Such sessions are lost when the instance ends.
    sticky as "sticky": bool = fixed("false") {
        example: "sticky = true",
        only: WEB,
        aliases: &["session_affinity", "affinity"],
    };

    /// What the instances speak with klar. `"h2c"` is HTTP/2 without TLS, which gRPC needs: requests share one connection
    /// to each instance, and the trailers of its answers pass. Visitors speak HTTP/2 or HTTP/1.1 with klar either way. An instance is
    /// ready when it answers in HTTP/2, so `health` means nothing here.
    protocol as "protocol": ServiceProtocol = fixed("\"http/1.1\"") {
        example: r#"protocol = "h2c""#,
        only: WEB,
        aliases: &["http", "http_version", "backend_protocol"],
    };

    /// When a cron service runs, in UTC: minute, hour, day of the month, month and weekday, or `@hourly`, `@daily`,
    /// `@weekly`, `@monthly`, `@yearly`. A run that is still going when the next is due is not overtaken.
    schedule as "schedule": Option<Schedule> = absent("needed for `kind = \"cron\"`") {
        example: r#"schedule = "30 3 * * *""#,
        only: CRON,
        aliases: &["cron", "every", "when", "crontab"],
    };

    /// Folders inside the app that its instances may write to. They outlive releases, are shared by all instances
    /// and are part of backups. All else is read-only, except a private folder for temporary files.
    writable as "writable": Vec<RelativePath> = fixed("[]") {
        example: r#"writable = ["uploads"]"#,
        only: PROCESS,
        aliases: &["volumes", "volume", "mounts", "persist", "persistent", "storage"],
    };

    /// Variables for the service. Secrets are written as references: `env:NAME` (the environment of the shell that
    /// deploys) or `file:PATH`. A text that only looks like one is written as `{ plain = "..." }`.
    env as "env": BTreeMap<VarName, EnvValue> = fixed("{}") {
        example: r#"env = { LOG_LEVEL = "info", STRIPE_API_KEY = "env:STRIPE_API_KEY" }"#,
        aliases: &["environment", "envs", "vars", "variables", "env_vars"],
    };

    /// The memory that one instance may use. One that needs more is ended and started again, and klar says so.
    memory as "memory": Option<ByteSize> = absent("half of the machine's memory for each instance") {
        example: r#"memory = "512MiB""#,
        min: Some("16MiB"),
        only: PROCESS,
        aliases: &["mem", "ram", "memory_limit"],
    };

    /// The processor cores that one instance may use; `0.5` is half of one.
    cpu as "cpu": Option<Cores> = absent("no limit") {
        example: "cpu = 1.5",
        min: Some("0.01"),
        max: Some("1024"),
        only: PROCESS,
        aliases: &["cpus", "cores", "cpu_limit"],
    };

    /// The processes and threads that one instance may have: what stops a fork bomb.
    pids as "pids": u32 = fixed("1024") {
        example: "pids = 256",
        min: Some("8"),
        max: Some("4194304"),
        only: PROCESS,
        aliases: &["processes", "threads", "nproc"],
    };

    /// How long an instance may take from its start to its first healthy answer. Then the deploy is given up and
    /// the old release stays.
    ready_timeout as "ready_timeout": Period = fixed("\"60s\"") {
        example: r#"ready_timeout = "2m""#,
        min: Some("1s"),
        max: Some("1h"),
        only: LASTING,
        aliases: &["start_timeout", "startup_timeout", "boot_timeout"],
    };

    /// How long an instance may take to end after it was asked to (SIGTERM). Then it is killed (SIGKILL).
    stop_timeout as "stop_timeout": Period = fixed("\"30s\"") {
        example: r#"stop_timeout = "10s""#,
        min: Some("0s"),
        max: Some("1h"),
        only: PROCESS,
        aliases: &["kill_timeout", "grace_period", "shutdown_timeout", "stop_grace_period"],
    };

    /// How long an instance must stay healthy before klar trusts it and goes on.
    stable as "stable": Period = fixed("\"2s\"") {
        example: r#"stable = "10s""#,
        min: Some("0s"),
        max: Some("1h"),
        only: LASTING,
        aliases: &["min_uptime", "stable_for"],
    };

    /// Whether a path that is no file gets `index.html`, as apps need that draw their pages in the browser.
    spa as "spa": bool = fixed("true") {
        example: "spa = false",
        only: STATIC,
        aliases: &["fallback", "single_page"],
    };

    /// Whether style sheets, pages, drawings (SVG) and JSON are made smaller at the release: comments and white space
    /// that means nothing go. Scripts are not touched, which is the work of a bundler. What has a source map or a
    /// compressed copy beside it, or whose digest stands in a file of the folder (`integrity`), stays as it is.
    minify as "minify": bool = fixed("false") {
        example: "minify = true",
        only: STATIC,
        aliases: &["minified", "minification"],
    };

    /// Whether pages are sent with a `Link` header for the scripts, style sheets and preloads that their head names,
    /// which browsers, and what stands in front of klar, act on before the page itself is read.
    early_hints as "early_hints": bool = fixed("true") {
        example: "early_hints = false",
        only: STATIC,
        aliases: &["preload", "hints", "link_header"],
    };

    /// Whether klar makes a service worker for the folder, at `klar-worker.js`, that shows `index.html` and its files
    /// without a network. A page has the browser use it with `<script src="/klar-worker-register.js" defer></script>`.
    /// `"off"` takes it out of the browsers that have it.
    service_worker as "service_worker": ServiceWorker = fixed("false") {
        example: "service_worker = true",
        only: STATIC,
        aliases: &["worker", "pwa", "offline"],
    };
}

/// How many instances of a service run. Both are 0 for a service that has none (cron, static).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

section! {
    /// The smallest and the largest number of instances.
    pub(crate) struct InstanceRange in "services.*.instances", "a range of instances";

    /// Never fewer instances than this.
    min as "min": u32 = computed("2 for web, 1 for a worker; never more than `max`", default_min) {
        example: "min = 2",
        min: Some("1"),
        max: Some("1000"),
    };

    /// Never more instances than this.
    max as "max": u32 = computed("10 for web, `min` for a worker; never less than `min`", default_max) {
        example: "max = 10",
        min: Some("1"),
        max: Some("1000"),
    };
}

section! {
    /// Which path leads to which service. The key is the path: `"/pricing"` means that path alone, `"/api/*"` all
    /// below it and `/api` itself, `"/*"` everything that no other route takes. The value is the name of a service,
    /// or a table. Without routes, everything leads to the only service; with one web and one static service,
    /// `/api/*` leads to the first and everything else to the second.
    pub struct RoutePolicy in "routes.*", "a route";

    /// The service that answers.
    to as "to": ServiceName = required("a route must lead somewhere") {
        example: r#"to = "api""#,
        aliases: &["service", "target", "upstream"],
    };

    /// Whether every request on this route may be sent again to another instance when one fails, also POST and PATCH.
    /// GET, HEAD, OPTIONS, PUT and DELETE always may (RFC 9110, 9.2.2).
    idempotent as "idempotent": bool = fixed("false") {
        example: "idempotent = true",
        aliases: &["retry", "retries"],
    };

    /// Whether pages of other sites may write here with the cookies of their visitors. By default klar refuses that
    /// with 403 where the browser says so (`Sec-Fetch-Site`, `Origin`): cross-site request forgery. Requests without
    /// cookies, from programs, and from the app's own hosts are not touched.
    cross_site as "cross_site": bool = fixed("false") {
        example: "cross_site = true",
        aliases: &["cors", "allow_cross_site", "csrf_exempt"],
    };

    /// A file with the certificates (PEM) of the authorities whose clients are let in here; all others are answered with
    /// 403. klar asks for a certificate in the handshake with any of the app's hosts, so browsers may show a choice
    /// there; it wants one only on this route. The app hears the verified subject as `X-Client-Subject` (RFC 4514, as in
    /// `CN=alice,O=Shop`), which nobody else can set. Nothing of such a route is cached. A relative path begins in the
    /// app's folder and is part of the release; a file elsewhere is read by the core, as its own user, and again when
    /// it changes. A visitor whose TLS ends at a proxy has no certificate here.
    client_ca as "client_ca": Option<PathBuf> = absent("nobody is asked for a certificate") {
        example: r#"client_ca = "/etc/ssl/partners.pem""#,
        aliases: &["client_certificate", "client_auth", "mtls", "ssl_client_certificate", "ssl_verify_client"],
    };

    /// How long a request on this route may take in all.
    timeout as "timeout": Period = computed("`edge.timeout`", default_route_timeout) {
        example: r#"timeout = "5m""#,
        min: Some("100ms"),
        max: Some("1d"),
        aliases: &["deadline"],
    };

    /// How large the body of a request on this route may be.
    body as "body": ByteSize = computed("`edge.body_limit`", default_route_body) {
        example: r#"body = "100MiB""#,
        aliases: &["body_limit", "max_body", "max_body_size", "upload_limit"],
    };

    /// What klar keeps of the answers of a service, to give it to others. By default (`true`) that is what the app says
    /// may be shared: answers with a lifetime (`Cache-Control`, `Expires` or `CDN-Cache-Control`), without
    /// `Set-Cookie`, and for visitors with cookies only those that say `public` or `s-maxage`. A time is a lifetime for
    /// answers that state none and were asked for without cookies and authorization. `false`: nothing is kept. It says
    /// nothing about a static service.
    cache as "cache": RouteCache = fixed("true") {
        example: r#"cache = "30s""#,
        min: Some("1s"),
        max: Some("365d"),
        aliases: &["caching", "cache_ttl", "ttl", "proxy_cache"],
    };

    /// How long a stale answer is given while klar fetches a newer one, so that nobody waits for it. What an answer
    /// says itself (`stale-while-revalidate`, RFC 5861) comes first, and `must-revalidate` forbids it.
    stale_while_revalidate as "stale_while_revalidate": Option<Period> = absent("what the answer says counts") {
        example: r#"stale_while_revalidate = "1m""#,
        max: Some("365d"),
        aliases: &["swr", "grace", "stale"],
    };

    /// Whether klar gives images (JPEG, PNG, GIF, WebP) in the size and format that a visitor can use: `?w=640` at most 640
    /// pixels wide (of `edge.image_widths` the next one, and never wider than the image is), as WebP to those who name it
    /// in `Accept`. Files of a static service, and answers of a service once the cache has them for everybody. What is made
    /// is kept in the cache, by a process that has no keys, no files and no network; what cannot be made, or takes too
    /// long, is answered with the image as it is. What is converted loses its metadata: place, camera, author. Nothing is
    /// converted on a route with `client_ca`.
    images as "images": bool = fixed("false") {
        example: "images = true",
        aliases: &["image", "image_optimization", "optimize_images", "resize", "webp", "avif"],
    };

    /// What the web application firewall does on this route.
    waf as "waf": Waf = computed("`edge.waf`", default_route_waf) {
        example: r#"waf = "detect""#,
        aliases: &["firewall", "modsecurity"],
    };

    /// When a route with `waf = "detect"` begins to block: after so many requests in a row that the app had a good answer
    /// for (below 400) and the firewall would have let through. Other rules or another level start anew. klar remembers
    /// how far it is, and `klar doctor` says it.
    waf_block_after as "waf_block_after": Option<u32> = absent("it goes on as `waf` says") {
        example: "waf_block_after = 10000",
        min: Some("1"),
        aliases: &["block_after", "waf_ratchet"],
    };
}

section! {
    /// A database or cache. klar runs it (`"managed"`: Debian's server in a folder of its own), or it runs elsewhere
    /// and its address is a secret.
    pub(crate) struct StoreKeys in "data.*", "a store", alternatives &["postgres", "redis", "url"];

    /// PostgreSQL: `"managed"`, or a reference to its address.
    postgres as "postgres": Option<Place> = absent("the store is something else") {
        example: r#"postgres = "managed""#,
        aliases: &["postgresql", "pg", "psql"],
    };

    /// Redis: `"managed"`, or a reference to its address.
    redis as "redis": Option<Place> = absent("the store is something else") {
        example: r#"redis = "managed""#,
        aliases: &["valkey", "cache"],
    };

    /// The address of a store that runs elsewhere, as a reference to a secret. It is taken for Redis where the
    /// store or the reference is named so, otherwise for PostgreSQL; `postgres = "env:NAME"` says it outright.
    url as "url": Option<SecretRef> = absent("klar runs the store") {
        example: r#"url = "env:DATABASE_URL""#,
        aliases: &["uri", "dsn", "address", "connection", "connection_string"],
    };

    /// The variable in which services get the address.
    env as "env": Option<VarName> = absent(
        "`DATABASE_URL` for PostgreSQL, `REDIS_URL` for Redis; `NAME_URL` for further stores of a kind"
    ) {
        example: r#"env = "DATABASE_URL""#,
        aliases: &["variable", "var", "as"],
    };
}

section! {
    /// What stands between visitors and the app: ports, certificate, limits and browser protections.
    #[serde(default)]
    pub struct Edge in "edge", "the edge";

    /// The port for HTTPS.
    https_port as "https_port": Option<u16> = absent("443 as root, otherwise 8443") {
        example: "https_port = 443",
        min: Some("1"),
        max: Some("65535"),
        aliases: &["port", "tls_port", "ssl_port"],
    };

    /// The port for HTTP, which only leads to HTTPS (but see `plain_http`).
    http_port as "http_port": Option<u16> = absent("80 as root, otherwise 8080") {
        example: "http_port = 80",
        min: Some("1"),
        max: Some("65535"),
    };

    /// The authority that klar gets certificates from, and renews them at (ACME, RFC 8555): `letsencrypt`,
    /// `letsencrypt-staging` for trials, the `https://` URL of another directory, or `off`. Writing it says that you
    /// agree to the terms of service of that authority; klar asks none before. It is for every name in `app.domains`
    /// but localhost names, and for names that only a network of your own knows (`.internal`, `.test`) only where it
    /// is a URL. The authority must reach this machine on port 80 or 443. Certificates are renewed when a third of
    /// their life is left, or when the authority says; `klar status` shows each, and what is wrong.
    acme as "acme": Option<Acme> = absent("nobody is asked: klar's own authority signs, which browsers do not believe for public names") {
        example: r#"acme = "letsencrypt""#,
        aliases: &["lets_encrypt", "letsencrypt", "auto_tls", "auto_https"],
    };

    /// An e-mail address that the authority of `acme` may write to.
    acme_email as "acme_email": Option<Email> = absent("the authority has no address") {
        example: r#"acme_email = "ops@shop.example""#,
        aliases: &["letsencrypt_email", "contact"],
    };

    /// A file with the certificate (PEM) of the authority that vouches for the server of `acme` itself, for an
    /// authority of your own. The core reads it, as its own user; a relative path begins in the app's folder.
    acme_root as "acme_root": Option<PathBuf> = absent("the authorities that this machine trusts") {
        example: r#"acme_root = "/etc/ssl/our-root.pem""#,
        aliases: &["acme_ca_root"],
    };

    /// A file with the certificate chain (PEM), for a certificate of your own; it may have wildcards. Goes together
    /// with `key`, and wins over `acme`. `klar up` and `klar deploy` read both files, as the person who runs them. After
    /// that klar looks at them every few seconds and takes in what changes, where its own user may read them (otherwise
    /// `klar deploy` does). A pair that does not fit together, is not valid or lost a name is refused, which
    /// `klar status` shows, and the one before serves on.
    certificate as "certificate": Option<PathBuf> = absent("`acme` gets certificates, and klar's own authority signs for names of this machine") {
        example: r#"certificate = "/etc/ssl/shop.pem""#,
        aliases: &["cert", "tls_cert", "ssl_certificate"],
    };

    /// The file with the private key (PEM) of `certificate`.
    key as "key": Option<PathBuf> = absent("klar makes keys itself") {
        example: r#"key = "/etc/ssl/shop.key""#,
        aliases: &["private_key", "tls_key", "ssl_certificate_key"],
    };

    /// The proxies in front of klar: load balancers, CDNs, another web server. What they say of who the visitor is and
    /// whether it speaks HTTPS counts (`forwarded_header`, `proxy_protocol`), in records, limits and for the app; when
    /// anybody else says such things they are thrown away. Visitors whose proxy is not named here all seem to come
    /// from it.
    trusted_proxies as "trusted_proxies": Vec<Network> = fixed("[]") {
        example: r#"trusted_proxies = ["10.0.0.0/8", "203.0.113.7"]"#,
        aliases: &["trust_proxy", "trust_proxies", "trusted_proxy", "set_real_ip_from", "real_ip_from"],
    };

    /// The header in which the trusted proxies say who the visitor is. Only one is read, because a proxy that writes one
    /// passes on what strangers write into the other. It is read from its end: the last address that is no trusted
    /// proxy's is the visitor. The scheme is what the nearest proxy says in `X-Forwarded-Proto`, or the `proto` of the
    /// visitor's element in `Forwarded`; where none is said it is that of the connection with klar.
    forwarded_header as "forwarded_header": ForwardedHeader = fixed("\"x-forwarded-for\"") {
        example: r#"forwarded_header = "forwarded""#,
        aliases: &["real_ip_header", "client_ip_header", "client_ip_headers", "forwarded"],
    };

    /// Whether every connection begins with a header of the PROXY protocol (version 1 or 2), as balancers send that do
    /// not speak HTTP. Then only trusted proxies may connect, to both ports; all others are closed. Apps that share a
    /// port share this: it is on where one of them says so, for the proxies of those that do.
    proxy_protocol as "proxy_protocol": bool = fixed("false") {
        example: "proxy_protocol = true",
        aliases: &["send_proxy", "accept_proxy", "proxyprotocol"],
    };

    /// Who is served over plain HTTP. `"trusted"` is for proxies that end TLS themselves and ask over a network of your
    /// own: what they ask at `http_port` is answered, as HTTPS where they say that the visitor speaks it.
    plain_http as "plain_http": PlainHttp = fixed("\"redirect\"") {
        example: r#"plain_http = "trusted""#,
        aliases: &["allow_http", "https_redirect", "redirect_http", "force_https"],
    };

    /// Whether browsers may use HTTP/3. It goes over UDP, at the same port as `https_port`: a firewall has to let that
    /// through. Answers over HTTP/2 and HTTP/1.1 then say so (`Alt-Svc`), but for those to proxies; whoever cannot come
    /// over UDP stays where it is. Hosts with a route that wants certificates of visitors (`client_ca`) are not served
    /// over it, and WebSockets are not either.
    http3 as "http3": bool = fixed("false") {
        example: "http3 = true",
        aliases: &["quic", "h3"],
    };

    /// What klar does with the Content-Security-Policy header, which tells browsers what a page may load. A policy
    /// that the app sends itself always wins.
    csp as "csp": Csp = fixed("\"report\"") {
        example: r#"csp = "enforce""#,
        aliases: &["content_security_policy"],
    };

    /// The policy itself, in place of klar's.
    csp_policy as "csp_policy": Option<String> = absent("a policy that allows what comes from the app's own domains") {
        example: r#"csp_policy = "default-src 'self'; img-src *""#,
    };

    /// What the web application firewall does with a request that looks like an attack, and with an answer of the app
    /// that tells strangers too much. A route may have it otherwise (`waf`). Heads of requests are inspected, bodies that
    /// are forms, JSON, XML or multipart up to 1 MiB (a longer form, JSON or XML is answered with 413), and answers that
    /// are text of a known length up to 64 KiB, or that tell of a failure.
    waf as "waf": Waf = fixed("\"block\"") {
        example: r#"waf = "detect""#,
        aliases: &["firewall", "modsecurity", "web_application_firewall"],
    };

    /// The rules of the firewall: klar's own, or the OWASP Core Rule Set as Debian's package `modsecurity-crs` has it.
    waf_rules as "waf_rules": WafRules = fixed("\"core\"") {
        example: r#"waf_rules = "crs""#,
        aliases: &["ruleset", "rules", "crs"],
    };

    /// How much the Core Rule Set suspects: at 1 it stops few honest requests, at 4 many. klar's own rules have one
    /// level.
    waf_paranoia as "waf_paranoia": u32 = fixed("1") {
        example: "waf_paranoia = 2",
        min: Some("1"),
        max: Some("4"),
        aliases: &["paranoia", "paranoia_level"],
    };

    /// Whether stricter rules look at a sample of the requests that are let through: the Core Rule Set of this machine
    /// at all its levels. They stop nothing; `klar waf report` says what they would have stopped, and `klar waf try`
    /// tries other rules on these requests. For that the requests are kept, at most 32 MiB of them, without
    /// cookies and what is named like a password, a token or a key.
    waf_shadow as "waf_shadow": bool = fixed("false") {
        example: "waf_shadow = true",
        aliases: &["shadow", "waf_learn"],
    };

    /// How large the head of a request may be. A larger one is answered with 431.
    header_limit as "header_limit": ByteSize = fixed("\"32KiB\"") {
        example: r#"header_limit = "64KiB""#,
        min: Some("1KiB"),
        max: Some("1MiB"),
        aliases: &["max_header_size", "headers_limit"],
    };

    /// How large the body of a request may be. A larger one is answered with 413. A route may allow more (`body`).
    body_limit as "body_limit": ByteSize = fixed("\"10MiB\"") {
        example: r#"body_limit = "100MiB""#,
        aliases: &["body", "max_body_size", "max_body", "client_max_body_size", "upload_limit"],
    };

    /// How long a request may take in all, repetitions included. Then it is answered with 504. A route may allow
    /// more (`timeout`). Streams and WebSockets count until their first byte.
    timeout as "timeout": Period = fixed("\"30s\"") {
        example: r#"timeout = "60s""#,
        min: Some("100ms"),
        max: Some("1d"),
        aliases: &["deadline", "request_timeout", "read_timeout"],
    };

    /// How long a visitor may take to send the head of a request: what stops slow attackers.
    headers_timeout as "headers_timeout": Period = fixed("\"10s\"") {
        example: r#"headers_timeout = "5s""#,
        min: Some("100ms"),
        max: Some("10m"),
        aliases: &["header_timeout"],
    };

    /// How long a request waits for an instance to come up before it is answered with 503.
    hold as "hold": Period = fixed("\"10s\"") {
        example: r#"hold = "30s""#,
        min: Some("0s"),
        max: Some("10m"),
        aliases: &["queue_timeout", "wait"],
    };

    /// How many connections a host name takes at once. When so many are open, the oldest that has not shaken hands yet
    /// makes room for the next.
    connections as "connections": u32 = fixed("10000") {
        example: "connections = 50000",
        min: Some("1"),
        max: Some("10000000"),
        aliases: &["max_connections", "worker_connections"],
    };

    /// How much memory the cache of answers may take. All apps of the machine share one cache, which is as large as the
    /// largest of these; `"0B"` in all of them switches it off. One answer may take an eighth of it, 8 MiB at most.
    cache_memory as "cache_memory": ByteSize = fixed("\"64MiB\"") {
        example: r#"cache_memory = "256MiB""#,
        max: Some("64GiB"),
        aliases: &["cache", "cache_size", "memory"],
    };

    /// How much of the disk the cache of answers may take, in the state folder: for what memory has no room for, and for
    /// after a restart. All apps of the machine share it, and the largest of these counts; `"0B"` in all of them keeps
    /// nothing there. One answer may take a thirty-second of it.
    cache_disk as "cache_disk": ByteSize = fixed("\"1GiB\"") {
        example: r#"cache_disk = "10GiB""#,
        max: Some("1TiB"),
        aliases: &["disk", "disk_cache"],
    };

    /// The widths, in pixels, in which images can be had on routes with `images`. Another width that is asked for is
    /// rounded up to the next one, and beyond the last one images keep their own: so a stranger can have only so many
    /// copies made of an image.
    image_widths as "image_widths": Vec<u32> = fixed("[160, 320, 480, 640, 960, 1280, 1920, 2560]") {
        example: "image_widths = [400, 800, 1600]",
        min: Some("16"),
        max: Some("4096"),
        aliases: &["image_sizes", "device_sizes", "widths"],
    };
}

section! {
    /// What instances print: how much of it is kept on the machine.
    #[serde(default)]
    pub struct Logs in "logs", "the logs";

    /// How much is kept of what one instance prints; the oldest goes first.
    max_size as "max_size": ByteSize = fixed("\"64MiB\"") {
        example: r#"max_size = "256MiB""#,
        min: Some("1MiB"),
        aliases: &["size", "limit"],
    };

    /// How long it is kept.
    max_age as "max_age": Period = fixed("\"30d\"") {
        example: r#"max_age = "7d""#,
        min: Some("1h"),
        aliases: &["age", "retention", "keep"],
    };
}

section! {
    /// Where programs that know no HTTP and no keys can tell telemetry something. Such a port is open on the loopback
    /// only, and what comes in there is this app's: whoever is on the machine can write to it.
    #[serde(default)]
    pub struct See in "see", "telemetry";

    /// The port for syslog (RFC 5424 and RFC 3164), in datagrams and over TCP. Each message is a line of the app, its
    /// APP-NAME the service. A port that several apps or environments name is nobody's, and so are its lines.
    syslog as "syslog": Option<u16> = absent("nobody is listened to") {
        example: "syslog = 5514",
        min: Some("1024"),
        max: Some("65535"),
        aliases: &["syslog_port", "rsyslog"],
    };

    /// The port for StatsD and DogStatsD, in datagrams. Instances find it in `STATSD_HOST` and `STATSD_PORT`, and in
    /// `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`. A port that several apps or environments name is nobody's.
    statsd as "statsd": Option<u16> = absent("nobody is listened to") {
        example: "statsd = 8125",
        min: Some("1024"),
        max: Some("65535"),
        aliases: &["statsd_port", "dogstatsd", "dogstatsd_port"],
    };
}

section! {
    /// How what the app keeps in databases that klar runs is kept a second time, and how it is proven that it comes back.
    /// All of it is on by itself: each of them is streamed into a repository about every second, copied each day, and each
    /// copy is restored, compared and timed.
    #[serde(default)]
    pub struct Backup in "backup", "backups";

    /// When a full copy is due each day, by the machine's clock. What was missed while klar did not run is made up for.
    at as "at": Clock = fixed("\"02:00\"") {
        example: r#"at = "03:30""#,
        aliases: &["time", "daily", "schedule"],
    };

    /// How far back any second can be restored.
    keep as "keep": Period = fixed("\"30d\"") {
        example: r#"keep = "90d""#,
        min: Some("1d"),
        max: Some("3650d"),
        aliases: &["retention", "days", "keep_days", "max_age"],
    };

    /// For how long a copy of each day is kept of what the app writes to the folders in `writable`, and of each Redis that
    /// klar runs. SQLite databases among the files are copied while they are written to.
    files as "files": Period = fixed("\"7d\"") {
        example: r#"files = "30d""#,
        min: Some("2d"),
        max: Some("3650d"),
        aliases: &["uploads", "keep_files", "files_days"],
    };

    /// Where all of it is kept once more, so that it outlives this machine: a folder on another disk or of a network
    /// (`/mnt/nas/klar`), a folder of any machine that has sshd (`sftp://USER@HOST/FOLDER`, a path from the root on), or a
    /// bucket of any store that speaks S3 (`s3://BUCKET/FOLDER?region=eu-north-1`, `s3:https://HOST/BUCKET/FOLDER`). It
    /// follows the first place by seconds, and once a week it is restored from there alone. What is gone here goes there a
    /// week later.
    offsite as "offsite": Option<Offsite> = absent("nothing is kept outside this machine") {
        example: r#"offsite = "s3://shop-backups?region=eu-north-1""#,
        aliases: &["second", "remote", "mirror", "s3", "sftp"],
    };

    /// What opens the place: a reference to a secret. For a bucket its text is `ID:SECRET`, the two parts of an access key,
    /// which needs to list, read, write and remove objects of that bucket alone. For another machine it is a private key as
    /// `ssh-keygen` makes it, without a passphrase; without it klar makes a key of its own, and says which line that machine
    /// needs.
    offsite_key as "offsite_key": Option<SecretRef> = absent("a folder needs none, another machine gets klar's own") {
        example: r#"offsite_key = "env:BACKUP_KEY""#,
        aliases: &["s3_key", "credentials", "access_key"],
    };

    /// Whether a database acknowledges a commit only once it is at `offsite` as well: then nothing that was acknowledged is
    /// lost with this machine. Each commit takes a way there and back, and **waits while that place cannot be reached**. The
    /// place has to be a machine that is reached over SFTP, or a folder of a network; a bucket cannot be appended to.
    synchronous as "synchronous": bool = fixed("false") {
        example: "synchronous = true",
        aliases: &["sync", "rpo"],
    };

    /// What becomes of each column of a copy that people may look at (`klar clone --anonymise`): `TABLE.COLUMN WORD`, or
    /// `TABLE.* WORD` for all others of a table; `SCHEMA.` in front where it is not `public`. The words: `keep` (it says
    /// nothing of a person), `null`, `blank` (an empty text, 0, `{}`), `hash` (a text or UUID that means nothing), `email`,
    /// `name`, `phone` (ones that nobody has), `year` (of a date, its year), and `empty` (`TABLE.* empty`: no rows). The same
    /// value becomes the same one everywhere in a copy. A column that nothing is said of makes the copy fail.
    anonymise as "anonymise": Vec<ColumnRule> = fixed("[]") {
        example: r#"anonymise = ["users.email email", "users.name name", "users.* keep", "sessions.* empty"]"#,
        aliases: &["anonymize", "gdpr", "mask", "personal"],
    };

    /// Questions to a restored copy of the app's database, in SQL. Each has to give one row with one column that is true;
    /// a copy of which one is not true is no backup. They can read, and change nothing.
    assert as "assert": Vec<PlainText> = fixed("[]") {
        example: r#"assert = ["select count(*) > 0 from users"]"#,
        aliases: &["assertions", "verify", "checks"],
    };
}

section! {
    /// What is promised when the machine is lost, and who does what then: for the plan that `klar drill plan` writes, and
    /// what drills are held against.
    #[serde(default)]
    pub struct Recovery in "recovery", "recovery";

    /// How long the app may be away: from the loss until it answers with its data (RTO).
    rto as "rto": Period = fixed("\"1h\"") {
        example: r#"rto = "4h""#,
        min: Some("1m"),
        max: Some("30d"),
        aliases: &["recovery_time", "time", "within"],
    };

    /// How much of the newest data may be lost (RPO).
    rpo as "rpo": Period = fixed("\"5m\"") {
        example: r#"rpo = "1m""#,
        min: Some("1s"),
        max: Some("7d"),
        aliases: &["recovery_point", "loss"],
    };

    /// Who is called first, and how.
    contact as "contact": Option<PlainText> = absent("the plan lacks it, and says so") {
        example: r#"contact = "Kari Nordmann, +47 22 22 22 22""#,
        aliases: &["phone", "call", "owner"],
    };

    /// Who decides that the plan is followed.
    decides as "decides": Option<PlainText> = absent("the plan lacks it, and says so") {
        example: r#"decides = "Kari Nordmann""#,
        aliases: &["lead", "decision"],
    };

    /// Who follows its steps.
    restores as "restores": Option<PlainText> = absent("the plan lacks it, and says so") {
        example: r#"restores = "whoever is on call""#,
        aliases: &["operator", "does"],
    };

    /// Who tells users and customers.
    informs as "informs": Option<PlainText> = absent("the plan lacks it, and says so") {
        example: r#"informs = "Ola Nordmann""#,
        aliases: &["tells", "communication"],
    };
}

section! {
    /// How one release takes over from another, and how the way back is kept open.
    #[serde(default)]
    pub struct Deploy in "deploy", "a deploy";

    /// How long the previous release is kept running after the switch, so that going back takes no start.
    bake as "bake": Period = fixed("\"10m\"") {
        example: r#"bake = "1h""#,
        max: Some("7d"),
        aliases: &["bake_time", "soak"],
    };

    /// How long an instance may take to finish the requests it has before it is asked to end.
    drain as "drain": Period = fixed("\"30s\"") {
        example: r#"drain = "2m""#,
        max: Some("1h"),
        aliases: &["drain_timeout"],
    };

    /// How many releases are kept on the machine, the running one included.
    keep as "keep": u32 = fixed("5") {
        example: "keep = 10",
        min: Some("1"),
        max: Some("1000"),
        aliases: &["keep_releases", "history", "retention"],
    };
}

/// The hosts of an app that names none.
fn default_domains(table: &Table, cx: &Reader<'_>) -> Computed<Vec<HostName>> {
    let app = table.get("name").and_then(Node::text).unwrap_or("app");
    let (hosts, because) = if cx.facts.env.is_default() {
        (vec!["localhost".into(), format!("{app}.localhost")], "no `app.domains` in the file".to_owned())
    } else {
        (
            vec![format!("{}.{app}.localhost", cx.facts.env)],
            format!("no domains for the environment `{}` in the file", cx.facts.env),
        )
    };
    let toml = format!("[{}]", hosts.iter().map(|host| toml_string(host)).collect::<Vec<_>>().join(", "));
    Computed { value: hosts.into_iter().map(HostName::local).collect(), toml, because }
}

/// How many instances a service gets whose file does not say.
fn default_instances(table: &Table, cx: &Reader<'_>) -> Computed<Instances> {
    let exactly = |number: u32, because: String| Computed {
        value: Instances { min: number, max: number },
        toml: number.to_string(),
        because,
    };
    match Role::of(table) {
        Role::Cron => exactly(0, "a cron service runs at its times only".into()),
        Role::Static => exactly(0, "the edge serves the folder itself".into()),
        Role::Worker => {
            exactly(1, "one worker, because two would do the same work twice unless it is made for it".into())
        }
        Role::Web if table.get("port").is_some() => {
            exactly(1, "only one can listen on a fixed `port`".into())
        }
        Role::Web => match cx.facts.sqlite_in_use().first() {
            Some(file) => exactly(1, format!("a SQLite file was found at {}", file.display())),
            None => Computed {
                value: Instances { min: 2, max: 10 },
                toml: "{ min = 2, max = 10 }".into(),
                because: "two, so that one can be replaced".into(),
            },
        },
    }
}

/// The role of the service whose `instances` are being read.
fn role_here(cx: &Reader<'_>) -> Role {
    cx.path.get(1).map_or(Role::Web, |service| cx.facts.role(service))
}

fn number(table: &Table, key: &str) -> Option<u32> {
    match table.get(key)?.data {
        crate::tree::Data::Integer(number) => u32::try_from(number).ok(),
        _ => None,
    }
}

fn default_min(table: &Table, cx: &Reader<'_>) -> Computed<u32> {
    let usual = if role_here(cx) == Role::Web { 2 } else { 1 };
    let value = usual.min(number(table, "max").unwrap_or(usual));
    Computed { value, toml: value.to_string(), because: "as if `instances` were left out".into() }
}

fn default_max(table: &Table, cx: &Reader<'_>) -> Computed<u32> {
    let usual = if role_here(cx) == Role::Web { 10 } else { 1 };
    let value = usual.max(number(table, "min").unwrap_or(usual));
    Computed { value, toml: value.to_string(), because: "as if `instances` were left out".into() }
}

/// The value of `edge.KEY` for a route that does not say; mistakes in it are reported where it stands.
fn edge_value<T: std::str::FromStr + ToString>(cx: &Reader<'_>, key: &str, otherwise: T) -> Computed<T> {
    let node = cx.facts.root.get_table("edge").and_then(|edge| edge.get(key));
    let value = node.and_then(Node::text).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    Computed { toml: toml_string(&value.to_string()), value, because: format!("`edge.{key}`") }
}

fn default_route_timeout(_: &Table, cx: &Reader<'_>) -> Computed<Period> {
    edge_value(cx, "timeout", Edge::default().timeout)
}

fn default_route_waf(_: &Table, cx: &Reader<'_>) -> Computed<Waf> {
    edge_value(cx, "waf", Edge::default().waf)
}

fn default_route_body(_: &Table, cx: &Reader<'_>) -> Computed<ByteSize> {
    edge_value(cx, "body_limit", Edge::default().body_limit)
}

impl Service {
    /// What the service is to klar.
    pub fn role(&self) -> Role {
        match self.kind {
            ServiceKind::Worker => Role::Worker,
            ServiceKind::Cron => Role::Cron,
            ServiceKind::Web if self.static_dir.is_some() => Role::Static,
            ServiceKind::Web => Role::Web,
        }
    }
}

impl Edge {
    /// The ports for HTTPS and HTTP of a klar that may use low ports (`as_root`) or may not.
    pub fn ports(&self, as_root: bool) -> (u16, u16) {
        let (https, http) = if as_root { (443, 80) } else { (8443, 8080) };
        (self.https_port.unwrap_or(https), self.http_port.unwrap_or(http))
    }
}

section! {
    /// What `klar check` has to know to look behind the sign-in. It signs in with the `[accounts]` and tries what each
    /// of them can reach.
    #[serde(default)]
    pub struct Check in "check", "the checks";

    /// Where the app takes credentials, with a POST.
    sign_in as "sign_in": Option<UrlPath> = absent("nobody is signed in, and what needs that stays unknown") {
        example: r#"sign_in = "/api/session""#,
        aliases: &["login", "signin", "sign_in_path", "login_path"],
    };

    /// What is sent there, as JSON; `{name}` and `{password}` are those of the account.
    sign_in_body as "sign_in_body": PlainText = fixed(r#"'{"name":"{name}","password":"{password}"}'"#) {
        example: r#"sign_in_body = '{"email":"{name}","password":"{password}"}'"#,
        aliases: &["body", "login_body"],
    };

    /// The header that writes must carry against cross-site request forgery.
    csrf_header as "csrf_header": Option<HeaderField> = absent("writes carry no such header") {
        example: r#"csrf_header = "X-CSRF-Token""#,
        aliases: &["csrf", "xsrf_header"],
    };

    /// The field of the sign-in's answer with the value of that header; dots lead into tables.
    csrf_field as "csrf_field": PlainText = fixed("\"csrf\"") {
        example: r#"csrf_field = "session.csrf""#,
        aliases: &["csrf_value"],
    };

    /// The command that runs the app's tests, with `sh` in a copy of its folder. They get the databases of a rig in the
    /// app's own variables.
    tests as "tests": Option<Command> = absent("`npm test`, `pytest`, `cargo test` or `phpunit`, by the files that are there") {
        example: r#"tests = "npm ci && npm test""#,
        aliases: &["test", "test_command"],
    };
}

section! {
    /// An account of the app that `klar check` may use: made for that, with nothing of value in it. Two without and one
    /// with rights show the most.
    pub struct Account in "accounts.*", "an account";

    /// The name to sign in with.
    name as "name": PlainText = required("klar signs in with it") {
        example: r#"name = "user@shop.example""#,
        aliases: &["login", "user", "email", "username"],
    };

    /// Its password: a reference to a secret.
    password as "password": SecretRef = required("klar signs in with it") {
        example: r#"password = "env:CHECK_PASSWORD""#,
        aliases: &["pass", "secret"],
    };

    /// Whether it may do more than others: `klar check` then expects that the others may not.
    privileged as "privileged": bool = fixed("false") {
        example: "privileged = true",
        aliases: &["admin", "is_admin"],
    };
}

section! {
    /// A check of your own, which counts in the score like klar's: a request, a command, or a query for what must not
    /// be in the database. As with klar's own, what it finds in order counts once it has shown that it can fail.
    pub struct OwnCheck in "checks.*", "a check", alternatives &["path", "sql", "command"];

    /// What it asks, as it stands in reports.
    question as "question": PlainText = required("reports call the check by it") {
        example: r#"question = "Does every order have a customer?""#,
        aliases: &["title", "name", "description", "text"],
    };

    /// Where it counts in the score.
    category as "category": CheckCategory = required("it says where the check counts in the score") {
        example: r#"category = "error-handling""#,
        aliases: &["area", "group"],
    };

    /// What it weighs there: 3, 2 or 1. While a critical one fails, its category gets 6 of 10 at most.
    priority as "priority": CheckPriority = fixed("\"medium\"") {
        example: r#"priority = "high""#,
        aliases: &["weight", "severity", "importance"],
    };

    /// A path of the app, asked with GET. klar ruins answers to see that the check notices: it needs no `plant`.
    path as "path": Option<UrlPath> = absent("it is a query or a command") {
        example: r#"path = "/api/prices""#,
        aliases: &["url", "http", "get"],
    };

    /// The status that the answer must have.
    status as "status": u16 = fixed("200") {
        example: "status = 200",
        min: Some("100"),
        max: Some("599"),
        aliases: &["code", "expect"],
    };

    /// A text that must stand in the answer.
    contains as "contains": Option<PlainText> = absent("the body may be anything") {
        example: r#"contains = "\"currency\":\"NOK\"""#,
        aliases: &["body", "has"],
    };

    /// How long the answer may take.
    within as "within": Option<Period> = absent("it may take as long as `limit`") {
        example: r#"within = "500ms""#,
        min: Some("\"1ms\""),
        max: Some("\"10m\""),
        aliases: &["max_time", "latency"],
    };

    /// The account of `[accounts]` that asks.
    account as "account": Option<ServiceName> = absent("nobody is signed in") {
        example: r#"account = "user""#,
        aliases: &["as", "user"],
    };

    /// A query for what must not be there: it holds when no row comes back. It runs in a transaction that reads only.
    sql as "sql": Option<Script> = absent("it is a request or a command") {
        example: r#"sql = "SELECT id FROM orders WHERE customer IS NULL""#,
        aliases: &["query", "select"],
    };

    /// The store that the query goes to.
    store as "store": Option<ServiceName> = absent("the app's PostgreSQL, if it has one only") {
        example: r#"store = "db""#,
        aliases: &["db"],
    };

    /// A command, run with `sh` in the app's folder: it holds when it ends with 0, does not with 1, and cannot tell
    /// with anything else. It may say more as JSON on its last line: `{"saw":"broken","because":"3 links are dead"}`,
    /// with `held`, `broken`, `unseen` or `inapplicable`.
    command as "command": Option<Command> = absent("it is a request or a query") {
        example: r#"command = "npm run check-links""#,
        aliases: &["run", "cmd", "exec"],
    };

    /// The fault it must find before its pass counts. For a query: a statement that puts something wrong in the
    /// database, run in the same transaction, which is then rolled back. For a command: another command that must find
    /// something wrong.
    plant as "plant": Option<Script> = absent("the check may say what is wrong, but its pass counts for nothing") {
        example: r#"plant = "INSERT INTO orders (customer) VALUES (NULL)""#,
        aliases: &["control", "fault", "negative_control"],
    };

    /// It is given up after this.
    limit as "limit": Period = fixed("\"30s\"") {
        example: r#"limit = "2m""#,
        min: Some("\"1s\""),
        max: Some("\"10m\""),
        aliases: &["timeout"],
    };

    /// How long what it saw is worth something; after twice as long it is worth nothing.
    good_for as "good_for": Period = fixed("\"1d\"") {
        example: r#"good_for = "7d""#,
        min: Some("\"1m\""),
        max: Some("\"365d\""),
        aliases: &["ttl", "every", "max_age"],
    };

    /// What to do when it fails.
    fix as "fix": Option<PlainText> = absent("reports point to this file") {
        example: r#"fix = "Run `npm run repair-orders`""#,
        aliases: &["hint", "help"],
    };
}

section! {
    /// A place that the web application firewall treats otherwise than its rules say: `allow` names rules that do not look
    /// there, because they take something honest for an attack; `pattern` says what may stand there and nothing else,
    /// until the app looks itself. `klar waf allow` writes the first kind.
    pub struct WafException in "waf.*", "an exception of the firewall", alternatives &["allow", "pattern"];

    /// Where it holds: a path, or `/path/*` for all below it.
    route as "route": WafRoute = fixed("\"/*\"") {
        example: r#"route = "/api/notes""#,
        aliases: &["path", "url", "routes"],
    };

    /// The parameter: of the query, of a form, or of a JSON body (`json.order.note`; `json.lines.array_0` in a list).
    /// `header:NAME` and `cookie:NAME` are those.
    parameter as "parameter": Option<WafPlace> = absent("the rules do not look at anything there") {
        example: r#"parameter = "text""#,
        aliases: &["param", "arg", "argument", "field", "target"],
    };

    /// The numbers of the rules that do not look there. Access records and `klar waf explain` name them.
    allow as "allow": Vec<u32> = fixed("[]") {
        example: "allow = [942100]",
        min: Some("1"),
        max: Some("99999999"),
        aliases: &["rules", "rule", "ids", "exclude"],
    };

    /// What the whole value of the parameter must be, as a regular expression. Anything else is answered with 403.
    pattern as "pattern": Option<PlainText> = absent("anything may stand there that no rule objects to") {
        example: r#"pattern = "[0-9]{1,9}""#,
        aliases: &["regex", "matches", "must_match"],
    };
}

section! {
    /// A demand of `klar check` that the team has decided to live without for a while. It counts 0 in the score, is
    /// listed apart, and ends by itself. (`klar attest` is for what holds, and for what does not apply.)
    pub struct Waiver in "waivers.*", "a waiver";

    /// The row that is waived, as `klar check` names it.
    row as "row": PlainText = required("it says what is waived") {
        example: r#"row = "sec.pentest""#,
        aliases: &["check", "id", "rule"],
    };

    /// Who answers for it.
    by as "by": PlainText = required("somebody has to answer for it") {
        example: r#"by = "Kari Nordmann""#,
        aliases: &["owner", "who", "approved_by"],
    };

    /// The last day it is good.
    until as "until": Day = required("a waiver without an end is a hole") {
        example: r#"until = "2027-06-30""#,
        aliases: &["expires", "end", "expiry"],
    };

    /// Why that is acceptable until then.
    reason as "reason": PlainText = required("whoever reads it next year has to know") {
        example: r#"reason = "The first customers come in March""#,
        aliases: &["why", "because", "note"],
    };
}
