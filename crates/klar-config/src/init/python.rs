//! Apps for Python: what `requirements.txt`, `pyproject.toml` and the sources say.

use std::collections::BTreeSet;
use std::path::Path;

use super::folder::Folder;
use super::{Found, Said};

/// Packages that are a whole app: where the app is in them, and the path for health checks.
const KNOWN: [(&str, &str, &str); 1] = [("httpbin", "httpbin:app", "/status/200")];

pub(super) fn look(folder: &Folder) -> Option<Found> {
    let manifest = folder.first(&[
        "uv.lock",
        "requirements.txt",
        "pyproject.toml",
        "Pipfile",
        "setup.py",
        "manage.py",
    ])?;
    let mut found = Found::default();
    let project = folder.text("pyproject.toml").and_then(|text| toml::from_str::<toml::Table>(&text).ok());
    let section = |path: &[&str]| {
        let mut at = project.as_ref()?;
        for part in path {
            at = at.get(*part)?.as_table()?;
        }
        Some(at)
    };
    let name =
        section(&["project"]).or_else(|| section(&["tool", "poetry"])).and_then(|table| table.get("name"));
    found.name =
        name.and_then(|name| name.as_str()).map(|name| Said::new(name, "that is its name in pyproject.toml"));
    for line in folder.text("requirements.txt").unwrap_or_default().lines() {
        found.packages.extend(package_of(line));
    }
    let listed = section(&["project"]).and_then(|table| table.get("dependencies")?.as_array());
    for line in listed.into_iter().flatten().filter_map(|line| line.as_str()) {
        found.packages.extend(package_of(line));
    }
    for name in section(&["tool", "poetry", "dependencies"]).into_iter().flat_map(|table| table.keys()) {
        found.packages.extend(package_of(name));
    }

    let mut extra: Vec<&str> = Vec::new();
    start(folder, &mut found, &mut extra);
    let more: String = extra.iter().map(|name| format!(" {name}")).collect();
    let because = |file: &str| match &extra[..] {
        [] => format!("{file} says which packages"),
        extra => format!("{file} says which packages, and {} serves the app", extra.join(" and ")),
    };
    let venv = "python3 -m venv .venv && .venv/bin/pip install";
    let build = match manifest {
        "uv.lock" if more.is_empty() => "uv sync --frozen --no-dev".to_owned(),
        "uv.lock" => format!("uv sync --frozen --no-dev && uv pip install{more}"),
        "requirements.txt" => format!("{venv} -r requirements.txt{more}"),
        "Pipfile" => format!("{venv} pipenv && .venv/bin/pipenv install --deploy"),
        "manage.py" => format!("{venv} django{more}"),
        _ => format!("{venv} .{more}"),
    };
    let mut build = Said::new(build, because(manifest));
    if manifest == "manage.py" {
        build.because = "there is neither requirements.txt nor pyproject.toml".into();
        found.asks.push("list the packages of the app in requirements.txt, and use it in `build`".into());
    }
    if folder.has("manage.py") && folder.source_with("STATIC_ROOT").is_some() {
        build.value.push_str(" && .venv/bin/python manage.py collectstatic --noinput");
        build.because.push_str("; the settings of Django name a STATIC_ROOT");
    }
    found.build = Some(build);
    Some(found)
}

/// `Flask[async]>=3 ; python_version > "3"` is the package `flask`.
fn package_of(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(line.len());
    let name = line[..end].to_ascii_lowercase().replace('_', "-");
    name.starts_with(|c: char| c.is_ascii_alphanumeric()).then_some(name)
}

