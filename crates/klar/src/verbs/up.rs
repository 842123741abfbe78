//! `klar up` and `klar deploy`: from the files in a folder to a release that serves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use klar_api::ClientError;
use klar_base::Secret;
use klar_config::{Config, EnvValue, Loaded, Place, SecretRef};
use klar_run::control::{DeployRequest, GivenCertificate, GivenFiles};
use klar_run::durable;
use klar_run::report::{AppStatus, Failure, Health, Receipt};
use klar_run::spawn::users::prepare_place;
use nix::fcntl::{Flock, FlockArg};

use crate::context::{Context, Trouble, wait};
use crate::out::events::Steps;
use crate::out::{GOOD, STRONG, paint, receipt, words};
use crate::pack::{Packed, pack};
use crate::verbs::operate::conclude;

/// How long a core may take to answer after it was started.
const START: Duration = Duration::from_secs(20);
/// How long a packing that broke off may take to say why.
const REFUSED: Duration = Duration::from_millis(100);
/// So much of its log is shown when it does not.
const LOG_TAIL: u64 = 4 * 1024;
/// A secret or a certificate is not larger than this, in bytes.
const SECRET_MAX: u64 = 1 << 20;

/// `klar up`.
pub fn up(context: &Context) -> Result<(), Trouble> {
    let loaded = context.load()?;
    let mut steps = Steps::new(context.printer);
    if start_core(context, &mut steps)? && is_back(context, &loaded, &mut steps)? {
        return Ok(());
    }
    let receipt = ship(context, &loaded, true, &mut steps)?;
    if !context.printer.json {
        context.printer.data(receipt::render_up(&receipt).trim_end_matches('\n'));
    }
    Ok(())
}

/// `klar deploy`.
pub fn deploy(context: &Context) -> Result<(), Trouble> {
    let loaded = context.load()?;
    let mut steps = Steps::new(context.printer);
    let receipt = ship(context, &loaded, false, &mut steps)?;
    conclude(context, &receipt);
    Ok(())
}

/// A klar that was just started brings back what was up when it ended. Then that is what `up` is for.
fn is_back(context: &Context, loaded: &Loaded, steps: &mut Steps) -> Result<bool, Trouble> {
    let key = loaded.config.key();
    let begun = Instant::now();
    let status = || -> Result<_, Trouble> { Ok(wait(context.client().status())??) };
    let find = || -> Result<Option<AppStatus>, Trouble> {
        Ok(status()?.apps.into_iter().find(|app| app.key == key))
    };
    let brought_back = |app: &AppStatus| app.release.is_some() && app.health != Health::Stopped;
    let Some(mut app) = find()?.filter(brought_back) else { return Ok(false) };
    steps.begin("start", "what was up before");
    while app.health != Health::Up && begun.elapsed() < START {
        std::thread::sleep(Duration::from_millis(100));
        let Some(now) = find()? else { break };
        app = now;
    }
    if let Some(line) = status()?.edge.cannot_listen.first() {
        steps.break_off();
        let failure =
            Failure::new(format!("{key} runs, but nobody reaches it: klar cannot listen at {line}"));
        return Err(failure
            .hint("stop what has the port (`klar` takes it then), or choose another one in [edge] and run `klar deploy`")
            .into());
    }
    steps.end("start", "what was up before", begun.elapsed());
    if context.printer.json {
        context.printer.value(&app);
    } else {
        let key = receipt::name(&key);
        context.printer.data(format!("\n{} {key} is back at {}", paint(GOOD, "●"), paint(STRONG, &app.url)));
        context.printer.story("  what has changed in its folder since then is shipped by `klar deploy`");
    }
    Ok(true)
}

