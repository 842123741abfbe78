//! The app's Redis, asked for how much it is asked.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::World;

/// What one such question counts for itself: signing in, asking, leaving.
pub const OWN: u64 = 3;

/// How many commands the app's Redis has had since it started; nothing where there is none, or it does not answer.
pub async fn commands(world: &World) -> Option<u64> {
    let asking = ask(world.cache.as_deref()?);
    tokio::time::timeout(Duration::from_secs(3), asking).await.ok()?.ok()
}

/// Redis's protocol is text: a line for each command.
async fn ask(url: &str) -> io::Result<u64> {
    let wrong = || io::Error::other("no address of a Redis");
    let rest = url.strip_prefix("redis://").ok_or_else(wrong)?;
    let (login, place) = rest.rsplit_once('@').unwrap_or((":", rest));
    let place = place.split('/').next().unwrap_or_default();
    let place = if place.contains(':') { place.to_owned() } else { format!("{place}:6379") };
    let mut wire = tokio::net::TcpStream::connect(place).await?;
    let (user, password) = login.split_once(':').unwrap_or(("", login));
    let auth = match (user, password) {
        (_, "") => String::new(),
        ("", password) => format!("AUTH {password}\r\n"),
        (user, password) => format!("AUTH {user} {password}\r\n"),
    };
    wire.write_all(format!("{auth}INFO stats\r\nQUIT\r\n").as_bytes()).await?;
    let mut said = String::new();
    wire.take(64 * 1024).read_to_string(&mut said).await?;
    let count = said.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.and_then(|count| count.trim().parse().ok()).ok_or_else(wrong)
}
