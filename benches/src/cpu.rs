//! CPU time of processes with all their descendants, from `/proc/PID/stat` (proc(5)).

use std::collections::HashMap;
use std::fs;

/// Clock ticks a second of `/proc`'s times: `USER_HZ`, 100 on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of the children that were waited for, and theirs.
    reaped_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |first: usize| -> Option<u64> {
        fields.get(first..first + 2)?.iter().map(|field| field.parse::<u64>().ok()).sum()
    };
    Some(Stat { parent: fields.get(1)?.parse().ok()?, own_ticks: ticks(11)?, reaped_ticks: ticks(13)? })
}

/// Seconds of CPU that each root and what descends from it has used up to now.
pub fn seconds(roots: &[(&'static str, u32)]) -> Vec<(&'static str, f64)> {
    let mut all = HashMap::new();
    if let Ok(entries) = fs::read_dir("/proc") {
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if let Some(stat) = stat(pid) {
                all.insert(pid, stat);
            }
        }
    }
    let belongs = |mut pid: u32, root: u32| {
        for _ in 0..64 {
            if pid == root {
                return true;
            }
            match all.get(&pid) {
                Some(stat) => pid = stat.parent,
                None => return false,
            }
        }
        false
    };
    roots
        .iter()
        .map(|&(name, root)| {
            let ticks: u64 = all
                .iter()
                .filter(|(pid, _)| belongs(**pid, root))
                .map(|(_, stat)| stat.own_ticks + stat.reaped_ticks)
                .sum();
            (name, ticks as f64 / TICKS_PER_SECOND)
        })
        .collect()
}

/// Seconds of CPU that this process's children took, and theirs, of those that were waited for.
pub fn reaped_seconds() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| stat.reaped_ticks as f64 / TICKS_PER_SECOND)
}

/// Microseconds of CPU per operation between two readings, by process.
pub fn micros_per_operation(
    before: &[(&'static str, f64)],
    after: &[(&'static str, f64)],
    operations: f64,
) -> Vec<(&'static str, f64)> {
    before.iter().zip(after).map(|(b, a)| (b.0, (a.1 - b.1) * 1e6 / operations.max(1.0))).collect()
}

/// Resident set of a process in MiB; `peak`: the largest it ever was.
pub fn resident_mib(pid: u32, peak: bool) -> Option<f64> {
    let wanted = if peak { "VmHWM:" } else { "VmRSS:" };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(wanted))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
