//! Workspaces that ended as blank as they began, kept for the attempts to come.
//!
//! ext4 gives the inode of what was deleted to nobody for a minute or more, and looks at each such inode on its way to a free one
//! (`recently_deleted` in Linux' fs/ext4/ialloc.c): where many short attempts make and remove folders, each takes longer than the one before.
//!
//! Invariant: what is handed on holds nothing of anybody's: no content, no space, no rights, no attributes. It is looked through when it
//! is put away, and again when it is taken, because steps of the same user may have come by.

use rustix::fs::{
    CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    flistxattr_query, fstat, futimens, ioctl_getflags, openat, renameat_with,
};
use rustix::io::{Errno, read};
use rustix::process::geteuid;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const SPARES: &str = ".spare";
pub const WORK: &str = "work";
pub const ARTIFACTS: &str = "artifacts";
pub const INPUT: &str = "input.json";
/// What an execution without input finds as its input.
pub const NO_INPUT: &[u8] = b"null";

/// How ext4 stores a file or folder: extents, or within the inode (`FS_EXTENT_FL`, `FS_INLINE_DATA_FL` in Linux' uapi/linux/fs.h). Any other flag is
/// somebody's wish, and what is made in a folder inherits it.
const STORAGE_FLAGS: IFlags = IFlags::from_bits_retain(0x0008_0000 | 0x1000_0000);

/// To the kernel (utimensat(2)): the time of now, and the time that it has.
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
const KEPT: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };

/// What `st_blocks` counts (stat(3type)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Makes a spare one `root`, which is below `under`. `false`: there is none.
pub fn take(under: &Path, root: &Path) -> io::Result<bool> {
    let Ok(spares) = open(CWD, under.join(SPARES), OFlags::DIRECTORY) else { return Ok(false) };
    for spare in entries(&spares)? {
        let name = spare?.file_name().to_owned();
        match renameat_with(&spares, name.as_c_str(), CWD, root, RenameFlags::NOREPLACE) {
            Ok(()) if is_blank(root) => {
                // It is as young as its attempt: whoever clears away what is old goes by that.
                let now = Timestamps { last_access: KEPT, last_modification: NOW };
                let _ = open(CWD, root, OFlags::DIRECTORY).and_then(|root| futimens(root, &now));
                return Ok(true);
            }
            // Where it can't be removed, the attempt's own can't be made.
            Ok(()) => drop(super::remove_all(root)),
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
    let keep = || {
        let spares = open(CWD, &spares, OFlags::DIRECTORY)?;
        renameat_with(CWD, root, spares, name, RenameFlags::NOREPLACE)
    };
    keep().is_ok() || (super::make_private(&spares).is_ok() && keep().is_ok())
}

/// Two empty folders, and perhaps the input that says nothing.
fn is_blank(root: &Path) -> bool {
    let look = || {
        let root = open(CWD, root, OFlags::empty())?;
        if !is_private(&root, FileType::Directory)? {
            return Ok(false);
        }
        let mut folders = 0;
        for entry in entries(&root)? {
            let entry = entry?;
            let blank = match entry.file_name().to_bytes() {
                name if name == WORK.as_bytes() || name == ARTIFACTS.as_bytes() => {
                    folders += 1;
                    let folder = open(&root, entry.file_name(), OFlags::empty())?;
                    is_private(&folder, FileType::Directory)? && entries(&folder)?.next().is_none()
                }
                name if name == INPUT.as_bytes() => {
                    let file = open(&root, entry.file_name(), OFlags::empty())?;
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
fn open(at: impl AsFd, name: impl rustix::path::Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// This user's own, for nobody else, under one name, as small as it was made, and without attributes, of which access control lists are some.
fn is_private(file: &OwnedFd, kind: FileType) -> rustix::io::Result<bool> {
    let Stat { st_mode, st_uid, st_nlink, st_blocks, st_blksize, .. } = fstat(file)?;
    let is_folder = kind == FileType::Directory;
    let mode = if is_folder { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
    Ok(FileType::from_raw_mode(st_mode) == kind
        && Mode::from_raw_mode(st_mode) == mode
        && st_uid == geteuid().as_raw()
        && (is_folder || st_nlink == 1)
        && u64::try_from(st_blocks).unwrap_or(u64::MAX).saturating_mul(STAT_BLOCK_BYTES)
            <= u64::try_from(st_blksize).unwrap_or(0)
        && !matches!(flistxattr_query(file), Ok(1..))
        // Not every file system has flags.
        && ioctl_getflags(file).map_or(true, |flags| flags.difference(STORAGE_FLAGS).is_empty()))
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
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::SystemTime;

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
        let ways: [(&str, Leave); 11] = [
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
            ("a file for the whole", |w| {
                super::super::remove_all(&w.root).unwrap();
                fs::write(&w.root, "").unwrap();
            }),
            ("space", |w| {
                w.lay_input(NO_INPUT).unwrap();
                let input = File::options().write(true).open(&w.input).unwrap();
                rustix::fs::fallocate(input, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
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
            let retired = next.retire();
            assert_eq!(names(&spares), [""; 0], "{what}");
            assert!(retired.is_err() || !next.root.exists(), "{what}");
        }
    }

    #[test]
    fn it_is_as_young_as_its_attempt_and_not_taken_through_a_link() {
        let under = tempfile::tempdir().unwrap();
        let first = Workspace::create(under.path(), attempt()).unwrap();
        File::open(&first.root).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        first.retire().unwrap();
        let second = Workspace::create(under.path(), attempt()).unwrap();
        assert!(second.root.metadata().unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);

        second.retire().unwrap();
        fs::rename(under.path().join(SPARES), under.path().join("elsewhere")).unwrap();
        symlink("elsewhere", under.path().join(SPARES)).unwrap();
        Workspace::create(under.path(), attempt()).unwrap();
        assert_eq!(names(&under.path().join("elsewhere")).len(), 1);
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
