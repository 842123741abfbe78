//! What a visitor gets to read when there is no answer from the app: what happened, whose turn it is, and the id
//! to ask about. In Norwegian, Swedish or English, as a page or as JSON, and never with anything internal in it.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::answer::{Answer, Source};
use crate::framing::Refusal;

/// Why the edge answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// What is sent.
    pub status: StatusCode,
    /// More about it, in English, for those who have to mend it.
    pub detail: &'static str,
    /// The methods that would do instead (`Allow`), with a 405.
    allow: Option<&'static str>,
    /// Of a 403: what it is for.
    wants: Wants,
}

/// What a page says to do that the status alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// What the status says.
    Usual,
    /// A certificate would do.
    Certificate,
    /// Something else would: this looks like an attack.
    Harmless,
}

impl Reason {
    /// A status and why.
    pub const fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail, allow: None, wants: Wants::Usual }
    }

    /// 403: only visitors with a certificate are let in, and this one has none that will do.
    pub const fn certificate(detail: &'static str) -> Self {
        Self { wants: Wants::Certificate, ..Self::new(StatusCode::FORBIDDEN, detail) }
    }

    /// The firewall has stopped it.
    pub const fn attack(status: StatusCode) -> Self {
        let detail = "the firewall stopped this request: it looks like an attack";
        Self { wants: Wants::Harmless, ..Self::new(status, detail) }
    }

    /// 405: this method will not do, these would.
    pub const fn method(detail: &'static str, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Bad(detail) => Self::new(StatusCode::BAD_REQUEST, detail),
            Refusal::Late => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "the head of the request did not come in time")
            }
            Refusal::LongTarget => Self::new(StatusCode::URI_TOO_LONG, "the address is too long"),
            Refusal::Large => {
                Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large")
            }
            Refusal::Method => {
                Self::method("this method is not served here", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
            }
            Refusal::Unknown(detail) => Self::new(StatusCode::NOT_IMPLEMENTED, detail),
            Refusal::Version => {
                Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here")
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    English,
    Norwegian,
    Swedish,
}

/// A language, its tag, and the words that are the same on every page.
struct Words {
    tag: &'static str,
    id: &'static str,
}

impl Language {
    /// The first of ours that the visitor's browser names; they are sorted by preference in practice.
    fn of(accepted: Option<&HeaderValue>) -> Self {
        let accepted = accepted.and_then(|value| value.to_str().ok());
        accepted
            .unwrap_or_default()
            .split(',')
            .find_map(|item| match item.trim().get(..2)? {
                "nb" | "no" | "nn" => Some(Self::Norwegian),
                "sv" => Some(Self::Swedish),
                "en" => Some(Self::English),
                _ => None,
            })
            .unwrap_or(Self::English)
    }

    fn words(self) -> Words {
        match self {
            Self::English => Words { tag: "en", id: "If you report this, name the request:" },
            Self::Norwegian => Words { tag: "nb", id: "Melder du fra om dette, oppgi forespørselen:" },
            Self::Swedish => Words { tag: "sv", id: "Om du rapporterar detta, ange förfrågan:" },
        }
    }

    /// A title, and what to do, where a certificate is wanted.
    fn certificate_text(self) -> (&'static str, &'static str) {
        match self {
            Self::English => (
                "This needs a certificate",
                "Install the one you were given, close the browser, and choose it when you are asked for it.",
            ),
            Self::Norwegian => (
                "Her trengs et sertifikat",
                "Installer det du har fått, lukk nettleseren, og velg det når du blir spurt.",
            ),
            Self::Swedish => (
                "Här behövs ett certifikat",
                "Installera det du har fått, stäng webbläsaren och välj det när du blir tillfrågad.",
            ),
        }
    }

    /// A title, and what to do, where the firewall has stopped a request.
    fn attack_text(self) -> (&'static str, &'static str) {
        match self {
            Self::English => (
                "This was stopped",
                "It looked like an attack. If it was none, say it in other words, or report it with the number below.",
            ),
            Self::Norwegian => (
                "Dette ble stoppet",
                "Det så ut som et angrep. Var det ikke det, si det med andre ord, eller meld fra med nummeret under.",
            ),
            Self::Swedish => (
                "Detta stoppades",
                "Det såg ut som ett angrepp. Var det inte det, säg det med andra ord, eller rapportera det med numret nedan.",
            ),
        }
    }

    /// A title, and what to do.
    fn text(self, status: StatusCode) -> (&'static str, &'static str) {
        use Language::{English, Norwegian, Swedish};
        match (status.as_u16(), self) {
            (403, English) => ("That came from another site", "Open this site itself, and do it from there."),
            (403, Norwegian) => {
                ("Det kom fra et annet nettsted", "Åpne dette nettstedet selv, og gjør det derfra.")
            }
            (403, Swedish) => {
                ("Det kom från en annan webbplats", "Öppna den här webbplatsen själv och gör det därifrån.")
            }
            (404, English) => {
                ("There is nothing here", "Check the address, or go back to where you came from.")
            }
            (404, Norwegian) => ("Her er det ingenting", "Sjekk adressen, eller gå tilbake dit du kom fra."),
            (404, Swedish) => {
                ("Här finns ingenting", "Kontrollera adressen, eller gå tillbaka dit du kom ifrån.")
            }
            (408 | 413 | 414 | 431, English) => {
                ("That was too much or too slow", "Send less, or send it faster, and try again.")
            }
            (408 | 413 | 414 | 431, Norwegian) => {
                ("Det ble for mye eller for tregt", "Send mindre eller raskere, og prøv igjen.")
            }
            (408 | 413 | 414 | 431, Swedish) => {
                ("Det blev för mycket eller för långsamt", "Skicka mindre eller snabbare, och försök igen.")
            }
            (502, English) => (
                "That did not work",
                "The fault is ours, and it was noted. Check whether it was done before you do it again.",
            ),
            (502, Norwegian) => (
                "Det gikk ikke",
                "Feilen er vår, og den er notert. Sjekk om det ble gjort før du gjør det på nytt.",
            ),
            (502, Swedish) => (
                "Det gick inte",
                "Felet är vårt, och det har noterats. Kontrollera om det blev gjort innan du gör om det.",
            ),
            (503, English) => {
                ("Back in a moment", "We cannot answer just now. Nothing was done. Please try again soon.")
            }
            (503, Norwegian) => {
                ("Straks tilbake", "Vi kan ikke svare akkurat nå. Ingenting ble gjort. Prøv igjen om litt.")
            }
            (503, Swedish) => {
                ("Strax tillbaka", "Vi kan inte svara just nu. Inget blev gjort. Försök igen om en stund.")
            }
            (504, English) => {
                ("That took too long", "It may have been done all the same. Check before you do it again.")
            }
            (504, Norwegian) => {
                ("Det tok for lang tid", "Det kan ha blitt gjort likevel. Sjekk før du gjør det på nytt.")
            }
            (504, Swedish) => {
                ("Det tog för lång tid", "Det kan ha blivit gjort ändå. Kontrollera innan du gör om det.")
            }
            (_, English) => ("That request was not understood", "Go back and try in another way."),
            (_, Norwegian) => ("Forespørselen ble ikke forstått", "Gå tilbake og prøv på en annen måte."),
            (_, Swedish) => ("Förfrågan kunde inte tolkas", "Gå tillbaka och försök på ett annat sätt."),
        }
    }
}

/// What a visitor would like to read, in the words of the request.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    accept: Option<HeaderValue>,
    language: Option<HeaderValue>,
}

