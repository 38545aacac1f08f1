//! Workspaces that ended as blank as they began, kept for the attempts to come.
//!
//! ext4 gives the inode of what was deleted to nobody for a minute or more, and looks at each such inode on its way to a free one
//! (`recently_deleted` in Linux' fs/ext4/ialloc.c): where many short attempts make and remove folders, each takes longer than the one before.
//!
//! Invariant: what is handed on holds nothing of anybody's, neither content nor rights nor attributes. It is looked through when it is put
//! away, and again when it is taken, because steps of the same user may have come by.

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, flistxattr_query, fstat, openat, renameat_with};
use rustix::io::{Errno, read};
use rustix::process::geteuid;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const SPARES: &str = ".spare";
pub const WORK: &str = "work";
pub const ARTIFACTS: &str = "artifacts";
pub const INPUT: &str = "input.json";
/// What an execution without input finds as its input.
pub const NO_INPUT: &[u8] = b"null";

/// Makes a spare one `root`, which is below `under`. `false`: there is none.
pub fn take(under: &Path, root: &Path) -> io::Result<bool> {
    let Ok(spares) = fs::read_dir(under.join(SPARES)) else { return Ok(false) };
    for spare in spares {
        match renameat_with(CWD, spare?.path(), CWD, root, RenameFlags::NOREPLACE) {
            Ok(()) if is_blank(root) => return Ok(true),
            Ok(()) => super::remove_all(root)?,
            Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
            // Another attempt took it.
            Err(Errno::NOENT) => {}
            // Not every file system can rename without replacing.
            Err(_) => break,
        }
    }
    Ok(false)
}

/// Keeps `root` for another attempt. `false`: it is not blank, or can't be kept.
pub fn put_away(under: &Path, root: &Path) -> bool {
    let (true, Some(name)) = (is_blank(root), root.file_name()) else { return false };
    let spares = under.join(SPARES);
    let keep = || renameat_with(CWD, root, CWD, spares.join(name), RenameFlags::NOREPLACE).is_ok();
    keep() || (super::make_private(&spares).is_ok() && keep())
}

/// Two empty folders, and perhaps the input that says nothing.
fn is_blank(root: &Path) -> bool {
    let look = || {
        let root = open(CWD, root)?;
        if !is_private(&root, FileType::Directory)? {
            return Ok(false);
        }
        let mut folders = 0;
        for entry in entries(&root)? {
            let entry = entry?;
            let blank = match entry.file_name().to_bytes() {
                name if name == WORK.as_bytes() || name == ARTIFACTS.as_bytes() => {
                    folders += 1;
                    let folder = open(&root, entry.file_name())?;
                    is_private(&folder, FileType::Directory)? && entries(&folder)?.next().is_none()
                }
                name if name == INPUT.as_bytes() => {
                    let file = open(&root, entry.file_name())?;
                    is_private(&file, FileType::RegularFile)? && holds(&file, NO_INPUT)?
                }
                _ => false,
            };
            if !blank {
                return Ok(false);
            }
        }
        rustix::io::Result::Ok(folders == 2)
    };
    look().unwrap_or(false)
}

