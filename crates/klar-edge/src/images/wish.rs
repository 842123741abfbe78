//! Which image a request asks for: how wide (`?w=640`), and in which formats (`Accept`).

use http::header::{self, HeaderMap};
use http::{Method, Request};
use klar_base::images::{Format, ImageRules};

/// The parameter that names a width.
const WIDTH: &str = "w";

/// What is wanted of an image, as far as the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// In pixels, one of those that there are.
    pub width: Option<u32>,
    /// AVIF will do.
    pub avif: bool,
    /// WebP will do.
    pub webp: bool,
}

impl Wish {
    /// Reads a request; `None` when it may not be for an image, or can only be answered with the image as it is.
    pub fn of<B>(rules: &ImageRules, request: &Request<B>) -> Option<Self> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return None;
        }
        let headers = request.headers();
        let (avif, webp) = (accepts(headers, "image/avif"), accepts(headers, "image/webp"));
        // Browsers name these formats also when somebody opens a page.
        let is_for_image = (avif || webp) && !accepts(headers, "text/html");
        if format_of(request.uri().path()).is_none() && !is_for_image {
            return None;
        }
        let wish = Self { width: width(rules, request.uri().query()), avif, webp };
        (wish.width.is_some() || wish.avif || wish.webp).then_some(wish)
    }

    /// The formats in which an image of this one would be given, the best first, with the width of each.
    pub fn formats(&self, source: Format) -> impl Iterator<Item = Format> {
        let own = self.width.is_some() && source != Format::Gif;
        [(Format::Avif, self.avif), (Format::Webp, self.webp), (source, own)]
            .into_iter()
            .filter_map(|(format, will_do)| will_do.then_some(format))
            // WebP that nobody wants smaller stays what it is.
            .filter(move |format| *format != source || own)
    }
}

/// The format that a path promises by its ending, of those that are read.
pub fn format_of(path: &str) -> Option<Format> {
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => Some(Format::Jpeg),
        "png" => Some(Format::Png),
        "gif" => Some(Format::Gif),
        "webp" => Some(Format::Webp),
        _ => None,
    }
}

/// A query without the width: what an app may make something of.
pub fn without_width(query: &str) -> String {
    let others = query.split('&').filter(|part| part.split('=').next() != Some(WIDTH));
    others.collect::<Vec<_>>().join("&")
}

/// The next width that there is. What is wider than all of them is not scaled.
fn width(rules: &ImageRules, query: Option<&str>) -> Option<u32> {
    let mut named = query?.split('&').filter_map(|part| part.split_once('='));
    let (_, asked) = named.find(|(name, _)| *name == WIDTH)?;
    let is_number = !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit());
    let asked: u32 = asked.parse().ok().filter(|asked| is_number && *asked > 0)?;
    rules.widths.iter().copied().filter(|width| *width >= asked).min()
}

/// Whether a media type is named in so many words, and not refused (RFC 9110, section 12.5.1). A `*/*` says nothing of
/// what a visitor can show.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind))
            && !parts.any(|part| {
                let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                weight.is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
    const PAGE: &str = "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8";

    /// Each line: address, `Accept`, and what is wanted: the width, then formats.
    #[test]
    fn wishes() {
        for (target, accept, wanted) in [
            ("/a.jpg", "*/*", ""),
            ("/a.jpg", "", ""),
            ("/a.jpg?w=640", "*/*", "640"),
            ("/a.jpg?w=641", "*/*", "1280"),
            ("/a.jpg?w=1", "image/webp", "320 webp"),
            ("/a.jpg?w=1281", "*/*", ""),
            ("/a.jpg?w=4294967296", "*/*", ""),
            ("/a.jpg?w=0", "*/*", ""),
            ("/a.jpg?w=-5", "*/*", ""),
            ("/a.jpg?w=+5", "*/*", ""),
            ("/a.jpg?w=", "*/*", ""),
            ("/a.jpg?v=3&w=300", "*/*", "320"),
            ("/a.jpg?vw=300", "*/*", ""),
            ("/a.jpg?w=300&w=640", "*/*", "320"),
            ("/a.JPEG", BROWSER, "avif webp"),
            ("/a.png", "image/webp;q=0", ""),
            ("/a.png", "image/webp;q=0.1", "webp"),
            ("/a.png", "IMAGE/WEBP ; Q=1", "webp"),
            // Without an ending it is an image if an image is asked for.
            ("/uploads/17", BROWSER, "avif webp"),
            ("/uploads/17?w=300", "*/*", ""),
            ("/uploads/17", PAGE, ""),
            ("/a.svg", PAGE, ""),
            ("/a.jpg", PAGE, "avif webp"),
            ("/a.jpg/b?w=300", "*/*", ""),
        ] {
            let request = Request::get(target).header("accept", accept).body(()).unwrap();
            let rules = ImageRules { widths: vec![320, 640, 1280] };
            let told = Wish::of(&rules, &request).map_or(String::new(), |wish| {
                let width = wish.width.map(|width| width.to_string());
                let formats = [("avif", wish.avif), ("webp", wish.webp)];
                let formats = formats.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned());
                width.into_iter().chain(formats).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(told, wanted, "{target} {accept}");
        }
        let rules = ImageRules { widths: vec![320] };
        let post = Request::post("/a.jpg?w=300").body(()).unwrap();
        assert_eq!(Wish::of(&rules, &post), None);
    }

    #[test]
    fn formats_in_their_order() {
        use Format::{Avif, Gif, Jpeg, Png, Webp};
        for (width, avif, webp, source, wanted) in [
            (None, true, true, Jpeg, &[Avif, Webp][..]),
            (Some(320), true, true, Png, &[Avif, Webp, Png]),
            (Some(320), false, false, Jpeg, &[Jpeg]),
            (Some(320), false, false, Gif, &[]),
            (None, false, true, Webp, &[]),
            (Some(320), false, true, Webp, &[Webp, Webp]),
        ] {
            let wish = Wish { width, avif, webp };
            assert_eq!(wish.formats(source).collect::<Vec<_>>(), wanted, "{wish:?} {source:?}");
        }
    }

    #[test]
    fn queries_without_the_width() {
        for (query, left) in [("w=3", ""), ("a=1&w=3&b=2", "a=1&b=2"), ("vw=3", "vw=3"), ("w", ""), ("", "")]
        {
            assert_eq!(without_width(query), left);
        }
    }
}
