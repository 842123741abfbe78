//! Chromium, driven over a pipe.
//!
//! The protocol (Chrome DevTools) is JSON with a NUL between messages on the file descriptors 3 and 4 of the browser:
//! no port that others could use, and no WebSocket. One browser serves all checks of a run; each has a context of its
//! own in it, with its own cookies, caches and service workers. Its profile is a folder that goes when it goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::http::Client;
use super::{Session, World};
use crate::check::{Need, Unable};
use crate::words;

/// No message is read further than this.
const LONGEST: usize = 16 << 20;
/// No command waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Events that are kept of a page.
const MOST_EVENTS: usize = 20_000;
/// Pages at once: more only make each other slow.
const AT_ONCE: u32 = 2;
/// A browser that nobody uses stays so long: when checks are proved, the next foil comes soon.
const LINGER: Duration = Duration::from_millis(1500);

const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    // Frames of other origins stay in the same session, so that one sees what becomes of them; and that the site
    // is on this machine is no reason to refuse it.
    "--disable-site-isolation-trials",
    "--disable-features=IsolateOrigins,site-per-process,Translate,LocalNetworkAccessChecks",
    "--disable-sync",
    "--disable-breakpad",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--password-store=basic",
    // On the command line, as only this counts for service workers, too. (Certificates are a check of their own.)
    "--ignore-certificate-errors",
    "--window-size=1280,900",
];

thread_local! {
    static RUNNING: RefCell<Vec<(String, Weak<Browser>)>> = const { RefCell::new(Vec::new()) };
}

/// A running browser. It ends when its last holder lets go of it.
pub struct Browser {
    wire: Rc<Wire>,
    process: Child,
    profile: PathBuf,
    tasks: [tokio::task::JoinHandle<()>; 2],
    turns: Semaphore,
    agent: String,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, Trouble>>>;

struct Wire {
    next: Cell<u64>,
    out: mpsc::UnboundedSender<Vec<u8>>,
    waiting: RefCell<Waiting>,
    /// Which page a session belongs to: its own, those of its frames and workers.
    pages: RefCell<HashMap<String, Rc<State>>>,
}

#[derive(Default)]
struct State {
    events: RefCell<Vec<Event>>,
    news: Notify,
    rule: RefCell<Option<Rule>>,
    /// The sessions of its service workers.
    workers: RefCell<Vec<String>>,
}

type Rule = Rc<dyn Fn(&Value) -> Reply>;

/// What is done with a request that was caught.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It goes on its way.
    Pass,
    /// It goes on its way, later.
    After(Duration),
    /// It is answered with this text as JSON.
    Say(String),
}

/// Something that happened in a page.
#[derive(Debug, Clone)]
pub struct Event {
    /// `Network.requestWillBeSent`.
    pub method: String,
    /// What it says.
    pub params: Value,
}

/// A page in a context of its own, which goes with it.
pub struct Page<'a> {
    wire: Rc<Wire>,
    context: String,
    session: String,
    state: Rc<State>,
    _turn: SemaphorePermit<'a>,
}

/// What the browser could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

impl From<Trouble> for Unable {
    fn from(Trouble(why): Trouble) -> Self {
        Self(words!("the browser: {why}", "nettleseren: {why}", "webbläsaren: {why}"))
    }
}

impl World {
    /// The browser of this run, started when it is first wanted.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn chromium(&self) -> Result<&Rc<Browser>, Unable> {
        let started = self.chromium.get_or_init(|| async {
            let path = self.browser.as_ref().ok_or_else(|| Unable(Need::Browser.missing()))?;
            Ok(Browser::shared(path, self.site()?).await?)
        });
        started.await.as_ref().map_err(Clone::clone)
    }

    /// The address of a path, as a browser wants it.
    ///
    /// # Errors
    /// When there is no site.
    pub fn url(&self, path: &str) -> Result<String, Unable> {
        Ok(format!("{}{path}", self.site()?.origin()))
    }
}

impl Browser {
    /// One that connects where this client does; the one that runs already, if there is.
    async fn shared(path: &Path, client: &Client) -> Result<Rc<Self>, Trouble> {
        let origin = client.origin();
        let host = origin.host.trim_matches(['[', ']']);
        let map = match client.address() {
            Some(address) if address.port() == origin.port => format!("MAP {host} {}", address.ip()),
            Some(address) => format!("MAP {host}:{} {address}", origin.port),
            None => String::new(),
        };
        let running = RUNNING.with_borrow_mut(|running| {
            running.retain(|(_, browser)| browser.strong_count() > 0);
            running.iter().find(|(key, _)| *key == map).and_then(|(_, browser)| browser.upgrade())
        });
        if let Some(browser) = running.filter(|browser| !browser.wire.out.is_closed()) {
            return Ok(browser);
        }
        let browser = Rc::new(Self::start(path, &map).await?);
        RUNNING.with_borrow_mut(|running| running.push((map, Rc::downgrade(&browser))));
        let kept = Rc::clone(&browser);
        tokio::task::spawn_local(async move {
            loop {
                sleep(LINGER).await;
                if Rc::strong_count(&kept) == 1 {
                    return;
                }
            }
        });
        Ok(browser)
    }