/// Never through a link, and never a pipe that would wait for a writer.
fn open(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// This user's own, for nobody else, under one name, and without attributes, of which access control lists are some.
fn is_private(file: &OwnedFd, kind: FileType) -> rustix::io::Result<bool> {
    let Stat { st_mode, st_uid, st_nlink, .. } = fstat(file)?;
    let is_folder = kind == FileType::Directory;
    let mode = if is_folder { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
    Ok(FileType::from_raw_mode(st_mode) == kind
        && Mode::from_raw_mode(st_mode) == mode
        && st_uid == geteuid().as_raw()
        && (is_folder || st_nlink == 1)
        && !matches!(flistxattr_query(file), Ok(1..)))
}

fn entries(folder: &OwnedFd) -> rustix::io::Result<impl Iterator<Item = rustix::io::Result<rustix::fs::DirEntry>>> {
    let entries = Dir::read_from(folder)?;
    Ok(entries
        .filter(|entry| !matches!(entry, Ok(entry) if [&b"."[..], b".."].contains(&entry.file_name().to_bytes()))))
}

fn holds(file: &OwnedFd, content: &[u8]) -> rustix::io::Result<bool> {
    let mut read_bytes = [0; 16];
    let len = read(file, &mut read_bytes)?;
    Ok(&read_bytes[..len] == content)
}

#[cfg(test)]
mod tests {
    use super::super::Workspace;
    use super::*;
    use roadstead_domain::ids::{AttemptId, ExecutionId};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn attempt() -> AttemptId {
        AttemptId { execution_id: ExecutionId::new(), attempt: 1 }
    }

    fn inode(path: &Path) -> u64 {
        fs::symlink_metadata(path).unwrap().ino()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_blank_workspace_serves_the_next_attempt() {
        let under = tempfile::tempdir().unwrap();
        let first = Workspace::create(under.path(), attempt()).unwrap();
        first.lay_input(br#"{"a":1}"#).unwrap();
        fs::write(&first.result, "1").unwrap();
        let folders = (inode(&first.work), inode(&first.artifacts));
        first.retire().unwrap();
        assert_eq!(names(under.path()), [SPARES]);

        let id = attempt();
        let second = Workspace::create(under.path(), id).unwrap();
        assert_eq!((inode(&second.work), inode(&second.artifacts)), folders);
        assert_eq!(names(second.work.parent().unwrap()), [ARTIFACTS, WORK], "no input and no result of before");
        second.lay_input(NO_INPUT).unwrap();
        let input = inode(&second.input);
        assert!(Workspace::create(under.path(), id).is_err(), "an attempt starts once");
        second.retire().unwrap();

        let third = Workspace::create(under.path(), attempt()).unwrap();
        third.lay_input(NO_INPUT).unwrap();
        assert_eq!((inode(&third.input), fs::read(&third.input).unwrap()), (input, NO_INPUT.to_vec()));
        third.lay_input(b"12345").unwrap();
        assert_eq!(fs::read(&third.input).unwrap(), b"12345");
        third.lay_input(b"true").unwrap();
        third.retire().unwrap();
        assert_eq!(names(&under.path().join(SPARES)), [""; 0], "another document as long as none is somebody's");
    }

    #[test]
    fn what_an_attempt_left_or_changed_is_neither_kept_nor_taken() {
        type Leave = fn(&Workspace);
        let ways: [(&str, Leave); 9] = [
            ("a file in its folder", |w| fs::write(w.work.join("x"), "").unwrap()),
            ("an artifact", |w| fs::create_dir(w.artifacts.join("x")).unwrap()),
            ("something else", |w| fs::write(w.root.join("x"), "").unwrap()),
            ("no folder", |w| fs::remove_dir(&w.work).unwrap()),
            ("a link for a folder", |w| {
                fs::remove_dir(&w.work).unwrap();
                symlink("/tmp", &w.work).unwrap();
            }),
            ("others' rights", |w| fs::set_permissions(&w.artifacts, fs::Permissions::from_mode(0o755)).unwrap()),
            ("others' rights to the whole", |w| {
                fs::set_permissions(&w.root, fs::Permissions::from_mode(0o701)).unwrap();
            }),
            ("a second name", |w| {
                w.lay_input(NO_INPUT).unwrap();
                fs::hard_link(&w.input, w.root.with_extension("second")).unwrap();
            }),
            ("a link for the input", |w| symlink("/etc", &w.input).unwrap()),
        ];
        for (what, leave) in ways {
            let under = tempfile::tempdir().unwrap();
            let workspace = Workspace::create(under.path(), attempt()).unwrap();
            leave(&workspace);
            assert!(!is_blank(&workspace.root), "{what}");

            // As if steps of another attempt had put it there.
            let spares = under.path().join(SPARES);
            fs::create_dir(&spares).unwrap();
            fs::rename(&workspace.root, spares.join("planted")).unwrap();
            let next = Workspace::create(under.path(), attempt()).unwrap();
            assert!(is_blank(&next.root), "{what}");
            assert_eq!(names(&spares), [""; 0], "{what}");

            leave(&next);
            next.retire().unwrap();
            assert_eq!(names(&spares), [""; 0], "{what}");
            assert!(!next.root.exists(), "{what}");
        }
    }

    #[test]
    fn an_attribute_is_content_too() {
        let under = tempfile::tempdir_in("/var/tmp").unwrap();
        let workspace = Workspace::create(under.path(), attempt()).unwrap();
        let set = rustix::fs::setxattr(&workspace.work, "user.left", b"x", rustix::fs::XattrFlags::empty());
        // A file system without attributes holds none.
        assert_eq!(is_blank(&workspace.root), set.is_err());
    }
}
