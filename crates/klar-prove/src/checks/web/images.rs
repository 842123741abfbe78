//! Images: in formats of today, smaller for it, and with their size in the page.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::those;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::crawl::{Tag, tags};
use crate::world::http::{Answer, Ask};

/// Formats, bytes and dimensions of images.
pub struct Images;

/// The images of the pages.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    images: Vec<Image>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    page: String,
    path: String,
    /// Whether the page states its width and height.
    sized: bool,
    /// PNG, JPEG or GIF of a size that is worth a thought; else it is an icon or a drawing.
    counts: bool,
    bytes: usize,
    /// What a browser gets that accepts WebP and AVIF: media type and bytes.
    modern: Option<(String, usize)>,
}

const ROW: &str = "perf.image-optimization";
const SMALL: usize = 4096;
const MOST: usize = 40;
const ACCEPT: &str = "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8";

impl Probe for Images {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "images",
        version: 1,
        question: "Do browsers get images in formats of today, and know their size beforehand?",
        does: "Reads the images out of the pages, asks for each as a browser does that takes WebP and AVIF, and compares it with the original.",
        shows: &[(ROW, "format"), (ROW, "bytes"), (ROW, "dimensions")],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("old-images", (ROW, "format")),
            Fault::Foil("large-images", (ROW, "bytes")),
            Fault::Foil("no-dimensions", (ROW, "dimensions")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let crawl = world.crawl().await?;
        let origin = world.site()?.origin().clone();
        let mut found: BTreeMap<String, Image> = BTreeMap::new();
        for (page, answer) in &crawl.pages {
            for (tag, sources) in pictures(&tags(&answer.text())) {
                let path_of = |reference: &str| origin.path_of(page, reference);
                let Some(path) = tag.get("src").and_then(path_of) else { continue };
                if found.len() >= MOST || found.contains_key(&path) {
                    continue;
                }
                let Ok(original) = world.ask(Ask::get(&path).with("accept", "image/png,image/jpeg")).await
                else {
                    continue;
                };
                let like: Vec<String> = sources.iter().filter_map(|source| path_of(source)).collect();
                let modern = modern(&world, &path, &like).await;
                let raster =
                    ["image/png", "image/jpeg", "image/gif"].contains(&original.media_type().as_str());
                let image = Image {
                    page: page.chars().take(200).collect(),
                    path: path.chars().take(200).collect(),
                    sized: tag.get("width").is_some_and(is_number)
                        && tag.get("height").is_some_and(is_number),
                    counts: raster && original.body.len() >= SMALL,
                    bytes: original.body.len(),
                    modern: modern.map(|answer| (answer.media_type(), answer.body.len())),
                };
                found.insert(path, image);
            }
        }
        Ok(Seen { images: found.into_values().collect() })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let of = |part,
                  counts: &dyn Fn(&Image) -> bool,
                  good: &dyn Fn(&Image) -> bool,
                  told: &dyn Fn(&Image) -> String| {
            let counted: Vec<&Image> = seen.images.iter().filter(|image| counts(image)).collect();
            let bad: Vec<String> =
                counted.iter().filter(|image| !good(image)).map(|image| told(image)).collect();
            if counted.is_empty() {
                let none = words!(
                    "no image in the pages as they are sent",
                    "ingen bilder i sidene slik de sendes",
                    "inga bilder i sidorna så som de skickas"
                );
                return Finding::unseen((ROW, part), none);
            }
            Finding::when(bad.is_empty(), (ROW, part), those(&bad, counted.len()))
        };
        let name = |image: &Image| format!("{} ({} B)", image.path, image.bytes);
        vec![
            of("format", &|image| image.counts, &|image| image.modern.is_some(), &name),
            of(
                "bytes",
                &|image| image.counts && image.modern.is_some(),
                &|image| image.modern.as_ref().is_some_and(|(_, bytes)| bytes * 10 <= image.bytes * 7),
                &|image| {
                    format!(
                        "{}: {} B, {} B",
                        image.path,
                        image.bytes,
                        image.modern.as_ref().map_or(0, |(_, bytes)| *bytes)
                    )
                },
            ),
            of("dimensions", &|_| true, &|image| image.sized, &|image| {
                format!("{} in {}", image.path, image.page)
            }),
        ]
    }
}

fn is_number(value: &str) -> bool {
    value.trim().parse::<f64>().is_ok()
}

/// Each image of a page, and what its `picture` has for browsers of today.
fn pictures(tags: &[Tag]) -> Vec<(Tag, Vec<String>)> {
    let mut found = Vec::new();
    let mut sources: Option<Vec<String>> = None;
    for tag in tags {
        match tag.name.as_str() {
            "picture" => sources = Some(Vec::new()),
            "/picture" => sources = None,
            "source" => {
                let is_modern =
                    tag.get("type").is_some_and(|kind| ["image/avif", "image/webp"].contains(&kind));
                if let (true, Some(sources), Some(set)) = (is_modern, &mut sources, tag.get("srcset")) {
                    sources.extend(
                        set.split(',').filter_map(|each| each.split_whitespace().next()).map(str::to_owned),
                    );
                }
            }
            "img" => found.push((tag.clone(), sources.clone().unwrap_or_default())),
            _ => {}
        }
    }
    found
}

/// What a browser of today gets: of the same name beside it, else whatever there is, else by asking for it.
async fn modern(world: &World, path: &str, sources: &[String]) -> Option<Answer> {
    let stem = |path: &str| {
        path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default().to_owned()
    };
    // The hash in a name differs between formats: without it, the beginning of the name says which size it is.
    let alike = |each: &&String| stem(each) == stem(path);
    let chosen = sources.iter().find(alike).or(sources.last()).map_or(path, String::as_str);
    let answer = world.ask(Ask::get(chosen).with("accept", ACCEPT)).await.ok()?;
    let good =
        answer.status.is_success() && ["image/avif", "image/webp"].contains(&answer.media_type().as_str());
    good.then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_read() {
        let page = "<picture><source type=image/webp srcset='/a.webp 1x, /b.webp 2x'><source srcset=/c.png><img src=/a.png></picture><img src=/d.png>";
        let found: Vec<(Option<String>, Vec<String>)> = pictures(&tags(page))
            .into_iter()
            .map(|(tag, sources)| (tag.get("src").map(str::to_owned), sources))
            .collect();
        let expected = vec![
            (Some("/a.png".to_owned()), vec!["/a.webp".to_owned(), "/b.webp".to_owned()]),
            (Some("/d.png".to_owned()), vec![]),
        ];
        assert_eq!(found, expected);
    }
}
