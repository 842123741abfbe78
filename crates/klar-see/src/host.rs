//! The machine, from `/proc`, by the names that `node_exporter` gives, so that what people have for it works.
//!
//! What cannot be read is left out: a container may hide any of these files.

use std::fs;

use crate::sheet::{Kind, Sheet};

/// Ticks in which the kernel counts, each second: `USER_HZ`, the same on every Linux that klar runs on.
pub const TICKS: f64 = 100.0;

/// All of it.
pub fn collect(sheet: &mut Sheet) {
    if let Ok(text) = fs::read_to_string("/proc/stat") {
        cpu(&text, sheet);
    }
    if let Ok(text) = fs::read_to_string("/proc/meminfo") {
        memory(&text, sheet);
    }
    if let Ok(text) = fs::read_to_string("/proc/loadavg") {
        load(&text, sheet);
    }
    if let Ok(text) = fs::read_to_string("/proc/diskstats") {
        disks(&text, sheet);
    }
    if let Ok(text) = fs::read_to_string("/proc/net/dev") {
        network(&text, sheet);
    }
    if let Ok(text) = fs::read_to_string("/proc/self/mounts") {
        file_systems(&text, sheet);
    }
}

fn cpu(text: &str, sheet: &mut Sheet) {
    const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let rest: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
        match (name.strip_prefix("cpu"), rest.first()) {
            (Some(number), _) if !number.is_empty() => {
                let family = sheet.family(
                    "node_cpu_seconds_total",
                    Kind::Counter,
                    "Seconds that each processor spent.",
                );
                for (mode, ticks) in MODES.iter().zip(&rest) {
                    family.point(&[("cpu", number), ("mode", mode)], ticks / TICKS);
                }
            }
            (None, Some(first)) => {
                let (name, help, kind) = match name {
                    "btime" => ("node_boot_time_seconds", "When the machine was started.", Kind::Gauge),
                    "ctxt" => ("node_context_switches_total", "Context switches.", Kind::Counter),
                    "processes" => ("node_forks_total", "Processes that were started.", Kind::Counter),
                    "procs_running" => ("node_procs_running", "Processes that can run.", Kind::Gauge),
                    "procs_blocked" => ("node_procs_blocked", "Processes that wait for a disk.", Kind::Gauge),
                    _ => continue,
                };
                sheet.single(name, kind, help, *first);
            }
            _ => {}
        }
    }
}

fn memory(text: &str, sheet: &mut Sheet) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(Ok(kilobytes))) = (words.next(), words.next().map(str::parse::<f64>)) else {
            continue;
        };
        let (name, help) = match name {
            "MemTotal:" => ("node_memory_MemTotal_bytes", "Memory that there is."),
            "MemFree:" => ("node_memory_MemFree_bytes", "Memory that is used for nothing."),
            "MemAvailable:" => ("node_memory_MemAvailable_bytes", "Memory that can be had without swapping."),
            "Buffers:" => ("node_memory_Buffers_bytes", "Memory for blocks of disks."),
            "Cached:" => ("node_memory_Cached_bytes", "Memory for files."),
            "SwapTotal:" => ("node_memory_SwapTotal_bytes", "Swap that there is."),
            "SwapFree:" => ("node_memory_SwapFree_bytes", "Swap that is free."),
            "Dirty:" => ("node_memory_Dirty_bytes", "Memory that has to be written to disks."),
            _ => continue,
        };
        sheet.single(name, Kind::Gauge, help, kilobytes * 1024.0);
    }
}

fn load(text: &str, sheet: &mut Sheet) {
    let names = [("node_load1", "1"), ("node_load5", "5"), ("node_load15", "15")];
    for ((name, _), word) in names.iter().zip(text.split_ascii_whitespace()) {
        if let Ok(value) = word.parse() {
            sheet.single(name, Kind::Gauge, "How many wanted to run, over so many minutes.", value);
        }
    }
}

