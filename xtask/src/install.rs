//! What the demo needs of Debian: asked for once, and only what is missing.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{has, output, run, say};
use crate::world::target;

/// The oldest Node that the demo app runs on.
const NODE: u32 = 20;

/// Something that is missing, and the commands that mend it.
struct Missing {
    what: &'static str,
    packages: &'static [&'static str],
}

/// Installs what is missing; for the tests also a browser, a certificate authority, Python for the fuzzer, the OWASP Core
/// Rule Set, and what speaks with telemetry: Prometheus, agents of VictoriaMetrics, rsyslog.
///
/// Debian's packages start servers of their own when they are installed; those are not started here, and a cluster
/// that is there already is never touched: klar runs its own.
pub fn ensure(reason: &str, tests: bool) -> Result<()> {
    let mut missing = Vec::new();
    if !Path::new("/usr/lib/postgresql").is_dir() {
        missing.push(Missing { what: "PostgreSQL (package postgresql)", packages: &["postgresql"] });
    }
    if !has("redis-server") {
        missing.push(Missing { what: "Redis (package redis-server)", packages: &["redis-server"] });
    }
    if node_version().is_none() || !has("npm") {
        missing.push(Missing { what: "Node (packages nodejs and npm)", packages: &["nodejs", "npm"] });
    }
    if tests && !has("chromium") {
        missing.push(Missing { what: "Chromium (package chromium)", packages: &["chromium"] });
    }
    if tests && (!has("pebble") || !has("pebble-challtestsrv")) {
        missing.push(Missing {
            what: "Pebble, a certificate authority (package pebble)",
            packages: &["pebble"],
        });
    }
    if tests && output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
        missing.push(Missing {
            what: "Python (packages python3 and python3-venv)",
            packages: &["python3", "python3-venv"],
        });
    }
    if tests && !Path::new("/usr/share/modsecurity-crs/rules").is_dir() {
        missing.push(Missing {
            what: "the OWASP Core Rule Set (package modsecurity-crs)",
            packages: &["modsecurity-crs"],
        });
    }
    if tests && (!has("prometheus") || !has("promtool")) {
        missing.push(Missing { what: "Prometheus (package prometheus)", packages: &["prometheus"] });
    }
    if tests && (!has("vmagent") || !has("vmalert")) {
        missing.push(Missing {
            what: "agents of VictoriaMetrics (package victoria-metrics)",
            packages: &["victoria-metrics"],
        });
    }
    if tests && !(has("rsyslogd") && has_module_of_rsyslog()) {
        missing.push(Missing {
            what: "rsyslog (packages rsyslog and rsyslog-elasticsearch)",
            packages: &["rsyslog", "rsyslog-elasticsearch"],
        });
    }
    if tests && !Path::new("/usr/lib/python3/dist-packages/statsd").is_dir() {
        missing.push(Missing {
            what: "a client of StatsD (package python3-statsd)",
            packages: &["python3-statsd"],
        });
    }
    if tests && !has("restic") {
        missing.push(Missing { what: "restic (package restic)", packages: &["restic"] });
    }
    if tests && !(has("ssh") && Path::new("/usr/sbin/sshd").is_file()) {
        missing.push(Missing {
            what: "OpenSSH (packages openssh-client and openssh-server)",
            packages: &["openssh-client", "openssh-server"],
        });
    }
    if tests && !has("faketime") {
        missing.push(Missing { what: "clocks that go wrong (package faketime)", packages: &["faketime"] });
    }
    let packages: Vec<&str> = missing.iter().flat_map(|missing| missing.packages.iter().copied()).collect();
    let is_root = nix::unistd::geteuid().is_root();
    if !missing.is_empty() {
        println!("{reason} needs, and this machine does not have:");
        missing.iter().for_each(|missing| println!("  - {}", missing.what));
        println!(
            "It is installed with apt-get{}. Databases that are here already are left alone.",
            if is_root { "" } else { " (through sudo)" }
        );
        if !agreed()? {
            bail!("nothing was installed; install {} yourself and run this again", packages.join(" "));
        }
        say(format!("installing {}", packages.join(" ")));
        install(&packages, is_root)?;
    }
    match node_version() {
        Some(version) if version >= NODE => Ok(()),
        found => {
            let found = found.map_or("none".into(), |version| version.to_string());
            say(format!("Node {NODE} or later is needed, found {found}: installing the npm package `node`"));
            run(&mut privileged(
                is_root,
                "npm",
                &["install", "--global", "--no-audit", "--no-fund", "node@22"],
            ))
        }
    }
}

/// Whether rsyslog can send to Elasticsearch; its modules lie in a folder of the machine's architecture.
fn has_module_of_rsyslog() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("rsyslog/omelasticsearch.so"))
        .chain(["/usr/lib/rsyslog/omelasticsearch.so".into()])
        .any(|module| module.exists())
}

/// A program of a package of PyPI, such as `sqlmap==1.10.10`: installed once, beside what cargo builds.
pub fn from_pypi(package: &str, program: &str) -> Result<PathBuf> {
    let folder = target()?.join("tools").join(package);
    let program = folder.join("bin").join(program);
    if !program.is_file() {
        say(format!("installing {package}"));
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", package]))?;
    }
    Ok(program)
}

/// A Python with readers of Parquet, which have to see the same rows as klar, with OpenTelemetry's SDK and exporters, which
/// have to get theirs across, and with moto, which speaks S3 (it is none: it keeps objects in memory): installed once, as
/// above.
pub fn readers() -> Result<PathBuf> {
    let folder = std::path::absolute(target()?.join("tools/readers"))?;
    let python = folder.join("bin/python");
    const ALL: &str = "import pyarrow.parquet, duckdb, opentelemetry.exporter.otlp.proto.http, \
                       opentelemetry.exporter.otlp.proto.grpc, moto.server";
    if output(Command::new(&python).args(["-c", ALL])).is_err() {
        say("installing pyarrow, DuckDB, OpenTelemetry and moto");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            "pyarrow==26.0.1",
            "duckdb==2.0.0",
            "opentelemetry-sdk==1.45.2",
            "opentelemetry-exporter-otlp-proto-http==1.45.2",
            "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
            "moto[s3,server]==5.2.5",
        ]))?;
    }
    Ok(python)
}

fn install(packages: &[&str], is_root: bool) -> Result<()> {
    // A package that starts its server right away would take the standard port, and memory, for nothing.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let hold = is_root && !policy.exists();
    if hold {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755))?;
    }
    let result = run(&mut privileged(is_root, "apt-get", &["update", "-qq"])).and_then(|()| {
        let args = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
        run(&mut privileged(is_root, "apt-get", &args))
    });
    if hold {
        std::fs::remove_file(policy)?;
    }
    result
}

fn privileged(is_root: bool, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(if is_root { program } else { "sudo" });
    if !is_root {
        command.arg(program);
    }
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Asks once on a terminal; Enter means yes. Without a terminal it goes ahead.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    print!("Go ahead? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(!answer.trim().to_ascii_lowercase().starts_with('n'))
}

fn node_version() -> Option<u32> {
    let version = output(Command::new("node").arg("--version")).ok()?;
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}