fn start<'a>(folder: &Folder, found: &mut Found, extra: &mut Vec<&'a str>) {
    let packages: BTreeSet<String> = found.packages.clone();
    let has = |name: &str| packages.contains(name);
    let mut server = |name: &'a str| {
        if !has(name) {
            extra.push(name);
        }
    };
    let gunicorn = |app: &str| format!(".venv/bin/gunicorn --bind 127.0.0.1:$PORT {app}");
    let uvicorn = |app: &str| format!(".venv/bin/uvicorn --host 127.0.0.1 --port $PORT {app}");
    if folder.has("manage.py") {
        let module = |file: &str| {
            let (path, _) =
                folder.sources.iter().find(|(path, _)| path.file_name().is_some_and(|name| name == file))?;
            Some((module_of(path)?, path.clone()))
        };
        found.release = Some(Said::new(
            ".venv/bin/python manage.py migrate --noinput",
            "manage.py is there: a Django app has migrations",
        ));
        if let Some((module, path)) = module("asgi.py").filter(|_| has("uvicorn") || has("channels")) {
            server("uvicorn");
            let because = format!("Django's {} is there, and packages for ASGI", path.display());
            found.run = Some(Said::new(uvicorn(&format!("{module}:application")), because));
            found.knows_port = true;
        } else if let Some((module, path)) = module("wsgi.py") {
            server("gunicorn");
            found.run = Some(Said::new(gunicorn(&module), format!("Django's {} is there", path.display())));
            found.knows_port = true;
        }
        return;
    }
    if let Some((app, path)) = object(folder, &["FastAPI(", "Starlette(", "Litestar(", "Quart("]) {
        server("uvicorn");
        found.run = Some(Said::new(uvicorn(&app), format!("{} makes the app", path.display())));
        found.knows_port = true;
        return;
    }
    let flask = object(folder, &["Flask(", "Bottle(", "falcon.App("]).or_else(|| factory(folder));
    if let Some((app, path)) = flask {
        server("gunicorn");
        found.run = Some(Said::new(gunicorn(&app), format!("{} makes the app", path.display())));
        found.knows_port = true;
        return;
    }
    for (package, app, health) in KNOWN {
        if has(package) {
            server("gunicorn");
            found.run = Some(Said::new(
                gunicorn(app),
                format!("{package} is the app itself, and no source of this folder is one"),
            ));
            found.health = Some(Said::new(health, format!("{package} answers there")));
            found.knows_port = true;
            return;
        }
    }
    if let Some(file) = folder.first(&["server.py", "app.py", "main.py", "run.py", "wsgi.py"]) {
        found.run = Some(Said::new(format!(".venv/bin/python {file}"), format!("{file} is there")));
    }
}

/// `src/shop/app.py` as Python imports it: `shop.app`.
fn module_of(path: &Path) -> Option<String> {
    let path = path.with_extension("");
    let mut parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    if parts.last() == Some(&"__init__") {
        parts.pop();
    }
    let name = |part: &&str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (!parts.is_empty() && parts.iter().all(name)).then(|| parts.join("."))
}

/// `app = Flask(__name__)` at the beginning of a line, as `module:app`.
fn object<'a>(folder: &'a Folder, makers: &[&str]) -> Option<(String, &'a Path)> {
    python(folder).find_map(|(path, source)| {
        source.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            let name = name.split(':').next().unwrap_or_default().trim_end();
            let value = value.trim_start();
            let made =
                makers.iter().any(|maker| value.starts_with(maker) || value.contains(&format!(".{maker}")));
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            (made && is_name).then(|| Some((format!("{}:{name}", module_of(path)?), path)))?
        })
    })
}

/// `def create_app():` as `'module:create_app()'`.
fn factory(folder: &Folder) -> Option<(String, &Path)> {
    python(folder).find_map(|(path, source)| {
        let name =
            ["create_app", "make_app"].into_iter().find(|name| source.contains(&format!("\ndef {name}(")))?;
        (source.contains("Flask")).then(|| Some((format!("'{}:{name}()'", module_of(path)?), path)))?
    })
}

fn python(folder: &Folder) -> impl Iterator<Item = (&Path, &str)> {
    let files = folder.sources.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "py"));
    files.map(|(path, source)| (path.as_path(), source.as_str()))
}
