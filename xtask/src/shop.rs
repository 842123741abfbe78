//! The demo app under klar, and everything that tests the app itself: its own tests, its pages in a browser, its
//! faulty twin, and a fuzzer that reads its OpenAPI document.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::load::Client;
use crate::shell::{output, repository, run, say};
use crate::world::{self, World};

/// A second service in the app's file, which writes down where the databases are.
const TELLS_ADDRESSES: &str = r#"
[services.urls]
kind = "worker"
run = "printf '%s\\n' \"$DATABASE_URL\" \"$REDIS_URL\" > urls/urls && exec sleep 1000000"
writable = ["urls"]
"#;
/// The fuzzer, from PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Requests that it makes up for each operation and kind of fault.
const EXAMPLES: &str = "25";
/// What it holds the app to: no fault of its own, and answers that are as the document says.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// The app under klar, and the addresses of its databases.
pub struct Shop {
    pub world: World,
    pub database: String,
    pub cache: String,
    /// The certificate of klar's authority.
    authority: PathBuf,
}

impl Shop {
    /// Brings it up; everything is removed in the end.
    pub fn open(name: &str, klar: PathBuf) -> Result<Self> {
        let world = World::fleeting(name, klar)?;
        let file = world.app.join("klar.toml");
        let text = std::fs::read_to_string(&file)?;
        // It is the app that is tested here: what it says to an attack itself.
        let open = text.replace("[edge]\n", "[edge]\nwaf = \"detect\"\n");
        ensure!(open != text, "{} has no [edge]", file.display());
        std::fs::write(&file, open + TELLS_ADDRESSES)?;
        world.ask(&["up"])?;
        let urls = std::fs::read_to_string(world.state.join("apps/lisens.prod/writable/urls/urls"))?;
        let (database, cache) =
            urls.trim().split_once('\n').context("no addresses of the database and the cache")?;
        let authority = world.app.join("authority.pem");
        std::fs::write(&authority, world.authority()?)?;
        Ok(Self { database: database.into(), cache: cache.into(), world, authority })
    }

    /// A program that finds the app and its databases in its environment.
    fn tester(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("DATABASE_URL", &self.database)
            .env("REDIS_URL", &self.cache)
            .env("LISENS_URL", self.world.url())
            .env("LISENS_CA", &self.authority)
            .env("LISENS_DATABASE_URL", &self.database);
        command
    }
}

/// Sets up what it needs first.
pub fn alone() -> Result<()> {
    install::ensure("The demo app's tests", true)?;
    test()
}

/// Everything that tests the app itself.
pub fn test() -> Result<()> {
    let lisens = repository().join("demo/lisens");
    let twins = repository().join("demo/twins");
    for folder in [&lisens, &twins, &repository().join("demo/raw")] {
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(folder))?;
    }
    run(Command::new("npm").args(["run", "--silent", "lint"]).current_dir(&lisens))?;
    let mut shop = Shop::open("app-test", world::build(false)?)?;
    let tested = tests(&shop, &lisens, &twins);
    shop.world.stop()?;
    tested
}

fn tests(shop: &Shop, lisens: &Path, twins: &Path) -> Result<()> {
    run(shop.tester("npm", lisens).args(["test", "--silent"]))?;
    say("each fault of the faulty twin, seen there and not here");
    run(shop.tester("npm", twins).args(["test", "--silent"]))?;
    say("requests made up from the OpenAPI document");
    fuzz(shop)
}

/// Every operation, as each role and as nobody. Signing out is left out where it would end the fuzzer's own session,
/// and what only takes its time is asked by nobody alone.
fn fuzz(shop: &Shop) -> Result<()> {
    let program = install::from_pypi(SCHEMATHESIS, "schemathesis")?;
    for who in ["official", "admin", "user"] {
        let client =
            Client::sign_in_as(&format!("{who}@lisens.example"), shop.world.https, &shop.world.authority()?)?;
        let (cookie, csrf) = client.session_headers();
        let mut command = fuzzer(shop, &program);
        command.args(["-H", &format!("Cookie: {cookie}"), "-H", &format!("X-CSRF-Token: {csrf}")]);
        let own = ["signOut", "answerSlowly", "answerLarge"];
        run_quietly(who, command.args(own.iter().flat_map(|id| ["--exclude-operation-id", id])))?;
    }
    run_quietly("nobody", &mut fuzzer(shop, &program))
}

fn fuzzer(shop: &Shop, program: &Path) -> Command {
    let mut command = shop.tester(program, &shop.world.app);
    command
        .args(["run", &format!("{}/openapi.json", shop.world.url()), "--tls-verify"])
        .arg(&shop.authority)
        .args(["--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1", "--no-color"])
        // Longer than the slowest answer that can be asked for.
        .args(["--request-timeout", "20"]);
    command
}

/// Its report is long: only its last line is shown, all of it where it has found something.
fn run_quietly(who: &str, command: &mut Command) -> Result<()> {
    let report = output(command).with_context(|| format!("fuzzing as {who}"))?;
    println!("  as {who}: {}", report.trim().lines().last().unwrap_or_default().trim_matches(['=', ' ']));
    Ok(())
}