fn ship(context: &Context, loaded: &Loaded, first: bool, steps: &mut Steps) -> Result<Receipt, Trouble> {
    let config = &loaded.config;
    let folder = context.folder();
    let secrets = secrets(config, &folder)?;
    let certificate = certificate(config, &folder)?;
    second_place(context, config)?;
    let outcome = wait(async {
        let client = context.client();
        // Said before the files travel: a core that is not there, or not ours.
        client.status().await?;
        let begun = Instant::now();
        steps.begin("pack", folder.display().to_string());
        let (archive, packing) = pack(folder.clone(), config, context.layout.root());
        let upload = client.upload(archive).await;
        // A file that cannot be read is the reason also when the upload is what broke. A core that has refused the
        // rest leaves the packing unfinished, and then it is not waited for.
        let refused_at = Instant::now();
        while upload.is_err() && !packing.is_finished() && refused_at.elapsed() < REFUSED {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let packed = if upload.is_ok() || packing.is_finished() {
            packing.join().unwrap_or_else(|_| Err(std::io::Error::other("packing broke off")))
        } else {
            Ok(Packed::default())
        };
        let packed = match packed {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(ClientError::Source(error));
            }
            packed => packed.unwrap_or_default(),
        };
        let upload = upload?;
        let what = format!("{}, {}", words::things(packed.files, "file"), words::bytes(packed.bytes));
        steps.end("pack", what, begun.elapsed());
        let request = DeployRequest { upload, first, secrets, certificate };
        client.deploy(&config.key(), &request, |event| steps.hear(event)).await
    })?;
    outcome.map_err(|error| {
        steps.break_off();
        error.into()
    })
}

/// Reads the values behind references, as the person who runs this.
fn secrets(config: &Config, folder: &Path) -> Result<BTreeMap<String, Secret<String>>, Trouble> {
    let of_services = config.services.iter().flat_map(|(name, service)| {
        service.env.iter().filter_map(move |(variable, value)| match value {
            EnvValue::Secret(reference) => Some((format!("services.{name}.env.{variable}"), reference)),
            EnvValue::Plain(_) => None,
        })
    });
    let of_data = config.data.iter().filter_map(|(name, store)| match &store.place {
        Place::Url(reference) => Some((format!("data.{name}"), reference)),
        Place::Managed => None,
    });
    let of_backup =
        config.backup.offsite_key.iter().map(|reference| ("backup.offsite_key".to_owned(), reference));
    let mut values = BTreeMap::new();
    for (key, reference) in of_services.chain(of_data).chain(of_backup) {
        let value = secret(reference, folder).map_err(|(why, hint)| {
            let what = format!("the value of `{key}` in klar.toml cannot be read: {why}");
            Trouble::usage(Failure::new(what).hint(hint))
        })?;
        values.insert(String::from(reference.clone()), Secret::new(value));
    }
    Ok(values)
}

/// Reads the value behind a reference; otherwise says why not, and what would help.
pub fn secret(reference: &SecretRef, folder: &Path) -> Result<String, (String, String)> {
    match reference {
        SecretRef::Env(name) => std::env::var(name).map_err(|_| {
            (
                format!("the variable {name} is not set here"),
                format!("set it for this command: `{name}=... klar deploy`"),
            )
        }),
        SecretRef::File(path) => {
            let path = folder.join(path);
            let text = read(&path).map_err(|error| {
                (format!("{}: {error}", path.display()), "name a file that you may read".to_owned())
            })?;
            Ok(text.strip_suffix('\n').map_or(text.clone(), |text| text.trim_end_matches('\r').to_owned()))
        }
        SecretRef::Vault(name) => Err((
            format!("klar has no vault yet, so there is no `secret:{name}`"),
            "use `env:NAME` or `file:PATH`".to_owned(),
        )),
    }
}