fn disks(text: &str, sheet: &mut Sheet) {
    const SECTOR: f64 = 512.0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(device) = words.get(2).copied() else { continue };
        if ["loop", "ram", "zram"].iter().any(|prefix| device.starts_with(prefix)) {
            continue;
        }
        // Documentation/admin-guide/iostats.rst, counted from the word behind the name.
        for (place, scale, name, help) in [
            (0, 1.0, "node_disk_reads_completed_total", "Reads that are over."),
            (2, SECTOR, "node_disk_read_bytes_total", "Bytes read."),
            (4, 1.0, "node_disk_writes_completed_total", "Writes that are over."),
            (6, SECTOR, "node_disk_written_bytes_total", "Bytes written."),
            (9, 0.001, "node_disk_io_time_seconds_total", "Seconds in which there was something to do."),
        ] {
            if let Some(Ok(value)) = words.get(3 + place).map(|word| word.parse::<f64>()) {
                sheet.family(name, Kind::Counter, help).point(&[("device", device)], value * scale);
            }
        }
    }
}

fn network(text: &str, sheet: &mut Sheet) {
    for line in text.lines() {
        let Some((device, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<f64> =
            numbers.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        for (place, name, help) in [
            (0, "node_network_receive_bytes_total", "Bytes received."),
            (2, "node_network_receive_errs_total", "Errors while receiving."),
            (3, "node_network_receive_drop_total", "Packets that were dropped on their way in."),
            (8, "node_network_transmit_bytes_total", "Bytes sent."),
            (10, "node_network_transmit_errs_total", "Errors while sending."),
            (11, "node_network_transmit_drop_total", "Packets that were dropped on their way out."),
        ] {
            if let Some(value) = numbers.get(place) {
                sheet.family(name, Kind::Counter, help).point(&[("device", device.trim())], *value);
            }
        }
    }
}

fn file_systems(text: &str, sheet: &mut Sheet) {
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[device, mountpoint, kind, ..] = words.as_slice() else { continue };
        // What lies on a disk or on another machine; each device once, where it was mounted first.
        if !device.starts_with('/') && !matches!(kind, "zfs" | "nfs" | "nfs4" | "btrfs" | "overlay") {
            continue;
        }
        if kind == "squashfs" || !seen.insert(device) {
            continue;
        }
        let Ok(found) = nix::sys::statvfs::statvfs(mountpoint) else { continue };
        let block = found.fragment_size() as f64;
        for (name, help, value) in [
            ("node_filesystem_size_bytes", "How large it is.", found.blocks() as f64 * block),
            (
                "node_filesystem_avail_bytes",
                "What users may still write.",
                found.blocks_available() as f64 * block,
            ),
            ("node_filesystem_free_bytes", "What is free.", found.blocks_free() as f64 * block),
            ("node_filesystem_files", "Files that there may be.", found.files() as f64),
            ("node_filesystem_files_free", "Files that can still be made.", found.files_free() as f64),
        ] {
            sheet
                .family(name, Kind::Gauge, help)
                .point(&[("device", device), ("fstype", kind), ("mountpoint", mountpoint)], value);
        }
    }
}

/// When the machine was started, in seconds since 1970.
pub fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let mut sheet = Sheet::default();
        cpu(
            "cpu  9 9\ncpu0 100 0 50 1000 5 0 1 0 0 0\nintr 1 2 3\nctxt 42\nbtime 1700000000\nprocs_running 2\n",
            &mut sheet,
        );
        memory("MemTotal:       16 kB\nMemAvailable:    8 kB\nHugePages_Total: 0\nodd\n", &mut sheet);
        load("0.50 1.25 2.00 1/234 5678\n", &mut sheet);
        disks(
            "   8       0 sda 10 1 20 5 30 2 40 9 0 1500 14\n   7       0 loop0 1 1 1 1 1 1 1 1 1 1 1\n",
            &mut sheet,
        );
        network("Inter-|   Receive\n face |bytes\n  eth0: 100 2 0 3 0 0 0 0 200 4 1 0 0 0 0 0\n", &mut sheet);
        insta::assert_snapshot!(sheet.text());
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let mut sheet = Sheet::default();
        collect(&mut sheet);
        let text = sheet.text();
        for name in
            ["node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}", "node_memory_MemTotal_bytes ", "node_load1 "]
        {
            assert!(text.contains(name), "{name}\n{text}");
        }
    }
}
