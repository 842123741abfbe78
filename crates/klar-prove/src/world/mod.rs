//! What the checks of one run look at, and what they find out once for all of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::OnceCell;

pub mod api;
pub mod browser;
pub mod cache;
pub mod crawl;
pub mod database;
pub mod http;
pub mod recovery;
pub mod usage;

use self::api::Api;
use self::crawl::Crawl;
use self::database::Database;
use self::http::{Answer, Ask, Client, Origin, Silence};
use self::usage::Usage;
use crate::check::{Disturbs, Need, Unable};
use crate::evidence::Place;
use crate::words;

/// How many requests there are at most at a time. Who takes all turns is alone with the site.
pub const TURNS: u32 = 8;

/// What the checks of one run look at.
pub struct World {
    /// What it is called in evidence.
    pub target: String,
    /// The release that runs there, where klar knows it.
    pub release: Option<String>,
    /// Whether this is the target itself or a rig.
    pub place: Place,
    /// The most that checks may disturb here.
    pub may: Disturbs,
    /// The site, through its front door.
    pub site: Option<Client>,
    /// Where the site answers plain HTTP, if that was given apart.
    pub plain: Option<Origin>,
    /// Where to connect for that, instead of asking the resolver.
    pub plain_address: Option<SocketAddr>,
    /// The folder with the sources.
    pub source: Option<PathBuf>,
    /// A folder with advisories in the form of OSV, or a copy of RustSec's database.
    pub advisories: Option<PathBuf>,
    /// The address of the PostgreSQL.
    pub database: Option<String>,
    /// The addresses of all its PostgreSQL databases, by the names that `klar.toml` gives them.
    pub databases: BTreeMap<String, String>,
    /// The address of the Redis.
    pub cache: Option<String>,
    /// In which variables the app gets the addresses of its stores: `DATABASE_URL`.
    pub variables: Vec<(String, String)>,
    /// The command that runs the app's tests, where `klar.toml` names one.
    pub tests: Option<String>,
    /// A written policy for caches, where it does not lie in the source folder.
    pub caching: Option<String>,
    /// How long the checks that get better with time may take, where more was granted than they take by themselves.
    pub soak: Option<Duration>,
    /// An OpenAPI document that was given; otherwise the usual places are tried.
    pub api_file: Option<PathBuf>,
    /// How to sign in, and as whom.
    pub accounts: Option<Accounts>,
    /// The certificate authority that visitors trust beside the usual ones: klar's own, on a developer's machine.
    pub authority: Option<Vec<u8>>,
    /// The app under klar, if it is.
    pub klar: Option<Rc<dyn Klar>>,
    /// Whether this is the foil: see [`World::patience`].
    pub is_foil: bool,
    /// Whether klar's own sums come out wrong, to see that somebody notices.
    pub miscounts: bool,
    /// Where the browser is.
    pub browser: Option<PathBuf>,
    /// How much the checks of this run may ask at once is settled by them taking turns here.
    pub turns: tokio::sync::Semaphore,
    crawl: OnceCell<Result<Crawl, Unable>>,
    api: OnceCell<Option<Api>>,
    chromium: OnceCell<Result<Rc<browser::Browser>, Unable>>,
    asked: Cell<u64>,
    /// What has to be said to the database to undo what a check does to it just now, in order. A check that is done
    /// takes its own away again.
    pub undo: RefCell<Vec<String>>,
}

/// How to sign in to the app, and as whom.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// Where the credentials are sent.
    pub path: String,
    /// The body, as JSON; `{name}` and `{password}` in its strings are replaced.
    pub body: serde_json::Value,
    /// The header that writes must carry against CSRF, and the field of the sign-in's answer with its value.
    pub csrf: Option<(String, String)>,
    /// The accounts, those with the least rights first.
    pub list: Vec<Account>,
}

/// One account.
#[derive(Debug, Clone)]
pub struct Account {
    /// What it is called in reports: `user`, `other`, `admin`.
    pub label: String,
    /// The name to sign in with.
    pub name: String,
    /// Its password.
    pub password: klar_base::Secret<String>,
    /// Whether it may do more than others.
    pub privileged: bool,
}