impl Asked {
    /// Of a visitor who sent `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            accept: headers.get(header::ACCEPT).cloned(),
            language: headers.get(header::ACCEPT_LANGUAGE).cloned(),
        }
    }
}

/// The answer for `reason` to a visitor who asked so.
pub fn answer(reason: Reason, asked: &Asked, request_id: &str) -> Answer {
    let accept = asked.accept.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (body, kind) = if accept.contains("text/html") {
        (html(reason, Language::of(asked.language.as_ref()), request_id), "text/html; charset=utf-8")
    } else {
        (json(reason, request_id), "application/json")
    };
    let mut answer = Response::new(Source::Full(body.into()));
    *answer.status_mut() = reason.status;
    let out = answer.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if reason.status == StatusCode::SERVICE_UNAVAILABLE {
        out.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if let Some(allow) = reason.allow {
        out.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    // The page is ours alone, so it can be held to the strictest rules there are.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

fn json(reason: Reason, request_id: &str) -> String {
    let value = serde_json::json!({
        "error": reason.status.canonical_reason().unwrap_or("error"),
        "status": reason.status.as_u16(),
        "detail": reason.detail,
        "request_id": request_id,
    });
    format!("{value}\n")
}

fn html(reason: Reason, language: Language, request_id: &str) -> String {
    let Words { tag, id } = language.words();
    let (title, text) = match reason.wants {
        Wants::Usual => language.text(reason.status),
        Wants::Certificate => language.certificate_text(),
        Wants::Harmless => language.attack_text(),
    };
    let status = reason.status.as_u16();
    format!(
        r#"<!doctype html>
<html lang="{tag}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 2rem; padding: 0 1.5rem; }}
h1 {{ font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }}
small {{ display: block; margin-top: 2.5rem; opacity: .75; overflow-wrap: anywhere; }}
</style>
<main>
<h1>{title}</h1>
<p>{text}</p>
<small>{status} · {id} <code>{request_id}</code></small>
</main>
</html>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_visitors() {
        let table = [
            ("", Language::English),
            ("de, sv;q=0.8, en;q=0.5", Language::Swedish),
            ("nn-NO,nb;q=0.9", Language::Norwegian),
            ("en-GB,nb", Language::English),
        ];
        for (accepted, wanted) in table {
            let accepted = HeaderValue::from_static(accepted);
            assert_eq!(Language::of(Some(&accepted)), wanted, "{accepted:?}");
        }
    }

    #[test]
    fn programs_get_json_and_browsers_a_page() {
        let reason = Reason::new(StatusCode::BAD_GATEWAY, "it broke");
        let mut headers = HeaderMap::new();
        assert_eq!(answer(reason, &Asked::of(&headers), "id").headers()["content-type"], "application/json");
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let page = answer(reason, &Asked::of(&headers), "id");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    }
}
