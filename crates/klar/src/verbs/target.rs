//! What `klar check` looks at: the app of this folder as klar runs it, or any address, and how much it may disturb there.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use klar_base::{Secret, ServiceName};
use klar_config::{Config, FILE_NAME};
use klar_prove::check::Disturbs;
use klar_prove::world::http::{Client, Origin, certificate_of};
use klar_prove::world::{Account, Accounts, World};
use klar_run::report::{AppStatus, Failure, Health};
use klar_run::store::Engine;
use klar_store::KeyId;
use tokio::net::TcpStream;

use super::up::secret;
use crate::cli;
use crate::context::{Context, Trouble};
use crate::hands::Hands;
use crate::out::{FAIR, paint};

/// What there is to look at.
pub(super) async fn world(context: &Context, wanted: &cli::Check) -> Result<World, Trouble> {
    let mut world = match &wanted.url {
        Some(url) => {
            let origin = Origin::parse(url).map_err(|why| Trouble::usage(Failure::new(why)))?;
            let mut world = World::new(origin.to_string());
            let site = Client::new(origin);
            // Whether one may attack it is asked first.
            if !wanted.prove_probes && !wanted.disruptive {
                is_there(site.origin()).await?;
            }
            world.site = Some(site);
            world
        }
        None => running(context, wanted.due).await?,
    };
    world.source = wanted.source.clone().or(world.source);
    world.database = wanted.database.clone().or(world.database);
    world.api_file = wanted.openapi.clone();
    world.advisories = wanted.advisories.clone();
    if let Some(file) = &wanted.ca {
        let pem = std::fs::read(file).map_err(Trouble::system(file.display()))?;
        world.authority = certificate_of(&pem);
    }
    Ok(world)
}

/// Whether anybody takes a connection there: where nobody does, there is nothing to say of what is there otherwise.
async fn is_there(origin: &Origin) -> Result<(), Trouble> {
    let host = origin.host.trim_matches(['[', ']']);
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect((host, origin.port))).await;
    let why = match connected {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT.as_secs()),
    };
    let failure = Failure::new(format!("nobody is at {origin}: {why}"));
    Err(failure.hint("start it, or mend the address: klar looks at what runs").into())
}

/// As long as it may take to reach an address.
const CONNECT: Duration = Duration::from_secs(10);

/// The app of this folder, as klar runs it.
pub async fn running(context: &Context, due: bool) -> Result<World, Trouble> {
    let folder = context.folder();
    if !folder.join(FILE_NAME).is_file() {
        let failure = Failure::new("there is nothing to check here: no klar.toml and no --url");
        return Err(Trouble::usage(
            failure.hint("`klar check --url https://HOST`, or go to the folder of an app"),
        ));
    }
    let config = context.load()?.config;
    let key = config.key();
    let mut world = World::new(key.to_string());
    world.source = Some(folder.clone());
    world.tests = config.check.tests.as_ref().map(ToString::to_string);
    // Nobody is there to be told about a password that only a person's shell has.
    world.accounts =
        if due { accounts(&config, &folder).unwrap_or_default() } else { accounts(&config, &folder)? };
    let apps = context.client().status().await.map(|host| (host.edge.listens, host.apps));
    let (listens, apps) = apps.unwrap_or_default();
    // What klar itself answers for an app that was stopped says nothing of the app.
    let runs = |app: &AppStatus| app.key == key && app.health != Health::Stopped;
    let Some(app) = apps.into_iter().find(runs) else {
        let what = format!("{} {key} does not run: only its files are looked at", paint(FAIR, "▲"));
        context.printer.story(what);
        return Ok(world);
    };
    let origin = Origin::parse(&app.url).map_err(|why| Trouble::from(Failure::new(why)))?;
    world.plain = plain_port(&listens, &origin);
    world.plain_address = world.plain.as_ref().map(|plain| ([127, 0, 0, 1], plain.port).into());
    let mut site = at_loopback(Client::new(origin), &app);
    // An older klar has no firewall to get past.
    if let Ok(pass) = std::fs::read_to_string(context.layout.check_key()) {
        site = site.with_pass(Secret::new(pass));
    }
    world.site = Some(site);
    world.release = app.release.as_ref().map(ToString::to_string);
    if let Ok(pem) = context.client().authority().await {
        world.authority = certificate_of(pem.as_bytes());
    }
    let stores = klar_run::store_urls(&context.layout, &key).unwrap_or_default();
    let of = |wanted| stores.iter().filter(move |(_, engine, _)| *engine == wanted);
    world.databases = of(Engine::Postgres).map(|(name, _, url)| (name.to_string(), url.clone())).collect();
    let variable = |name: &ServiceName| config.data.get(name).map(|store| store.env.to_string());
    world.variables =
        stores.iter().filter_map(|(name, _, url)| Some((variable(name)?, url.clone()))).collect();
    let first = |wanted| of(wanted).map(|(_, _, url)| url.clone()).next();
    world.database = first(Engine::Postgres);
    world.cache = first(Engine::Redis);
    world.klar = Some(Rc::new(Hands::new(context, key, None)));
    Ok(world)
}