/// A folder for second copies belongs to what keeps the data.
fn second_place(context: &Context, config: &Config) -> Result<(), Trouble> {
    let of_rig = durable::read_json::<String>(&context.layout.second_file());
    let of_rig = of_rig.map_err(Trouble::system("reading the second place of a rig"))?;
    let offsite = config.backup.offsite.as_ref().map(|offsite| of_rig.as_deref().unwrap_or(offsite.as_str()));
    let place = offsite.and_then(|offsite| offsite.parse().ok());
    let Some(klar_base::place::Place::Folder(place)) = place else { return Ok(()) };
    prepare_place(&place, &config.key()).map_err(|error| {
        let failure = Failure::new(format!("`backup.offsite` cannot be used: {}: {error}", place.display()));
        Trouble::usage(
            failure.hint("mount it, or make the folder: klar does not, since it would fill the disk beneath"),
        )
    })
}

fn certificate(config: &Config, folder: &Path) -> Result<Option<GivenCertificate>, Trouble> {
    let (Some(chain), Some(key)) = (&config.edge.certificate, &config.edge.key) else { return Ok(None) };
    let read = |path: &Path| {
        let path = folder.join(path);
        read(&path).map_err(|error| {
            let what = format!("the certificate cannot be read: {}: {error}", path.display());
            Trouble::usage(
                Failure::new(what).hint("`[edge] certificate` and `key` name PEM files that you may read"),
            )
        })
    };
    let absolute = |path: &Path| std::path::absolute(folder.join(path)).ok();
    let files = absolute(chain).zip(absolute(key)).map(|(chain, key)| GivenFiles { chain, key });
    Ok(Some(GivenCertificate { chain_pem: read(chain)?, key_pem: Secret::new(read(key)?), files }))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_MAX {
        return Err(std::io::Error::other(format!(
            "it is larger than the {SECRET_MAX} bytes that klar reads"
        )));
    }
    Ok(text)
}

/// Starts a core in the background, unless one answers. Says whether it did.
fn start_core(context: &Context, steps: &mut Steps) -> Result<bool, Trouble> {
    let client = context.client();
    match wait(client.status())? {
        Ok(_) => return Ok(false),
        Err(ClientError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let begun = Instant::now();
    // Two that start the same klar at the same time would write each other's files: the second finds it running.
    let _turn = turn(context)?;
    if wait(client.status())?.is_ok() {
        return Ok(false);
    }
    steps.begin("klar", format!("starting, with its state in {}", context.layout.root().display()));
    let mut child = host_process(context)?;
    loop {
        match wait(client.status())? {
            Ok(_) => break,
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = child.try_wait().ok().flatten().is_some();
        if ended || begun.elapsed() > START {
            let what = if ended { "klar ended at once" } else { "klar does not answer" };
            let log = context.layout.own_log();
            let failure = Failure::new(format!("{what} after it was started"))
                .output(tail(&log))
                .hint(format!("its log is {}", log.display()));
            steps.break_off();
            return Err(failure.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    steps.end("klar", "runs in the background", begun.elapsed());
    Ok(true)
}

/// Waits until nobody else starts this klar. The turn ends with the file, or with its process.
fn turn(context: &Context) -> Result<Flock<File>, Trouble> {
    let log = context.layout.own_log();
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            let what = format!("klar's state folder cannot be made: {}: {error}", folder.display());
            Trouble::from(Failure::new(what).hint("choose another with `--state DIR`, or run klar as root"))
        })?;
    }
    let path = log.with_file_name("start.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Trouble::system(path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Trouble::system(path.display())(std::io::Error::from(errno)))
}

fn host_process(context: &Context) -> Result<Child, Trouble> {
    let log = context.layout.own_log();
    let open = || File::options().create(true).append(true).open(&log);
    let what = format!("opening {}", log.display());
    let (out, err) = (open().map_err(Trouble::system(&what))?, open().map_err(Trouble::system(&what))?);
    let me = std::env::current_exe().map_err(Trouble::system("finding klar's own program"))?;
    Command::new(me)
        .arg("host")
        .arg("--state")
        .arg(context.layout.root())
        // A folder that is unmounted or removed later must not be this one.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(Trouble::system("starting klar in the background"))
}

fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // No log is no reason to say less about what happened.
    let text = read().unwrap_or_default();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(10)..].to_vec()
}