    async fn start(path: &Path, map: &str) -> Result<Self, Trouble> {
        let name = format!("klar-browser-{}-{:x}", std::process::id(), fastrand::u64(..));
        let profile = std::env::temp_dir().join(name);
        std::fs::create_dir(&profile).map_err(|why| Trouble(format!("no folder for its profile: {why}")))?;
        // The shell moves its own input and output to where the browser has them: no code here needs to be unsafe.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "sh"]).arg(path).args(FLAGS);
        if nix::unistd::geteuid().is_root() {
            command.arg("--no-sandbox"); // as root it starts in no other way
        }
        if !map.is_empty() {
            command.arg(format!("--host-resolver-rules={map}"));
        }
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn().map_err(|why| {
            let _ = std::fs::remove_dir_all(&profile);
            Trouble(format!("it does not start: {why}"))
        })?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (out, messages) = mpsc::unbounded_channel();
        let wire =
            Rc::new(Wire { next: Cell::new(1), out, waiting: RefCell::default(), pages: RefCell::default() });
        let tasks = [
            tokio::task::spawn_local(write(input, messages)),
            tokio::task::spawn_local(read(output, Rc::clone(&wire))),
        ];
        let mut browser = Self {
            agent: String::new(),
            wire,
            process,
            profile,
            tasks,
            turns: Semaphore::new(AT_ONCE as usize),
        };
        let version = browser.wire.call(None, "Browser.getVersion", json!({})).await?;
        browser.agent = text(&version, "userAgent");
        Ok(browser)
    }

