//! Who descends from a process, as the kernel tells it.

use rustix::process::{Pid, getpid};
use std::collections::HashMap;
use std::fs;
use std::io;

/// A tree larger than this is killed in several rounds.
const MAX_FOUND: usize = 10_000;

/// The direct children of this process, zombies included.
pub fn children_of_self() -> Vec<Pid> {
    children(getpid()).unwrap_or_else(|_| children_by_scan(getpid()))
}

/// Everything below `root`, itself not included, parents before their children.
pub fn descendants(root: Pid) -> Vec<Pid> {
    walk(root, children).unwrap_or_else(|_| {
        // A kernel without `children` files (CONFIG_PROC_CHILDREN).
        let parents = parents();
        walk(root, |pid| io::Result::Ok(of_parent(&parents, pid))).unwrap_or_default()
    })
}

fn walk(root: Pid, children: impl Fn(Pid) -> io::Result<Vec<Pid>>) -> io::Result<Vec<Pid>> {
    let mut found = children(root)?;
    let mut at = 0;
    while at < found.len() && found.len() < MAX_FOUND {
        // One that is gone meanwhile has no children.
        found.extend(children(found[at]).unwrap_or_default());
        at += 1;
    }
    Ok(found)
}

/// Children are listed by the thread that made them.
fn children(pid: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = fs::read_to_string(task?.path().join("children"))?;
        found.extend(list.split_ascii_whitespace().filter_map(parse));
    }
    Ok(found)
}

fn children_by_scan(pid: Pid) -> Vec<Pid> {
    of_parent(&parents(), pid)
}

fn of_parent(parents: &HashMap<Pid, Pid>, pid: Pid) -> Vec<Pid> {
    parents.iter().filter(|(_, parent)| **parent == pid).map(|(child, _)| *child).collect()
}

/// The parent of every process.
fn parents() -> HashMap<Pid, Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return HashMap::new() };
    let parent = |name: &str| Some((parse(name)?, parent_in(&fs::read(format!("/proc/{name}/stat")).ok()?)?));
    processes.filter_map(|entry| parent(entry.ok()?.file_name().to_str()?)).collect()
}

/// The name in parentheses may hold anything: parentheses, bytes that are no text.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let behind_name = stat.rsplit(|byte| *byte == b')').next()?;
    parse(str::from_utf8(behind_name).ok()?.split_ascii_whitespace().nth(1)?)
}

fn parse(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in(b"7 (a) R 1 (\xff) S 42 7 7 0"), Pid::from_raw(42));
        assert_eq!(parent_in(b"nonsense"), None);
    }

    #[test]
    fn both_ways_to_ask_the_kernel_give_the_same_tree() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'printf \\377 > /proc/$$/comm; sleep 60 & echo up; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        let root = Pid::from_child(&shell);

        let listed = walk(root, children).unwrap();
        let parents = parents();
        let scanned = walk(root, |pid| io::Result::Ok(of_parent(&parents, pid))).unwrap();
        assert_eq!(listed, scanned);
        assert_eq!(listed.len(), 2);
        assert!(children_of_self().contains(&root));

        for pid in listed {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
