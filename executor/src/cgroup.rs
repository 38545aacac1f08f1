//! What the control group of this container tells of its memory: how often its OOM killer struck, and the limit.
//!
//! Outside of a container these files tell of others too, or are not there; then nothing is concluded from them.

use std::fs;
use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";
/// The kernel's "no limit" in version 1: the largest number of pages, in bytes.
const UNLIMITED: u64 = 1 << 62;

/// How often so far.
pub fn oom_kills() -> Option<u64> {
    oom_kills_below(Path::new(ROOT))
}

pub fn struck_since(before: Option<u64>) -> bool {
    before.zip(oom_kills()).is_some_and(|(before, now)| now > before)
}

pub fn memory_limit_bytes() -> Option<u64> {
    memory_limit_below(Path::new(ROOT))
}

/// Of version 2, or else of version 1.
fn read(root: &Path, names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| fs::read_to_string(root.join(name)).ok())
}

fn oom_kills_below(root: &Path) -> Option<u64> {
    let text = read(root, ["memory.events", "memory/memory.oom_control"])?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn memory_limit_below(root: &Path) -> Option<u64> {
    let text = read(root, ["memory.max", "memory/memory.limit_in_bytes"])?;
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
            fs::write(root.path().join(name), content).unwrap();
        }
        root
    }

    fn told(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let root = root(files);
        (oom_kills_below(root.path()), memory_limit_below(root.path()))
    }

    #[test]
    fn both_versions_are_understood() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(told(&[("memory.events", events), ("memory.max", "536870912\n")]), (Some(2), Some(512 << 20)));
        assert_eq!(told(&[("memory.events", events), ("memory.max", "max\n")]), (Some(2), None));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        let old = |limit| [("memory/memory.oom_control", control), ("memory/memory.limit_in_bytes", limit)];
        assert_eq!(told(&old("1048576\n")), (Some(7), Some(1 << 20)));
        assert_eq!(told(&old("9223372036854771712\n")), (Some(7), None));
    }

    #[test]
    fn where_there_is_no_control_group_nothing_is_known() {
        assert_eq!(told(&[]), (None, None));
        assert_eq!(told(&[("memory.events", "oom 1\n"), ("memory.max", "")]), (None, None));
    }
}