/// One running process of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `api.3`.
    pub name: String,
    /// `api`.
    pub service: String,
    /// Its process.
    pub pid: Option<i32>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
}

/// A future of the hands that klar lends.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + 'a>>;

/// A series of a metric, as telemetry has written it down last.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What it is of.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
    /// When that was, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
}

/// What an instance said, in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What they may take together, in bytes.
    pub limit: u64,
    /// The files and their sizes, oldest first, the one that is written to last.
    pub files: Vec<(PathBuf, u64)>,
}

/// What klar lets checks see and do of an app that it runs.
pub trait Klar {
    /// Its instances as they are now.
    fn instances(&self) -> Doing<'_, Vec<Instance>>;
    /// The last lines that a service said.
    fn logs<'a>(&'a self, service: Option<&'a str>, lines: usize) -> Doing<'a, Vec<String>>;
    /// How many of these requests have in their record what the firewall says of them.
    fn verdicts<'a>(&'a self, requests: &'a [String]) -> Doing<'a, usize>;
    /// What `klar status --json` says of the app.
    fn status(&self) -> Doing<'_, serde_json::Value>;
    /// What klar itself answers at `/metrics` to whoever asks for OpenMetrics.
    fn exposition(&self) -> Doing<'_, String>;
    /// What telemetry has written down last of a metric: of the app, and what belongs to no app.
    fn measured<'a>(&'a self, metric: &'a str) -> Doing<'a, Vec<Measured>>;
    /// Rows that telemetry keeps of the app, newest first: `what` is `requests` or `logs`, with what `klar` itself may say
    /// to narrow them.
    fn kept<'a>(
        &'a self,
        what: &'a str,
        narrowed: &'a [(&'a str, &'a str)],
    ) -> Doing<'a, Vec<serde_json::Value>>;
    /// A dashboard of the app as `html` or `json`: the status, and what it says. Without a name, which there are.
    fn dashboard<'a>(&'a self, name: &'a str, form: &'a str) -> Doing<'a, (u16, String)>;
    /// What telemetry knows of a trace, by its id: `requests`, `spans` and `lines`.
    fn trace<'a>(&'a self, id: &'a str) -> Doing<'a, serde_json::Value>;
    /// Says something to telemetry as a process of the app would, in OTLP's JSON; gives the status of the answer.
    fn tell<'a>(&'a self, path: &'a str, body: &'a serde_json::Value) -> Doing<'a, u16>;
    /// Counts something as a process of the app would, in lines of StatsD; `false` where the app has no port for that.
    fn count<'a>(&'a self, lines: &'a str) -> Doing<'a, bool>;
    /// Says lines in place of an instance, at its output or where it says its errors: each piece at once.
    fn say<'a>(&'a self, instance: &'a Instance, is_error: bool, pieces: Vec<String>) -> Doing<'a, ()>;
    /// The files that have what an instance said.
    fn output<'a>(&'a self, instance: &'a Instance) -> Doing<'a, Output>;
    /// Kills telemetry, and waits until another one runs.
    fn kill_telemetry(&self) -> Doing<'_, ()>;
    /// Takes a database away, so that nobody answers on its port, until [`Klar::give_back`].
    fn take_away<'a>(&'a self, store: &'a str) -> Doing<'a, ()>;
    /// Lets the database come back.
    fn give_back<'a>(&'a self, store: &'a str) -> Doing<'a, ()>;
    /// Asks what keeps its databases a second time.
    fn keep(&self, ask: klar_base::keep::Ask) -> Doing<'_, klar_base::keep::Told>;
    /// Puts a copy of the database in its place, and waits until it answers. Only in a rig.
    fn restore(&self, moment: klar_base::keep::Moment) -> Doing<'_, ()>;
    /// What is planned for when the machine is lost.
    fn plan(&self) -> Doing<'_, recovery::Plan>;
    /// Whether klar has such a command: `klar restore latest --dry-run`.
    fn knows<'a>(&'a self, command: &'a str) -> Doing<'a, bool>;
    /// Starts the app a second time, loses it with all that it had, and rebuilds it by these commands. Only in a rig.
    fn lose_all<'a>(&'a self, commands: &'a [String]) -> Doing<'a, recovery::Rebuilt>;
    /// The names of its databases, and their kinds: `("db", "postgres")`.
    fn stores(&self) -> Doing<'_, Vec<(String, String)>>;
    /// Kills an instance.
    fn kill<'a>(&'a self, instance: &'a Instance) -> Doing<'a, ()>;
    /// What an instance takes of the machine now; `None` when it is gone.
    fn usage<'a>(&'a self, instance: &'a Instance) -> Doing<'a, Option<Usage>>;
    /// Sets how many instances of a service run, and waits until they serve.
    fn scale<'a>(&'a self, service: &'a str, instances: u32) -> Doing<'a, ()>;
    /// Kills all instances, so that nobody answers behind the edge, until [`Klar::resume`].
    fn halt(&self) -> Doing<'_, ()>;
    /// Lets the instances come back. Does nothing to those that run.
    fn resume(&self) -> Doing<'_, ()>;
    /// Has the edge's cache forget what it keeps for a path, with its query.
    fn purge<'a>(&'a self, path: &'a str) -> Doing<'a, ()>;
    /// Has klar renew the certificates of the app's names now.
    fn renew(&self) -> Doing<'_, ()>;
    /// Ships a new release, one that works or one that cannot start; gives whether it serves. Only in a rig.
    fn ship(&self, broken: bool) -> Doing<'_, bool>;
    /// Goes back to the release before.
    fn roll_back(&self) -> Doing<'_, ()>;
    /// The release that serves.
    fn release(&self) -> Doing<'_, String>;
}

