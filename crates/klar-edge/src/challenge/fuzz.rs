//! An authority gets the text of its own token at its own host, and nobody gets anything else.

use klar_fuzz::Fuzz;

use super::*;

#[test]
fn only_the_very_path_is_answered() {
    let (host, token, text) = ("shop.example", "Zb0k-3_x", "Zb0k-3_x.print");
    let challenge = Challenge::Http { host: host.into(), token: token.into(), answer: text.into() };
    let all = Challenges::new(vec![challenge]).unwrap();
    Fuzz {
        name: "paths of ACME",
        seeds: &[
            b"shop.example\n/.well-known/acme-challenge/Zb0k-3_x",
            b"shop.example.\n/.well-known/acme-challenge/",
        ],
        words: &[b"/", b"..", b"%2f", b"Zb0k-3_x", b"\n", b".", b"shop.example", b"?", b"#"],
        longest: 100,
    }
    .run(|input| {
        let Ok(input) = std::str::from_utf8(input) else { return };
        let (asked, path) = input.split_once('\n').unwrap_or((input, ""));
        let is_it = path == format!("{FOLDER}{token}") && (asked == host || asked == format!("{host}."));
        assert_eq!(all.text(asked, path), is_it.then_some(text));
        assert!(all.certificate(asked).is_none());
    });
}
