//! What the kernel knows of this process, under the names that Prometheus's own libraries use.
//!
//! Read when somebody asks for the metrics, and only then. Where there is no `/proc`, there are no such metrics.

use super::metrics::{PROCESS_CPU_SECONDS_TOTAL, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY_BYTES, PROCESS_THREADS};
use std::fs;

/// Clock ticks a second in `/proc`: fixed in Linux's interface to programs.
const TICKS_PER_SECOND: u64 = 100;

pub fn observe() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = field(&status, "VmRSS:") {
        metrics::gauge!(PROCESS_RESIDENT_MEMORY_BYTES).set((kib * 1024) as f64);
    }
    if let Some(threads) = field(&status, "Threads:") {
        metrics::gauge!(PROCESS_THREADS).set(threads as f64);
    }
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_ticks) {
        metrics::counter!(PROCESS_CPU_SECONDS_TOTAL).absolute(ticks / TICKS_PER_SECOND);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        metrics::gauge!(PROCESS_OPEN_FDS).set(open.count() as f64);
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time. They are counted from behind the name, which may hold anything, blanks and brackets too.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(field("Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t4\n", "VmRSS:"), Some(2048));
    }
}
