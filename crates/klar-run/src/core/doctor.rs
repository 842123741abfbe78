//! What this host can and cannot do, and what that means.

use super::Core;
use crate::report::{Finding, Grade};
use crate::store::{self, Engine};

fn finding(topic: &str, grade: Grade, what: impl Into<String>, hint: Option<&str>) -> Finding {
    Finding { topic: topic.into(), grade, what: what.into(), hint: hint.map(Into::into) }
}

impl Core {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let description = &self.description;
        let mut found = vec![
            if description.root {
                finding("privilege", Grade::Good, "started as root: core, edge, each app and its databases have own users", None)
            } else {
                let hint = "start klar as root (`klar service install`) to give apps users of their own, process namespaces \
                            and ports below 1024";
                finding("privilege", Grade::Fair, "started without root: everything runs as one user", Some(hint))
            },
            finding(
                "limits",
                if description.limits.starts_with("cgroup") { Grade::Good } else { Grade::Fair },
                &description.limits,
                description.limits.starts_with("rlimits").then_some(
                    "start klar as root, or in a systemd unit with `Delegate=yes`, for limits on whole instances",
                ),
            ),
        ];
        let landlock = crate::sandbox::available();
        found.push(match landlock {
            0 => finding(
                "sandbox",
                Grade::Fair,
                "this kernel has no Landlock: apps may write wherever their user may",
                Some("Linux 5.13 or newer, with `landlock` among the security modules"),
            ),
            version => finding(
                "sandbox",
                Grade::Good,
                format!("Landlock version {version}: releases are read-only to apps"),
                None,
            ),
        });
        found.push(if description.namespaces {
            finding(
                "sandbox",
                Grade::Good,
                "each instance has a process namespace: nothing outlives it",
                None,
            )
        } else {
            finding(
                "sandbox",
                Grade::Fair,
                "no process namespaces: what outlives a killed instance is swept up",
                None,
            )
        });
        found.extend(self.edge_now().sandbox.iter().map(|line| finding("edge", Grade::Good, line, None)));
        found.extend(self.see_findings());
        found.push(finding(
            "state",
            Grade::Good,
            format!("everything is kept in {}", self.layout.root().display()),
            None,
        ));
        found.extend(disk(self.layout.root()));
        for engine in [Engine::Postgres, Engine::Redis] {
            found.push(match store::installed(engine) {
                Some(version) => {
                    finding("databases", Grade::Good, format!("{}: {version}", engine.name()), None)
                }
                None => finding(
                    "databases",
                    Grade::Fair,
                    format!(
                        "{} is not installed: `{} = \"managed\"` cannot be used",
                        engine.name(),
                        engine.name()
                    ),
                    Some(match engine {
                        Engine::Postgres => "apt-get install postgresql",
                        Engine::Redis => "apt-get install redis-server",
                    }),
                ),
            });
        }
        for (app, refused) in self.edge_now().vitals.refused_rules.iter() {
            let what = match refused.count {
                1 => format!("a rule of {app} does not run: {}", refused.first),
                count => format!("{count} rules of {app} do not run; the first: {}", refused.first),
            };
            let hint = "`logs/klar.log` of the state folder names them; all others run";
            found.push(finding("firewall", Grade::Fair, what, Some(hint)));
        }
        let keys: Vec<_> = self.host.borrow().apps.keys().cloned().collect();
        for key in keys {
            if self.lacks_shadow(&key) {
                let what =
                    format!("{key}: `waf_shadow` is on, and this machine has no Core Rule Set to look with");
                let hint = "`apt install modsecurity-crs`, or `klar waf add PATH`";
                found.push(finding("firewall", Grade::Fair, what, Some(hint)));
            }
            for (pattern, (goal, ratchet)) in self.goals(&key) {
                let (grade, what) = if ratchet.blocks(goal) {
                    (Grade::Good, format!("{key}: {pattern} was watched for long enough, and blocks now"))
                } else {
                    let so_far =
                        format!("about {} of {goal} requests in a row would have passed", ratchet.clean);
                    (Grade::Fair, format!("{key}: {pattern} is only watched yet: {so_far}"))
                };
                found.push(finding("firewall", grade, what, None));
            }
        }
        let dropped = self.edge_now().records_dropped;
        if dropped > 0 {
            found.push(finding(
                "edge",
                Grade::Fair,
                format!("{dropped} access records were dropped under load"),
                None,
            ));
        }
        found
    }
}

impl Core {
    /// How telemetry fares.
    fn see_findings(&self) -> Vec<Finding> {
        let see = self.see.borrow().status();
        let mut found: Vec<Finding> =
            see.sandbox.iter().map(|line| finding("see", Grade::Good, line, None)).collect();
        if let Some(trouble) = see.trouble {
            let hint = "`logs/klar.log` of the state folder says more; requests are served meanwhile";
            found.push(finding("see", Grade::Bad, format!("telemetry: {trouble}"), Some(hint)));
        }
        if see.frames_dropped > 0 {
            let what =
                format!("{} batches of access records did not reach telemetry in time", see.frames_dropped);
            found.push(finding("see", Grade::Fair, what, None));
        }
        found
    }
}

fn disk(path: &std::path::Path) -> Option<Finding> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let free = stat.blocks_available() * stat.fragment_size();
    let total = (stat.blocks() * stat.fragment_size()).max(1);
    let percent = free * 100 / total;
    let what = format!("{} GiB of {} GiB are free where klar keeps its state", free >> 30, total >> 30);
    // The seeds' limits: a target of under 70 % used, an alert above 85 %.
    Some(match percent {
        30.. => finding("disk", Grade::Good, what, None),
        15..30 => finding("disk", Grade::Fair, what, Some("free some space before it becomes urgent")),
        _ => finding(
            "disk",
            Grade::Bad,
            what,
            Some("free some space now: a full disk stops deploys and databases"),
        ),
    })
}