    /// What it calls itself.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// A page, with cookies, caches and workers of its own.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn page(&self) -> Result<Page<'_>, Trouble> {
        self.open(1).await
    }

    /// A page while no other is open, to measure in.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn page_alone(&self) -> Result<Page<'_>, Trouble> {
        self.open(AT_ONCE).await
    }

    async fn open(&self, turns: u32) -> Result<Page<'_>, Trouble> {
        let turn = self.turns.acquire_many(turns).await.map_err(|why| Trouble(why.to_string()))?;
        let wire = &self.wire;
        let context =
            wire.call(None, "Target.createBrowserContext", json!({"disposeOnDetach": true})).await?;
        let context = text(&context, "browserContextId");
        let state = Rc::new(State::default());
        let mut page = Page {
            wire: Rc::clone(wire),
            context: context.clone(),
            session: String::new(),
            state: Rc::clone(&state),
            _turn: turn,
        };
        let target = json!({"url": "about:blank", "browserContextId": context, "width": 1280, "height": 900});
        let target = text(&wire.call(None, "Target.createTarget", target).await?, "targetId");
        let attach = json!({"targetId": target, "flatten": true});
        page.session = text(&wire.call(None, "Target.attachToTarget", attach).await?, "sessionId");
        wire.pages.borrow_mut().insert(page.session.clone(), state);
        let attach = json!({"autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true});
        page.call("Target.setAutoAttach", attach).await?;
        for domain in ["Page", "Runtime", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(page)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL); // its own group: see start
        }
        // What has just been killed may still be closing its files.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&self.profile).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Page<'_> {
    /// Gives the page a command.
    ///
    /// # Errors
    /// What it says against it.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Trouble> {
        self.wire.call(Some(&self.session), method, params).await
    }

    /// Runs a script in every document before its own.
    ///
    /// # Errors
    /// What the browser says against it.
    pub async fn before_all(&self, script: &str) -> Result<(), Trouble> {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await.map(drop)
    }

    /// Opens an address and waits for its load event, at most so long. Gives whether it came.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub async fn open(&self, url: &str, limit: Duration) -> Result<bool, Trouble> {
        let mark = self.mark();
        let opened = self.call("Page.navigate", json!({"url": url})).await?;
        if let Some(why) = opened.get("errorText").and_then(Value::as_str) {
            return Err(Trouble(format!("{url}: {why}")));
        }
        let loaded =
            self.wait(mark, limit, |event| (event.method == "Page.loadEventFired").then_some(())).await;
        Ok(loaded.is_some())
    }

    /// Evaluates an expression, awaits it if it is a promise, and gives its value.
    ///
    /// # Errors
    /// What it threw.
    pub async fn eval(&self, expression: &str) -> Result<Value, Trouble> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
            "allowUnsafeEvalBlockedByCSP": true,
        });
        let done = self.call("Runtime.evaluate", params).await?;
        if let Some(thrown) = done.get("exceptionDetails") {
            let said =
                thrown.pointer("/exception/description").and_then(Value::as_str).unwrap_or("a script threw");
            return Err(Trouble(said.chars().take(300).collect()));
        }
        Ok(done.pointer("/result/value").cloned().unwrap_or_default())
    }

    /// How many events there have been: where to begin to look for later ones.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.state.events.borrow().len()
    }

    /// The events since a mark.
    #[must_use]
    pub fn events(&self, mark: usize) -> Vec<Event> {
        self.state.events.borrow().get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits for an event since a mark; `None` when none comes in time.
    pub async fn wait<T>(
        &self,
        mark: usize,
        limit: Duration,
        mut is_it: impl FnMut(&Event) -> Option<T>,
    ) -> Option<T> {
        let mut next = mark;
        let looking = async {
            loop {
                let told = self.state.news.notified();
                let count = self.mark();
                while next < count {
                    let found = self.state.events.borrow().get(next).and_then(&mut is_it);
                    if found.is_some() {
                        return found;
                    }
                    next += 1;
                }
                told.await;
            }
        };
        timeout(limit, looking).await.ok().flatten()
    }

    /// Waits until nothing has been on its way for a while, or the time is up.
    pub async fn quiet(&self, since: usize, quiet: Duration, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let (count, open) = (self.mark(), self.under_way(since));
            sleep(quiet.min(deadline.saturating_duration_since(Instant::now()))).await;
            let still =
                open == 0 && !self.events(count).iter().any(|event| event.method.starts_with("Network."));
            if still || Instant::now() >= deadline {
                return;
            }
        }
    }

    fn under_way(&self, since: usize) -> usize {
        let mut open = std::collections::HashSet::new();
        for event in self.events(since) {
            if text(&event.params, "type") == "EventSource" {
                continue; // it is never done
            }
            let id = text(&event.params, "requestId");
            match event.method.as_str() {
                "Network.requestWillBeSent" => drop(open.insert(id)),
                "Network.loadingFinished" | "Network.loadingFailed" => drop(open.remove(&id)),
                _ => {}
            }
        }
        open.len()
    }

    /// Catches requests whose address matches a pattern (`*` for anything), and does with each what the rule says.
    /// The rule gets what `Fetch.requestPaused` says. Service workers are passed by, so that none answers in the app's place.
    ///
    /// # Errors
    /// What the browser says against it.
    pub async fn catch(
        &self,
        pattern: &str,
        rule: impl Fn(&Value) -> Reply + 'static,
    ) -> Result<(), Trouble> {
        *self.state.rule.borrow_mut() = Some(Rc::new(rule));
        self.call("Network.setBypassServiceWorker", json!({"bypass": true})).await?;
        self.call("Fetch.enable", json!({"patterns": [{"urlPattern": pattern}]})).await.map(drop)
    }

    /// The body of an answer, as text.
    ///
    /// # Errors
    /// When it is no longer there.
    pub async fn body(&self, request: &str) -> Result<String, Trouble> {
        let body = self.call("Network.getResponseBody", json!({"requestId": request})).await?;
        Ok(text(&body, "body"))
    }

    /// Takes the network away from the page and its service workers.
    ///
    /// # Errors
    /// What the browser says against it.
    pub async fn go_offline(&self) -> Result<(), Trouble> {
        let gone = json!({"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        let workers = self.state.workers.borrow().clone();
        for worker in &workers {
            // One that has gone meanwhile asks for nothing.
            let _ = self.wire.call(Some(worker), "Network.enable", json!({})).await;
            let _ = self.wire.call(Some(worker), "Network.emulateNetworkConditions", gone.clone()).await;
        }
        self.call("Network.emulateNetworkConditions", gone).await.map(drop)
    }

    /// Gives the page the cookies of somebody who has signed in.
    ///
    /// # Errors
    /// What the browser says against it.
    pub async fn sign_in(&self, session: &Session, url: &str) -> Result<(), Trouble> {
        for cookie in session.cookie.split("; ").filter(|cookie| !cookie.is_empty()) {
            let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
            let secure = url.starts_with("https:");
            let cookie = json!({"name": name, "value": value, "url": url, "path": "/", "secure": secure, "httpOnly": true});
            self.call("Network.setCookie", cookie).await?;
        }
        Ok(())
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        let state = &self.state;
        self.wire.pages.borrow_mut().retain(|_, page| !Rc::ptr_eq(page, state));
        // Nobody waits for the answer.
        let id = self.wire.next.replace(self.wire.next.get() + 1);
        let params = json!({"browserContextId": self.context});
        self.wire.send(&json!({"id": id, "method": "Target.disposeBrowserContext", "params": params}));
    }
}

impl Wire {
    fn send(&self, message: &Value) {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let _ = self.out.send(bytes); // when it is gone, the answer says so
    }

    fn call(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> impl Future<Output = Result<Value, Trouble>> {
        let id = self.next.replace(self.next.get() + 1);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (told, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, told);
        self.send(&message);
        let method = method.to_owned();
        async move {
            match timeout(ANSWER, answer).await {
                Ok(Ok(answer)) => answer.map_err(|Trouble(why)| Trouble(format!("{method}: {why}"))),
                Ok(Err(_)) => Err(Trouble("it has ended".to_owned())),
                Err(_) => Err(Trouble(format!("{method} is not answered"))),
            }
        }
    }

    fn take(self: &Rc<Self>, mut message: Value) {
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let Some(waits) = self.waiting.borrow_mut().remove(&id) else { return };
            let said = match message.pointer("/error/message").and_then(Value::as_str) {
                Some(why) => Err(Trouble(why.to_owned())),
                None => Ok(message["result"].take()),
            };
            let _ = waits.send(said);
            return;
        }
        let (session, method) = (text(&message, "sessionId"), text(&message, "method"));
        let Some(state) = self.pages.borrow().get(&session).cloned() else { return };
        let params = message["params"].take();
        match method.as_str() {
            "Target.attachedToTarget" => {
                let child = text(&params, "sessionId");
                if params.pointer("/targetInfo/type").and_then(Value::as_str) == Some("service_worker") {
                    state.workers.borrow_mut().push(child.clone());
                }
                self.pages.borrow_mut().insert(child, Rc::clone(&state));
            }
            "Fetch.requestPaused" => self.reply(&session, &state, &params),
            _ => {}
        }
        let mut events = state.events.borrow_mut();
        if events.len() < MOST_EVENTS && method != "Network.dataReceived" {
            events.push(Event { method, params });
            drop(events);
            state.news.notify_waiters();
        }
    }

    /// Does with a request that was caught what the rule says.
    fn reply(self: &Rc<Self>, session: &str, state: &State, params: &Value) {
        let rule = state.rule.borrow().clone();
        let reply = rule.map_or(Reply::Pass, |rule| rule(params));
        let (wire, session, id) = (Rc::clone(self), session.to_owned(), text(params, "requestId"));
        tokio::task::spawn_local(async move {
            let (method, params) = match reply {
                Reply::Pass => ("Fetch.continueRequest", json!({"requestId": id})),
                Reply::After(delay) => {
                    sleep(delay).await;
                    ("Fetch.continueRequest", json!({"requestId": id}))
                }
                Reply::Say(body) => {
                    let headers = json!([{"name": "content-type", "value": "application/json"}]);
                    let body = base64(body.as_bytes());
                    let said = json!({"requestId": id, "responseCode": 200, "responseHeaders": headers, "body": body});
                    ("Fetch.fulfillRequest", said)
                }
            };
            let _ = wire.call(Some(&session), method, params).await; // the page may be gone by now
        });
    }
}

async fn write(input: Option<ChildStdin>, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) {
    let Some(mut input) = input else { return };
    while let Some(message) = messages.recv().await {
        if input.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn read(output: Option<ChildStdout>, wire: Rc<Wire>) {
    let Some(output) = output else { return };
    let mut output = BufReader::with_capacity(1 << 16, output);
    let mut message = Vec::new();
    while let Ok(chunk) = output.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| *byte == 0);
        let taken = end.unwrap_or(chunk.len());
        message.extend_from_slice(&chunk[..taken]);
        let used = taken + usize::from(end.is_some());
        output.consume(used);
        if message.len() > LONGEST {
            break;
        }
        if end.is_some() {
            if let Ok(said) = serde_json::from_slice(&message) {
                wire.take(said);
            }
            message.clear();
        }
    }
    wire.waiting.borrow_mut().clear(); // whoever waits learns that it has ended
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().chain([&0, &0]).take(3).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        for digit in 0..4 {
            let value = (number >> (18 - 6 * digit)) & 63;
            out.push(if digit > three.len() { '=' } else { char::from(DIGITS[value as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn bodies_are_encoded() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
