//! Three lines are enough, and several apps and environments live on one host.

use crate::common::{App, Host, SERVER};

#[test]
fn three_lines_run_an_app_with_every_default() {
    let host = Host::new();
    let toml = "app.name = \"shop\"\n[services.web]\nrun = \"node server.js\"\n";
    assert_eq!(toml.lines().count(), 3);
    let app = host.app("shop", &[("klar.toml", toml), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let (status, body) = app.get("/");
    assert_eq!(status, 200);
    assert!(body.starts_with("hello from web."), "{body}");
    assert_eq!(app.status()["services"][0]["instances"].as_array().unwrap().len(), 2);

    let all = app.klar(&["explain"]);
    for key in [
        "services.web.instances",
        "services.web.pids",
        "edge.timeout",
        "edge.csp",
        "deploy.bake",
        "logs.max_size",
    ] {
        assert!(all.contains(key), "{key} is not explained:\n{all}");
    }
    let one = app.klar(&["explain", "services.web.pids"]);
    assert!(one.contains("in force  1024"), "{one}");
}

fn staging<'a>(app: &App<'a>) -> App<'a> {
    App { host: app.host, folder: app.folder.clone(), https: app.https, env: "staging".into() }
}

#[test]
fn two_apps_and_two_environments_share_a_host() {
    let host = Host::new();
    let toml = |name: &str| {
        format!("[app]\nname = \"{name}\"\n[services.web]\nrun = \"node server.js\"\ninstances = 1\n")
    };
    let server = |says: &str| SERVER.replace("hello from ", &format!("{says} "));
    let shop = host.app("shop", &[("klar.toml", &toml("shop")), ("server.js", &server("shop"))]);
    let mut blog = host.app("blog", &[("klar.toml", &toml("blog")), ("server.js", &server("blog"))]);
    // One edge, one port for all of them.
    blog.write(
        "klar.toml",
        &std::fs::read_to_string(shop.folder.join("klar.toml")).unwrap().replace("\"shop\"", "\"blog\""),
    );
    blog.https = shop.https;
    shop.klar(&["up"]);
    blog.klar(&["up"]);
    shop.write("server.js", &server("shop-staging"));
    staging(&shop).klar(&["up"]);

    // One of them is `localhost`; what each is told leads to itself.
    for (app, says) in [(&shop, "shop web."), (&blog, "blog web.")] {
        let url = app.status()["url"].as_str().unwrap().to_owned();
        let name = url.trim_start_matches("https://").split(':').next().unwrap().to_owned();
        assert!(shop.get_as(&name, "/").1.starts_with(says), "{url}");
    }
    assert!(shop.get_as("shop.localhost", "/").1.starts_with("shop web."));
    assert!(shop.get_as("blog.localhost", "/").1.starts_with("blog web."));
    assert!(shop.get_as("staging.shop.localhost", "/").1.starts_with("shop-staging web."));

    staging(&shop).klar(&["down"]);
    assert!(!shop.answers("staging.shop.localhost"), "nobody speaks for it any more");
    assert!(shop.get_as("shop.localhost", "/").1.starts_with("shop web."), "the others go on");
    assert!(shop.get_as("blog.localhost", "/").1.starts_with("blog web."));
}

#[test]
fn two_that_start_the_same_klar_find_each_other() {
    let host = Host::new();
    let toml = |name: &str| format!("app.name = \"{name}\"\nservices.web.run = \"node server.js\"\n");
    let one = host.app("one", &[("klar.toml", &toml("one")), ("server.js", SERVER)]);
    let two = host.app("two", &[("klar.toml", &toml("two")), ("server.js", SERVER)]);
    std::thread::scope(|scope| {
        for app in [&one, &two] {
            scope.spawn(|| app.klar(&["up"]));
        }
    });
    for app in [&one, &two] {
        assert_eq!(app.status()["health"], "up");
    }
}
