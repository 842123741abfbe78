//! What instances use: all processes that come from a shim, from `/proc`.
//!
//! Limits of the kernel (cgroups) count the same, but are not there for everybody. A process that ends hands its time over
//! to the one that waits for it; one that nobody waits for takes its time with it, so a sum may fall. It is shown as what
//! it was at most.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use klar_base::InstanceId;
use klar_base::see::World;

use crate::host::TICKS;
use crate::sheet::{Kind, Sheet};

/// What is remembered of instances.
#[derive(Debug, Default)]
pub struct Processes {
    /// The most seconds that were seen.
    seconds: HashMap<InstanceId, f64>,
}

/// Of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Process {
    parent: u32,
    seconds: f64,
    pages: f64,
    threads: f64,
    /// Seconds after the machine started.
    began: f64,
}

impl Processes {
    /// All instances that run.
    pub fn collect(&mut self, world: &World, sheet: &mut Sheet) {
        let all = all();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, process) in &all {
            children.entry(process.parent).or_default().push(*pid);
        }
        let booted = crate::host::boot_time();
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        let mut seen = HashMap::new();
        for app in &world.apps {
            let (name, env) = (app.key.app.to_string(), app.key.env.to_string());
            for instance in &app.instances {
                let Some(shim) = instance.shim else { continue };
                let release = instance.release.as_ref().map(ToString::to_string).unwrap_or_default();
                let (service, short) = (instance.id.service.to_string(), instance.id.short());
                let labels = [
                    ("app", &*name),
                    ("env", &*env),
                    ("service", &*service),
                    ("instance", &*short),
                    ("release", &*release),
                ];
                let mut sum = Process::default();
                let mut count = 0.0;
                let mut began = f64::INFINITY;
                let mut waiting = children.get(&shim).cloned().unwrap_or_default();
                while let Some(pid) = waiting.pop() {
                    let Some(process) = all.get(&pid) else { continue };
                    sum.seconds += process.seconds;
                    sum.pages += process.pages;
                    sum.threads += process.threads;
                    count += 1.0;
                    began = began.min(process.began);
                    waiting.extend(children.get(&pid).into_iter().flatten());
                }
                let before = self.seconds.get(&instance.id).copied().unwrap_or_default();
                let seconds = sum.seconds.max(before);
                seen.insert(instance.id.clone(), seconds);
                for (name, kind, help, value) in [
                    (
                        "klar_instance_cpu_seconds_total",
                        Kind::Counter,
                        "Seconds of processors that its processes used.",
                        seconds,
                    ),
                    (
                        "klar_instance_memory_bytes",
                        Kind::Gauge,
                        "Memory that its processes have; what they share counts for each.",
                        sum.pages * page as f64,
                    ),
                    ("klar_instance_processes", Kind::Gauge, "Its processes.", count),
                    ("klar_instance_threads", Kind::Gauge, "Their threads.", sum.threads),
                    (
                        "klar_instance_ready",
                        Kind::Gauge,
                        "Whether it is ready for work.",
                        f64::from(instance.ready),
                    ),
                ] {
                    sheet.family(name, kind, help).point(&labels, value);
                }
                if let Some(booted) = booted.filter(|_| began.is_finite()) {
                    sheet
                        .family(
                            "klar_instance_start_time_seconds",
                            Kind::Gauge,
                            "When the first of its processes began, since 1970.",
                        )
                        .point(&labels, booted + began);
                }
            }
        }
        self.seconds = seen;
    }
}

fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // It may have ended since.
        Some((pid, read(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
    });
    found.collect()
}

/// `proc_pid_stat(5)`.
fn read(stat: &str) -> Option<Process> {
    // The name, in parentheses, may hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields are counted from 1 there, and the first word here is the third one.
    let field = |number: usize| words.get(number - 3)?.parse::<f64>().ok();
    Some(Process {
        parent: words.get(1)?.parse().ok()?,
        seconds: (field(14)? + field(15)? + field(16)? + field(17)?) / TICKS,
        threads: field(20)?,
        began: field(22)? / TICKS,
        pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read() {
        let line = "71 (a (b) c) S 7 71 71 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 3 0 123 1000000 250 18446744073709551615";
        assert_eq!(
            read(line),
            Some(Process { parent: 7, seconds: 2.0, pages: 250.0, threads: 3.0, began: 1.23 })
        );
        assert_eq!(read("71 (torn"), None);
        let own = all();
        assert!(own.get(&std::process::id()).is_some_and(|process| process.pages > 0.0));
    }
}
