//! The end of everything: a process that waits for this one to die, in whatever way, then kills what works below our folders, and
//! removes them.
//!
//! It holds the reading end of a pipe whose other end is ours alone; the kernel closes that one for us. What is killed is told by
//! its current folder, so that nothing has to be written down and nothing can be forgotten.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Its arguments are folders. PostgreSQL is asked first, because a kill would leave its shared memory behind.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
for folder; do
  pid=$(head -n 1 "$folder/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
done
round=0
while [ $round -lt 50 ]; do
  left=
  for process in /proc/[0-9]*; do
    at=$(readlink "$process/cwd" 2>/dev/null) || continue
    for folder; do
      case $at in "$folder" | "$folder"/*) left="$left ${process#/proc/}" ;; esac
    done
  done
  [ -z "$left" ] && break
  [ $round -gt 4 ] && kill -KILL $left 2>/dev/null
  round=$((round + 1))
  sleep 0.1
done
rm -rf -- "$@"
"#;

/// Keep it for as long as the folders are needed.
pub struct Watchdog {
    _child: Child,
}

impl Watchdog {
    pub fn over(folders: &[&Path]) -> Result<Self> {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .args(folders)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("can't start the watchdog")?;
        Ok(Self { _child: child })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PATIENCE, wait_for};
    use roadstead_cli::dev::processes::Process;

    #[tokio::test]
    async fn what_works_below_the_folder_ends_with_us() {
        let folder = tempfile::tempdir().unwrap().keep();
        let below = folder.join("a b");
        std::fs::create_dir(&below).unwrap();
        let mut child = Command::new("/bin/sleep").arg("1000").current_dir(&below).process_group(0).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        let watchdog = Watchdog::over(&[&folder]).unwrap();
        assert!(process.is_alive());
        // As the kernel does when this process ends.
        drop(watchdog);
        wait_for("the end of the child and its folder", PATIENCE, async || {
            match (process.is_alive(), folder.exists()) {
                (false, false) => Ok(()),
                left => Err(format!("(process, folder) are still there: {left:?}")),
            }
        })
        .await;
        child.wait().unwrap();
    }
}