/// A signed-in visitor.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whose.
    pub label: String,
    /// The cookies, as a header has them.
    pub cookie: String,
    /// The header against CSRF, if the app wants one.
    pub csrf: Option<(String, String)>,
    /// Said by the sign-in: the body of its answer.
    pub said: serde_json::Value,
}

impl World {
    /// A world with nothing in it; what there is, is filled in.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            release: None,
            place: Place::Target,
            may: Disturbs::Load,
            site: None,
            plain: None,
            plain_address: None,
            source: None,
            advisories: None,
            database: None,
            databases: BTreeMap::new(),
            cache: None,
            variables: Vec::new(),
            tests: None,
            caching: None,
            soak: None,
            api_file: None,
            accounts: None,
            authority: None,
            klar: None,
            is_foil: false,
            miscounts: false,
            browser: find_browser(),
            turns: tokio::sync::Semaphore::new(TURNS as usize),
            crawl: OnceCell::new(),
            api: OnceCell::new(),
            chromium: OnceCell::new(),
            asked: Cell::new(0),
            undo: RefCell::default(),
        }
    }

    /// What is missing of what a check needs.
    pub async fn missing(&self, needs: &[Need]) -> Option<Need> {
        for need in needs {
            let there = match need {
                Need::Site => self.site.is_some(),
                Need::Api => self.api().await.is_some(),
                Need::Accounts => self.accounts.is_some(),
                Need::Source => self.source.is_some(),
                Need::Database => self.database.is_some(),
                Need::Browser => self.browser.is_some(),
                Need::Klar | Need::Keeper => self.klar.is_some(),
                Need::Kept => match &self.klar {
                    Some(klar) => {
                        let stores = klar.stores().await.unwrap_or_default();
                        stores.iter().any(|(_, kind)| kind == "postgres")
                    }
                    None => false,
                },
            };
            if !there {
                return Some(*need);
            }
        }
        None
    }

    /// How long to wait for something: a foil is as fast as its faults are sure, so nobody waits long for it.
    #[must_use]
    pub fn patience(&self, usual: Duration) -> Duration {
        if self.is_foil { (usual / 40).max(Duration::from_millis(150)) } else { usual }
    }

    /// A connection to the app's database that reads only.
    ///
    /// # Errors
    /// When there is none.
    pub async fn database(&self) -> Result<Database, Unable> {
        let url = self.database.as_ref().ok_or_else(|| Unable(Need::Database.missing()))?;
        Database::connect(url).await
    }

    /// A connection to one of the app's databases by its name, or to the one it has.
    ///
    /// # Errors
    /// When there is none.
    pub async fn database_named(&self, name: Option<&str>) -> Result<Database, Unable> {
        match name.and_then(|name| self.databases.get(name)) {
            Some(url) => Database::connect(url).await,
            None => self.database().await,
        }
    }

    /// The client of the site.
    ///
    /// # Errors
    /// When there is no site.
    pub fn site(&self) -> Result<&Client, Unable> {
        self.site.as_ref().ok_or_else(|| Unable(Need::Site.missing()))
    }

    /// Asks the site, taking turns with the other checks.
    ///
    /// # Errors
    /// Why nothing came back.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Silence> {
        let site = self.site.as_ref().ok_or_else(|| Silence::Refused("no site".to_owned()))?;
        let _turn = self.turns.acquire().await;
        self.asked.set(self.asked.get() + 1);
        site.ask(ask).await
    }

    /// The pages and files that can be reached from the first page. Walked once.
    ///
    /// # Errors
    /// When the first page does not answer.
    pub async fn crawl(&self) -> Result<&Crawl, Unable> {
        let walked = self.crawl.get_or_init(|| crawl::walk(self)).await;
        walked.as_ref().map_err(Clone::clone)
    }

    /// The description of the app's API, if one was given or found. Read once.
    pub async fn api(&self) -> Option<&Api> {
        self.api.get_or_init(|| api::find(self)).await.as_ref()
    }

    /// Signs in.
    ///
    /// # Errors
    /// When the app does not let the account in.
    pub async fn sign_in(&self, account: &Account) -> Result<Session, Unable> {
        self.sign_in_with_answer(account).await.map(|(session, _)| session)
    }

    /// The request that signs an account in; `None` when it is not known how.
    #[must_use]
    pub fn sign_in_request(&self, account: &Account) -> Option<Ask> {
        let accounts = self.accounts.as_ref()?;
        let mut body = accounts.body.clone();
        fill_in(&mut body, account);
        Some(Ask::new(::http::Method::POST, &accounts.path).json(&body))
    }

    /// Signs in, and shows the answer too: its cookies say how they want to be kept.
    ///
    /// # Errors
    /// When the app does not let the account in.
    pub async fn sign_in_with_answer(&self, account: &Account) -> Result<(Session, Answer), Unable> {
        let accounts = self.accounts.as_ref().ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let label = account.label.clone();
        let refused = |why: String| {
            Unable(words!(
                "{label} could not sign in: {why}",
                "{label} fikk ikke logget inn: {why}",
                "{label} kunde inte logga in: {why}"
            ))
        };
        let ask = self.sign_in_request(account).ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let answer = self.ask(ask).await;
        let answer = answer.map_err(|why| refused(why.to_string()))?;
        if !answer.status.is_success() {
            return Err(refused(answer.status.to_string()));
        }
        let cookies = answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
        let cookie = cookies.filter_map(|value| value.split(';').next()).collect::<Vec<_>>().join("; ");
        let said = answer.json().unwrap_or_default();
        let csrf = accounts.csrf.as_ref().and_then(|(header, field)| {
            let value = field.split('.').try_fold(&said, |value, key| value.get(key))?.as_str()?;
            Some((header.clone(), value.to_owned()))
        });
        Ok((Session { label, cookie, csrf, said }, answer))
    }
}

impl Session {
    /// Adds to a request what makes it this visitor's.
    #[must_use]
    pub fn on(&self, mut ask: Ask) -> Ask {
        if !self.cookie.is_empty() {
            ask = ask.with("cookie", &self.cookie);
        }
        if let Some((name, value)) = &self.csrf {
            ask = ask.with(name, value);
        }
        ask
    }
}

fn fill_in(body: &mut serde_json::Value, account: &Account) {
    match body {
        serde_json::Value::String(text) => {
            *text = text.replace("{name}", &account.name).replace("{password}", account.password.expose());
        }
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| fill_in(value, account)),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|value| fill_in(value, account)),
        _ => {}
    }
}

fn find_browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from).filter(|path| path.is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| {
        std::env::split_paths(&path)
            .flat_map(|folder| {
                ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name))
            })
            .find(|path| path.is_file())
    })
}

/// Waits until something is so, asking again and again; `None` when it does not become so in time.
pub async fn until<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Option<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
