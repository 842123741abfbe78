//! Memory, CPU and process limits, with whatever the host has: cgroup v2, cgroup v1, or rlimits.
//!
//! Everything is written as plain files below one folder per host and one per instance. Only a process that may
//! write there (the spawner, or a core in a delegated cgroup) uses this module.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use klar_base::ByteSize;
use serde::{Deserialize, Serialize};

/// What one instance may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// All memory of all its processes.
    pub memory: Option<ByteSize>,
    /// Processor cores; 0.5 is half of one.
    pub cpu: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// How limits are enforced on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// One folder per instance below this one.
    V2(PathBuf),
    /// One folder per instance and controller: (controller, folder).
    V1(Vec<(&'static str, PathBuf)>),
    /// `setrlimit` on each process: memory per process only, no CPU limit.
    Rlimits,
}

const V1_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Backend {
    /// Finds what this process may use, and prepares it. `name` tells hosts apart that share a machine.
    pub fn detect(name: &str) -> Self {
        Self::detect_below(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"), name)
    }

    fn detect_below(mount: &Path, own: &Path, name: &str) -> Self {
        Self::v2(mount, own, name).or_else(|| Self::v1(mount, name)).unwrap_or(Self::Rlimits)
    }

    /// Version 2 wants the processes of a group with children to sit in leaves, so this process moves into a leaf
    /// of its own below the cgroup that it was started in (a unit with `Delegate=yes`), or below the root.
    fn v2(mount: &Path, own: &Path, name: &str) -> Option<Self> {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
        if !["memory", "pids"].iter().all(|wanted| controllers.split_whitespace().any(|c| c == *wanted)) {
            return None;
        }
        let own = fs::read_to_string(own).ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_matches('/');
        // One that has become another program in place sits in its leaf already.
        let path = path.strip_suffix(&format!("klar-{name}/own")).unwrap_or(path).trim_end_matches('/');
        let delegated = if path.is_empty() { mount.to_owned() } else { mount.join(path) };
        let base = delegated.join(format!("klar-{name}"));
        fs::create_dir_all(base.join("own")).ok()?;
        let enable = |folder: &Path| {
            ["+memory", "+pids", "+cpu"]
                .iter()
                .map(|controller| fs::write(folder.join("cgroup.subtree_control"), controller).is_ok())
                .fold((true, 0), |(first_two, n), ok| (first_two && (ok || n == 2), n + 1))
                .0
        };
        // Before the parent may hand controllers down it must be empty, unless it is the root.
        if delegated != mount {
            fs::write(base.join("own/cgroup.procs"), "0").ok()?;
        }
        (enable(&delegated) && enable(&base)).then_some(Self::V2(base))
    }

    fn v1(mount: &Path, name: &str) -> Option<Self> {
        let found: Vec<_> = V1_CONTROLLERS
            .into_iter()
            .filter_map(|controller| {
                let folder = mount.join(controller).join(format!("klar-{name}"));
                mount.join(controller).join("cgroup.procs").exists().then_some(())?;
                fs::create_dir_all(&folder).ok()?;
                Some((controller, folder))
            })
            .collect();
        found.iter().any(|(controller, _)| *controller == "memory").then_some(Self::V1(found))
    }

    /// One word for `klar doctor`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::V2(_) => "cgroup v2: memory, CPU and process limits for each instance",
            Self::V1(_) => "cgroup v1: memory, CPU and process limits for each instance",
            Self::Rlimits => "rlimits: memory per process only, no CPU or process limit",
        }
    }

    /// Makes a group for an instance with `limits`; the returned files take a process id (`0`: the writer).
    ///
    /// # Errors
    /// The file that could not be written, by name.
    pub fn create(&self, instance: &str, limits: &Limits) -> io::Result<Vec<PathBuf>> {
        let folders: Vec<(&str, PathBuf)> = match self {
            Self::V2(base) => vec![("", base.join(instance))],
            Self::V1(bases) => bases.iter().map(|(c, base)| (*c, base.join(instance))).collect(),
            Self::Rlimits => return Ok(Vec::new()),
        };
        for (controller, folder) in &folders {
            fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
            for (of, file, value) in self.settings(limits) {
                if of == *controller {
                    let path = folder.join(file);
                    fs::write(&path, value).map_err(|error| named(&path, &error))?;
                }
            }
        }
        Ok(folders.into_iter().map(|(_, folder)| folder.join("cgroup.procs")).collect())
    }

    /// (controller, file, value) for each limit, in the words of this version.
    fn settings(&self, limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
        const PERIOD_US: u64 = 100_000;
        let quota_us = limits.cpu.map(|cores| (cores * PERIOD_US as f64).max(1_000.0) as u64);
        let mut settings = Vec::new();
        match self {
            Self::V2(_) => {
                settings.extend(limits.memory.map(|size| ("", "memory.max", size.0.to_string())));
                settings.extend(quota_us.map(|quota| ("", "cpu.max", format!("{quota} {PERIOD_US}"))));
                settings.extend(limits.pids.map(|pids| ("", "pids.max", pids.to_string())));
            }
            Self::V1(_) => {
                settings.extend(
                    limits.memory.map(|size| ("memory", "memory.limit_in_bytes", size.0.to_string())),
                );
                settings.extend(quota_us.map(|_| ("cpu", "cpu.cfs_period_us", PERIOD_US.to_string())));
                settings.extend(quota_us.map(|quota| ("cpu", "cpu.cfs_quota_us", quota.to_string())));
                settings.extend(limits.pids.map(|pids| ("pids", "pids.max", pids.to_string())));
            }
            Self::Rlimits => {}
        }
        settings
    }

    /// What a group uses and whether the kernel has killed in it: (bytes, kills for lack of memory).
    pub fn usage(&self, instance: &str) -> Option<(u64, u64)> {
        let (bytes, events) = match self {
            Self::V2(base) => {
                (base.join(instance).join("memory.current"), base.join(instance).join("memory.events"))
            }
            Self::V1(bases) => {
                let folder = bases.iter().find(|(c, _)| *c == "memory")?.1.join(instance);
                (folder.join("memory.usage_in_bytes"), folder.join("memory.oom_control"))
            }
            Self::Rlimits => return None,
        };
        let bytes = fs::read_to_string(bytes).ok()?.trim().parse().ok()?;
        let kills = fs::read_to_string(events)
            .ok()
            .and_then(|text| {
                text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            })
            .unwrap_or(0);
        Some((bytes, kills))
    }

    /// The processes that are left in a group.
    pub fn processes(&self, instance: &str) -> Vec<i32> {
        let folder = match self {
            Self::V2(base) => base.join(instance),
            Self::V1(bases) => match bases.first() {
                Some((_, base)) => base.join(instance),
                None => return Vec::new(),
            },
            Self::Rlimits => return Vec::new(),
        };
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes the group of an instance whose processes are gone. One that is not empty yet stays.
    pub fn remove(&self, instance: &str) {
        let folders: Vec<PathBuf> = match self {
            Self::V2(base) => vec![base.join(instance)],
            Self::V1(bases) => bases.iter().map(|(_, base)| base.join(instance)).collect(),
            Self::Rlimits => Vec::new(),
        };
        for folder in folders {
            // Busy or gone already: both are fine, the sweep at the next start tries again.
            let _ = fs::remove_dir(folder);
        }
    }

    /// The groups that exist, by instance.
    pub fn groups(&self) -> Vec<String> {
        let base = match self {
            Self::V2(base) => base,
            Self::V1(bases) => match bases.first() {
                Some((_, base)) => base,
                None => return Vec::new(),
            },
            Self::Rlimits => return Vec::new(),
        };
        let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
        entries
            .flatten()
            .filter(|entry| entry.path().is_dir() && entry.file_name() != "own")
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { memory: Some(ByteSize::mib(64)), cpu: Some(1.5), pids: Some(20) }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("klar-limits-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn version_2_writes_its_own_words() {
        let mount = folder("v2");
        fs::write(mount.join("cgroup.controllers"), "cpu io memory pids").unwrap();
        fs::create_dir_all(mount.join("system.slice/klar.service")).unwrap();
        fs::write(mount.join("own"), "0::/system.slice/klar.service\n").unwrap();
        let backend = Backend::detect_below(&mount, &mount.join("own"), "t");
        let base = mount.join("system.slice/klar.service/klar-t");
        assert_eq!(backend, Backend::V2(base.clone()));
        fs::write(mount.join("own"), "0::/system.slice/klar.service/klar-t/own\n").unwrap();
        let again = Backend::detect_below(&mount, &mount.join("own"), "t");
        assert_eq!(again, backend, "also by a process that has moved there already");
        let procs = backend.create("a.prod.api.1", &limits()).unwrap();
        assert_eq!(procs, [base.join("a.prod.api.1/cgroup.procs")]);
        let read = |file: &str| fs::read_to_string(base.join("a.prod.api.1").join(file)).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("pids.max"), "20");
        fs::write(base.join("a.prod.api.1/memory.current"), "4096\n").unwrap();
        fs::write(base.join("a.prod.api.1/memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        assert_eq!(backend.usage("a.prod.api.1"), Some((4096, 2)));
        assert_eq!(backend.groups(), ["a.prod.api.1"]);
        fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn version_1_writes_to_each_controller() {
        let mount = folder("v1");
        for controller in V1_CONTROLLERS {
            fs::create_dir_all(mount.join(controller)).unwrap();
            fs::write(mount.join(controller).join("cgroup.procs"), "").unwrap();
        }
        let backend = Backend::detect_below(&mount, Path::new("/nowhere"), "t");
        let procs = backend.create("a.prod.api.1", &limits()).unwrap();
        assert_eq!(procs.len(), 3);
        let read = |file: &str| fs::read_to_string(mount.join(file)).unwrap();
        assert_eq!(read("memory/klar-t/a.prod.api.1/memory.limit_in_bytes"), "67108864");
        assert_eq!(read("cpu/klar-t/a.prod.api.1/cpu.cfs_quota_us"), "150000");
        assert_eq!(read("pids/klar-t/a.prod.api.1/pids.max"), "20");
        fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn without_either_there_are_rlimits() {
        let mount = folder("none");
        assert_eq!(Backend::detect_below(&mount, Path::new("/nowhere"), "t"), Backend::Rlimits);
        assert!(Backend::Rlimits.create("a", &limits()).unwrap().is_empty());
        fs::remove_dir_all(mount).unwrap();
    }
}
