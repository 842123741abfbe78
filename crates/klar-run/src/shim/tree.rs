//! The processes that an app has started, by any way.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every process below `root` (not itself), children before grandchildren. As the first process of a namespace,
/// and as a subreaper, a shim is an ancestor of all of them.
pub fn descendants(root: i32) -> Vec<i32> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some(after_name) = stat.rfind(')').and_then(|end| stat.get(end + 2..)) else { continue };
        // A zombie is gone, only not yet collected.
        if after_name.starts_with('Z') {
            continue;
        }
        if let Some(parent) = after_name.split(' ').nth(1).and_then(|text| text.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Kills every descendant, again and again until none is left (one that forks meanwhile is caught in the next
/// round).
pub fn kill_all(root: i32) {
    const ROUNDS: usize = 50;
    for _ in 0..ROUNDS {
        let left = descendants(root);
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