/// An app on this machine is asked here, whatever its names say elsewhere.
fn at_loopback(client: Client, _app: &AppStatus) -> Client {
    let port = client.origin().port;
    client.at(([127, 0, 0, 1], port).into())
}

/// Where the edge takes plain HTTP: the port that is not the one for HTTPS.
fn plain_port(listens: &[String], origin: &Origin) -> Option<Origin> {
    let ports = listens
        .iter()
        .filter_map(|listen| listen.rsplit(':').next()?.split_whitespace().next()?.parse().ok());
    let port = ports.into_iter().find(|port: &u16| *port != origin.port)?;
    Some(Origin { tls: false, host: origin.host.clone(), port })
}

fn accounts(config: &Config, folder: &Path) -> Result<Option<Accounts>, Trouble> {
    let Some(path) = &config.check.sign_in else { return Ok(None) };
    let body = serde_json::from_str(config.check.sign_in_body.as_str()).map_err(|why| {
        let failure = Failure::new(format!("`sign_in_body` in klar.toml is no JSON: {why}"));
        Trouble::usage(failure.hint(r#"for instance '{"email":"{name}","password":"{password}"}'"#))
    })?;
    let mut list = Vec::new();
    for (label, account) in &config.accounts {
        let password = secret(&account.password, folder).map_err(|(why, hint)| {
            let what = format!("the password of `accounts.{label}` in klar.toml cannot be read: {why}");
            Trouble::usage(Failure::new(what).hint(hint))
        })?;
        list.push((
            account.privileged,
            Account {
                label: label.to_string(),
                name: account.name.to_string(),
                password: Secret::new(password),
                privileged: account.privileged,
            },
        ));
    }
    list.sort_by_key(|(privileged, _)| *privileged);
    let csrf = config.check.csrf_header.as_ref();
    Ok((!list.is_empty()).then(|| Accounts {
        path: path.to_string(),
        body,
        csrf: csrf.map(|header| (header.to_string(), config.check.csrf_field.to_string())),
        list: list.into_iter().map(|(_, account)| account).collect(),
    }))
}

/// Where a site says who may attack it: the key of a ledger, as `klar ledger` prints it.
const TOKEN: &str = "/.well-known/klar-check";

/// Whether the site is provably the user's own: on this machine, or one that shows the key of their ledger.
async fn is_owned(world: &World, key: KeyId) -> bool {
    let Some(site) = &world.site else { return true };
    if world.klar.is_some() || site.is_loopback().await {
        return true;
    }
    let shown = site.get(TOKEN).await;
    shown.is_ok_and(|answer| answer.status.is_success() && answer.text().trim() == key.to_string())
}

/// How much checks may disturb the target itself. What is not provably one's own gets the few requests of a visitor;
/// guessing passwords, for one, is for owners.
pub(super) async fn limit(world: &mut World, wanted: &cli::Check, key: KeyId) -> Result<(), Trouble> {
    let owned = is_owned(world, key).await;
    if wanted.disruptive && !owned {
        let site = world.site.as_ref().map(|site| site.origin().to_string()).unwrap_or_default();
        let failure = Failure::new(format!("{site} is not provably yours, so klar does not attack it"));
        return Err(Trouble::usage(failure.hint(format!("let it answer {TOKEN} with {key}, and ask again"))));
    }
    world.may = match (wanted.disruptive, owned) {
        (true, _) => Disturbs::Stops,
        (false, true) => Disturbs::Load,
        (false, false) => Disturbs::Nothing,
    };
    Ok(())
}
