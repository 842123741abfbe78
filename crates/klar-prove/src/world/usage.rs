//! What a process and its children take of the machine, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A process tree at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time since its processes started, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory of all its processes, in bytes (RSS).
    pub memory: u64,
    /// The limit that the kernel holds it to, in bytes; `None` when there is none.
    pub memory_limit: Option<u64>,
    /// The processor cores that it may use at most: those of the machine, where nothing else is set.
    pub cores: f64,
    /// How often the kernel has made it wait because it had used its share.
    pub throttled: u64,
}

/// Nobody has more processes than this in an instance; who has is counted as far as this.
const MOST_PROCESSES: usize = 256;

/// What a process and its children use now; `None` when it is gone.
#[must_use]
pub fn of(pid: i32) -> Option<Usage> {
    let root = Path::new("/proc");
    let mut usage = Usage { cores: machine(), ..Usage::default() };
    let tree = family(root, pid);
    tree.first()?;
    for pid in &tree {
        // One that ended since it was listed takes nothing any more.
        let Some((cpu_ms, memory)) = one(root, *pid) else { continue };
        usage.cpu_ms += cpu_ms;
        usage.memory += memory;
    }
    let groups = groups(&fs::read_to_string(root.join(format!("{pid}/cgroup"))).unwrap_or_default());
    let rlimit = data_limit(&fs::read_to_string(root.join(format!("{pid}/limits"))).unwrap_or_default());
    let group = |files: &[&str]| number(&groups, files);
    // Version 1 says a number near 2^63 where it sets no limit.
    usage.memory_limit =
        group(&["memory.max", "memory.limit_in_bytes"]).filter(|max| *max < 1 << 60).or(rlimit);
    let quota = share(&groups);
    usage.cores = quota.map_or(usage.cores, |quota| quota.min(usage.cores));
    usage.throttled = throttled(&groups);
    Some(usage)
}

fn machine() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    f64::from(u32::try_from(cores).unwrap_or(u32::MAX))
}

/// A process and all below it.
fn family(root: &Path, pid: i32) -> Vec<i32> {
    let mut all = Vec::new();
    let mut waiting = vec![pid];
    while let Some(pid) = waiting.pop() {
        let tasks = fs::read_dir(root.join(format!("{pid}/task")));
        let Ok(tasks) = tasks else { continue };
        all.push(pid);
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        if all.len() >= MOST_PROCESSES {
            break;
        }
    }
    all
}

/// Processor time in milliseconds and resident bytes (proc(5): `stat`, fields 14 and 15; `VmRSS` in `status`).
fn one(root: &Path, pid: i32) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(root.join(format!("{pid}/stat"))).ok()?;
    let status = fs::read_to_string(root.join(format!("{pid}/status"))).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    // Linux counts in hundredths of a second towards programs, whatever it does inside.
    Some((ticks(&stat)? * 10, kilobytes * 1024))
}

/// The name of a process may have blanks and brackets in it: what counts comes after the last one.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The folders of the groups that a process is in, of both versions (cgroups(7)).
fn groups(text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let mount = Path::new("/sys/fs/cgroup");
        if controllers.is_empty() {
            found.push(mount.join(path));
        }
        found.extend(
            controllers.split(',').filter(|each| !each.is_empty()).map(|each| mount.join(each).join(path)),
        );
    }
    found
}

fn number(groups: &[PathBuf], files: &[&str]) -> Option<u64> {
    let all = groups.iter().flat_map(|group| files.iter().map(move |file| group.join(file)));
    all.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// How many cores the groups let it have.
fn share(groups: &[PathBuf]) -> Option<f64> {
    let second = |text: &str| -> Option<f64> {
        let (quota, period) = text.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    };
    groups.iter().find_map(|group| {
        if let Some(share) = fs::read_to_string(group.join("cpu.max")).ok().as_deref().and_then(second) {
            return Some(share);
        }
        let read = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<f64>().ok();
        let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    })
}

fn throttled(groups: &[PathBuf]) -> u64 {
    let counted = groups.iter().filter_map(|group| {
        let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok())
    });
    counted.max().unwrap_or(0)
}

/// Where there are no groups klar limits what each process may ask for (getrlimit(2), RLIMIT_DATA).
fn data_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max data size"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_with_its_children() {
        let own = i32::try_from(std::process::id()).unwrap();
        let alone = of(own).unwrap();
        assert!(alone.memory > 100_000 && alone.cores >= 0.01, "{alone:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(family(Path::new("/proc"), own).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of(pid), None, "it is gone");
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(ticks("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0"), Some(100));
        assert_eq!(ticks("12 (a"), None);
        let v1 = groups("9:memory:/klar-1/api.1\n3:cpu,cpuacct:/klar-1/api.1\n0::/x\n");
        let of = |text: &str| v1.iter().any(|path| path == Path::new(text));
        assert!(of("/sys/fs/cgroup/memory/klar-1/api.1") && of("/sys/fs/cgroup/cpuacct/klar-1/api.1"));
        assert!(of("/sys/fs/cgroup/x"));
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax data size             1048576   1048576   bytes\n";
        assert_eq!(data_limit(limits), Some(1_048_576));
        assert_eq!(data_limit("Max data size   unlimited unlimited bytes"), None);
    }

    #[test]
    fn limits_of_groups_are_read_from_their_files() {
        let folder = std::env::temp_dir().join(format!("klar-usage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let group = [folder.clone()];
        fs::write(folder.join("memory.max"), "max\n").unwrap();
        assert_eq!(number(&group, &["memory.max"]), None);
        fs::write(folder.join("memory.max"), "4096\n").unwrap();
        fs::write(folder.join("cpu.max"), "50000 100000\n").unwrap();
        fs::write(folder.join("cpu.stat"), "usage_usec 7\nnr_throttled 3\n").unwrap();
        assert_eq!(number(&group, &["memory.max"]), Some(4096));
        assert_eq!((share(&group), throttled(&group)), (Some(0.5), 3));
        fs::write(folder.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(share(&group), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
