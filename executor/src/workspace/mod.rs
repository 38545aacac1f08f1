//! The attempt's folder: made at its start for this user alone, or a spare one; gone at its end.
//!
//! `work/` is the steps' current folder, `artifacts/` what they leave to be kept; the log spool lies beside them, where no step is pointed to.

mod spare;

use roadstead_domain::ids::AttemptId;
use roadstead_folder::remove_all;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Workspace {
    under: PathBuf,
    root: PathBuf,
    pub work: PathBuf,
    pub artifacts: PathBuf,
    pub input: PathBuf,
    pub result: PathBuf,
    /// Made by the log when it first needs it.
    pub spool: PathBuf,
}

impl Workspace {
    /// Fails when the folder exists: an attempt starts once.
    pub fn create(under: &Path, attempt: AttemptId) -> io::Result<Self> {
        let root = under.join(attempt.to_string());
        let workspace = Self {
            under: under.to_owned(),
            work: root.join(spare::WORK),
            artifacts: root.join(spare::ARTIFACTS),
            input: root.join(spare::INPUT),
            result: root.join("result.json"),
            spool: root.join("log"),
            root,
        };
        if !spare::take(under, &workspace.root)? {
            workspace.make()?;
        }
        Ok(workspace)
    }

    fn make(&self) -> io::Result<()> {
        if let Err(error) = make_private(&self.root) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&self.under)?;
            make_private(&self.root)?;
        }
        make_private(&self.work)?;
        make_private(&self.artifacts)
    }

    /// Lays a document that is at hand as the input.
    pub fn lay_input(&self, document: &[u8]) -> io::Result<()> {
        let lies_there = document == spare::NO_INPUT && self.input.exists();
        if lies_there { Ok(()) } else { self.create_input()?.write_all(document) }
    }

    /// The input file, empty, for writing.
    pub fn create_input(&self) -> io::Result<File> {
        let create = || File::options().write(true).create_new(true).mode(0o600).open(&self.input);
        match create() {
            // A spare workspace's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&self.input)?;
                create()
            }
            created => created,
        }
    }

    /// Nothing in it is needed any more: it is kept for another attempt when nothing is in it, and removed otherwise.
    pub fn retire(&self) -> io::Result<()> {
        // What an attempt leaves that fills nothing else.
        let _ = fs::remove_file(&self.result);
        let _ = fs::remove_dir(&self.spool);
        if fs::symlink_metadata(&self.input).is_ok_and(|input| input.len() != spare::NO_INPUT.len() as u64) {
            let _ = fs::remove_file(&self.input);
        }
        if spare::put_away(&self.under, &self.root) { Ok(()) } else { remove_all(&self.root) }
    }
}

pub fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

/// Writes a step's file below `folder`. Folders on the way are made; a link on the way is refused, because another step may have
/// laid it. A script (`#!`) is made executable.
pub fn place(folder: &Path, path: &str, content: &str) -> io::Result<()> {
    let (parents, name) = path.rsplit_once('/').map_or((None, path), |(parents, name)| (Some(parents), name));
    let mut at = open_folder(CWD, folder)?;
    for parent in parents.into_iter().flat_map(|parents| parents.split('/')) {
        match mkdirat(&at, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => at = open_folder(&at, parent)?,
            Err(error) => return Err(error.into()),
        }
    }
    match unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(openat(&at, name, flags, Mode::from_raw_mode(mode))?).write_all(content.as_bytes())
}

fn open_folder(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::ids::ExecutionId;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn workspace(under: &Path) -> Workspace {
        Workspace::create(under, AttemptId { execution_id: ExecutionId::new(), attempt: 1 }).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_private_made_once_and_removed_whole() {
        let under = tempfile::tempdir().unwrap();
        let root = under.path().join("not/yet");
        let id = AttemptId { execution_id: ExecutionId::new(), attempt: 2 };
        let workspace = Workspace::create(&root, id).unwrap();
        assert_eq!(mode(&root.join(id.to_string())), 0o700);
        assert!(Workspace::create(&root, id).is_err(), "an attempt starts once");

        let stubborn = workspace.work.join("deep/deeper");
        fs::create_dir_all(&stubborn).unwrap();
        fs::write(stubborn.join("file"), "x").unwrap();
        symlink(under.path(), workspace.work.join("link")).unwrap();
        fs::set_permissions(&stubborn, Permissions::from_mode(0o000)).unwrap();
        workspace.retire().unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        assert!(under.path().exists(), "a link is removed, not followed");
    }

    #[test]
    fn files_get_their_folders_their_modes_and_no_way_out() {
        let under = tempfile::tempdir().unwrap();
        let workspace = workspace(under.path());
        let work = &workspace.work;
        place(work, "a/b/run.sh", "#!/bin/sh\n").unwrap();
        place(work, "a/data.txt", "1").unwrap();
        place(work, "a/data.txt", "2").unwrap();
        assert_eq!(mode(&work.join("a/b/run.sh")) & 0o100, 0o100);
        assert_eq!(mode(&work.join("a/data.txt")) & 0o111, 0);
        assert_eq!(fs::read(work.join("a/data.txt")).unwrap(), b"2");

        let outside = under.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, work.join("way")).unwrap();
        assert!(place(work, "way/x", "x").is_err());
        fs::write(outside.join("precious"), "kept").unwrap();
        symlink(outside.join("precious"), work.join("file")).unwrap();
        place(work, "file", "new").unwrap();
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
