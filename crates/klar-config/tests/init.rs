//! `klar init` on small apps of many kinds: what is written stands in a `.snap` beside each, and must be accepted.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use klar_base::{EnvName, Hint};
use klar_config::Config;
use klar_config::init::{InitError, guess};

/// A folder with these files, named after the app.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("init").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

type Fixture = (&'static str, &'static [(&'static str, &'static str)]);

const FIXTURES: &[Fixture] = &[
    (
        "node-verdaccio",
        &[
            ("package.json", r#"{"private":true,"dependencies":{"verdaccio":"6.10.3"}}"#),
            ("package-lock.json", "{}"),
        ],
    ),
    (
        "node-verdaccio-own-config",
        &[
            ("package.json", r#"{"name":"registry","dependencies":{"verdaccio":"^6"}}"#),
            ("config.yaml", "storage: ./packages # here\nauth: {}\n"),
        ],
    ),
    ("python-httpbin", &[("requirements.txt", "httpbin[mainapp]==0.10.4\ngunicorn\ngevent # workers\n")]),
    (
        "node-stores",
        &[
            (
                "package.json",
                r#"{"name":"@acme/Shop_API","scripts":{"start":"node src/server.js","test":"node --test"},
                    "dependencies":{"pg":"8","ioredis":"5"},"devDependencies":{"eslint":"9"},"engines":{"node":">=20"}}"#,
            ),
            ("package-lock.json", "{}"),
            (
                "src/server.js",
                "const url = process.env.POSTGRES_URL; const key = process.env.STRIPE_SECRET_KEY;\n\
                 new Redis(process.env.REDIS_URL);\napp.get('/healthz', ok); app.listen(process.env.PORT)",
            ),
            ("node_modules/x/index.js", "app.get('/health')"),
            (".env", "STRIPE_SECRET_KEY=hunter2"),
        ],
    ),
    (
        "node-fixed-port",
        &[
            ("package.json", r#"{"name":"old","main":"server","dependencies":{"express":"4"}}"#),
            ("yarn.lock", ""),
            ("server.js", "app.get(\"/status\", x); app.listen( 3000, () => {})"),
        ],
    ),
    (
        "node-next-prisma",
        &[
            (
                "package.json",
                r#"{"scripts":{"build":"next build","start":"next start"},"dependencies":{"next":"15","@prisma/client":"6"},
                    "devDependencies":{"prisma":"6"}}"#,
            ),
            ("pnpm-lock.yaml", ""),
            (
                "prisma/schema.prisma",
                "generator client {\n provider = \"prisma-client-js\"\n}\ndatasource db {\n  provider = \"postgresql\"\n  url = env(\"DATABASE_URL\")\n}\n",
            ),
        ],
    ),
    (
        "node-prisma-sqlite",
        &[
            (
                "package.json",
                r#"{"scripts":{"start":"node index.js"},"dependencies":{"@prisma/client":"6","prisma":"6"}}"#,
            ),
            ("index.js", "listen(process.env.PORT)"),
            (
                "prisma/schema.prisma",
                "datasource db {\n  provider = \"sqlite\"\n  url = env(\"DATABASE_URL\")\n}\n",
            ),
        ],
    ),
    (
        "node-vite",
        &[
            (
                "package.json",
                r#"{"scripts":{"start":"vite","build":"vite build"},"devDependencies":{"vite":"7"}}"#,
            ),
            ("package-lock.json", "{}"),
            ("index.html", ""),
        ],
    ),
    (
        "node-api-and-pages",
        &[
            ("package.json", r#"{"scripts":{"start":"node api.js"},"dependencies":{"fastify":"5"}}"#),
            (
                "api.js",
                "app.get('/api/orders'); app.get('/api/health'); app.listen({ port: process.env.PORT })",
            ),
            ("dist/index.html", "<p>"),
        ],
    ),
    (
        "node-sqlite",
        &[
            (
                "package.json",
                r#"{"scripts":{"start":"nodemon app.js --quiet"},"dependencies":{"better-sqlite3":"12"}}"#,
            ),
            ("app.js", "listen(process.env.PORT)"),
            ("data/shop.sqlite3", "SQLite format 3\0"),
            ("uploads/.keep", ""),
        ],
    ),
    (
        "node-only-dependency",
        &[
            ("package.json", r#"{"dependencies":{"some-server":"1"}}"#),
            ("node_modules/some-server/package.json", r#"{"bin":{"some-server":"cli.js"}}"#),
        ],
    ),
    ("node-without-start", &[("package.json", r#"{"dependencies":{"left-pad":"1"}}"#), ("lib/x.js", "")]),
    ("node-broken-package", &[("package.json", "{"), ("Procfile", "web: node x.js")]),
    (
        "python-django",
        &[
            ("requirements.txt", "Django>=5\npsycopg[binary]\ndjango-redis\n"),
            ("manage.py", "#!/usr/bin/env python\n"),
            ("shop/wsgi.py", "application = get_wsgi_application()"),
            (
                "shop/settings.py",
                "STATIC_ROOT = 'static'\nSECRET_KEY = os.environ['SECRET_KEY']\nDATABASE_URL\n",
            ),
            ("shop/urls.py", "urlpatterns = [path('health/', ok)]"),
        ],
    ),
    (
        "python-fastapi",
        &[
            (
                "pyproject.toml",
                "[project]\nname = \"Price Feed\"\ndependencies = [\"fastapi>=0.1\", \"asyncpg\"]\n",
            ),
            (
                "feed/main.py",
                "import os\napi: FastAPI = FastAPI(title='x')\n@api.get(\"/health\")\ndef h(): os.environ['DATABASE_URL']\n",
            ),
        ],
    ),
    (
        "python-flask-factory",
        &[
            ("requirements.txt", "flask\ngunicorn\n"),
            (
                "shop/__init__.py",
                "from flask import Flask\n\ndef create_app():\n    app = Flask(__name__)\n    return app\n",
            ),
        ],
    ),
    (
        "procfile-python",
        &[
            (
                "Procfile",
                "# heroku\nrelease: python manage.py migrate\nweb: gunicorn shop.wsgi --log-file -\nworker: celery -A shop worker\n",
            ),
            ("requirements.txt", "django\ngunicorn\ncelery\nredis\n"),
            ("manage.py", ""),
            ("shop/wsgi.py", ""),
        ],
    ),
    ("procfile-only", &[("Procfile", "web: bin/serve --listen 0.0.0.0:${PORT}\nclock_1: bin/clock\n")]),
    ("procfile-worker-only", &[("Procfile", "worker: ./work\n")]),
    ("static-public", &[("public/index.html", "<p>")]),
    ("static-root", &[("index.html", "<p>")]),
    ("go", &[("go.mod", "module example.com/shop\n"), ("main.go", "os.Getenv(\"PORT\")")]),
    (
        "evil\u{1b}[31m names",
        &[
            (
                "package.json",
                "{\"name\":\"\\u0000\\n[app]\",\"main\":\"a';\\n rm.js\",\"scripts\":{\"start\":\"node a\\nb = 1\"}}",
            ),
            ("..x.db", ""),
        ],
    ),
];

#[test]
fn drafts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/init");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&dir);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, files) in FIXTURES {
            let draft = guess(&folder(name, files)).unwrap_or_else(|error| panic!("{name}: {error}"));
            if let Err(errors) = Config::parse(&draft.toml, "klar.toml", &EnvName::default()) {
                panic!("{name}: {errors}\n{}", draft.toml);
            }
            let keys = draft.toml.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
            let reasons = draft.toml.lines().filter(|line| line.starts_with("# because "));
            assert_eq!(keys.count(), draft.guesses.len(), "{name}: {}", draft.toml);
            assert_eq!(reasons.count(), draft.guesses.len(), "{name}: {}", draft.toml);
            assert!(!draft.toml.contains("hunter2") && !draft.asks.concat().contains("hunter2"), "{name}");
            let asks: String = draft.asks.iter().map(|ask| format!("- {ask}\n")).collect();
            insta::assert_snapshot!(
                name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
                format!("{}\nASKS\n{asks}", draft.toml)
            );
        }
    });
}

#[test]
fn what_cannot_be_guessed_says_what_to_do() {
    let empty = folder("nothing", &[("README.md", "# nothing")]);
    let error = guess(&empty).unwrap_err();
    assert!(matches!(error, InitError::Unknown(_)));
    assert!(error.hint().unwrap().contains("package.json"));
    assert!(matches!(guess(&empty.join("README.md")), Err(InitError::NotAFolder(_))));
    assert!(matches!(guess(&empty.join("nowhere")), Err(InitError::Unreadable { .. })));
}

#[test]
fn links_are_not_followed() {
    let dir = folder("links", &[("elsewhere/real.json", r#"{"scripts":{"start":"node x.js"}}"#)]);
    std::os::unix::fs::symlink("elsewhere/real.json", dir.join("package.json")).unwrap();
    std::os::unix::fs::symlink(".", dir.join("circle")).unwrap();
    assert!(matches!(guess(&dir), Err(InitError::Unknown(_))));
}

/// The apps of this repository: what klar guesses differs from what is written only where a person knows more.
#[test]
fn the_demos_are_recognised() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/lisens");
    let draft = guess(&demo).unwrap();
    for line in [
        "release = \"node migrate.js\"",
        "run = \"node server.js\"",
        "health = \"/healthz\"",
        "postgres = \"managed\"",
        "redis = \"managed\"",
    ] {
        assert!(draft.toml.contains(line), "{line} is not in\n{}", draft.toml);
    }
}
