//! The cheap checks go on by themselves: evidence ages, and somebody has to look again.
//!
//! A check reads what the app answers, so it is a process of its own, a short one with the lowest priority. The core
//! only starts it and never reads what it read.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use klar_base::AppKey;

use super::Core;

/// The first look comes soon after a start, when all else has found its place.
const FIRST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(120);

impl Core {
    /// Has each app checked, again and again.
    pub(super) async fn keep_checking(self: Rc<Self>) {
        tokio::time::sleep(FIRST).await;
        // A rig is checked by whoever has made it.
        while self.ports.is_none() {
            let keys: Vec<AppKey> = self.host.borrow().apps.keys().cloned().collect();
            for key in keys {
                self.check_once(&key).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn check_once(&self, key: &AppKey) {
        let current =
            self.host.borrow().apps.get(key).filter(|app| app.wanted).and_then(|app| app.current.clone());
        let (Some(release), Ok(me)) = (current, std::env::current_exe()) else { return };
        let files = self.layout.release(key, &release).join("files");
        let mut command = tokio::process::Command::new("nice");
        command
            .arg("-n")
            .arg("19")
            .arg(me)
            .args(["check", "--due", "--quiet", "--env"])
            .arg(key.env.as_str());
        command.arg("--state").arg(self.layout.root()).arg("-C").arg(files);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let said = match tokio::time::timeout(LIMIT, command.output()).await {
            // Not being ready is no failure of the check.
            Ok(Ok(output)) if matches!(output.status.code(), Some(0 | 1)) => return,
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("not done within {} s", LIMIT.as_secs()),
        };
        eprintln!("klar core: checking {key}: {said}");
    }
}
