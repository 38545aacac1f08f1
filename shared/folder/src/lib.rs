//! Removing a folder that steps filled, whatever its depth, its rights and its links.
//!
//! Invariant: a constant number of descriptors, a constant stack and no long path, since steps choose the depth. What lies deeper than a folder of the
//! top is renamed up to the top, and emptied there. Called by the executor for its own workspace, and by the worker for what killed executors left.

use rustix::fs::{AtFlags, CWD, Dir, DirEntry, Mode, OFlags, chmod, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Removes `root` with all that is in it. No link is followed.
pub fn remove_all(root: &Path) -> io::Result<()> {
    match unlinkat(CWD, root, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let top = open_up(CWD, root)?;
    let (mut lifted, mut idle_rounds) = (0, 0);
    // Until nothing is found: what is lifted while the top is read, the reading may or may not show. But not for as long as somebody adds to it.
    while idle_rounds < MAX_IDLE_ROUNDS {
        let before = lifted;
        if !clear(&top, &mut lifted)? {
            break;
        }
        idle_rounds = if lifted == before { idle_rounds + 1 } else { 0 };
    }
    Ok(unlinkat(CWD, root, AtFlags::REMOVEDIR)?)
}

/// In which nothing came up from below.
const MAX_IDLE_ROUNDS: u32 = 16;

/// Answers whether there was anything in `top`. What can't be removed does not keep the rest.
fn clear(top: &OwnedFd, lifted: &mut u64) -> rustix::io::Result<bool> {
    let (mut is_found, mut failure) = (false, None);
    for entry in entries(top)? {
        let entry = entry?;
        is_found = true;
        let removed = match remove(top, entry.file_name()) {
            Ok(false) => remove_full(top, entry.file_name(), lifted),
            removed => removed.map(drop),
        };
        failure = failure.or(failed(removed));
    }
    failure.map_or(Ok(is_found), Err)
}

/// Removes a folder of the top that is not empty.
fn remove_full(top: &OwnedFd, name: &CStr, lifted: &mut u64) -> rustix::io::Result<()> {
    let folder = open_up(top, name)?;
    let mut failure = None;
    for entry in entries(&folder)? {
        let entry = entry?;
        let removed = match remove(&folder, entry.file_name()) {
            Ok(false) => lift(&folder, entry.file_name(), top, lifted),
            removed => removed.map(drop),
        };
        failure = failure.or(failed(removed));
    }
    failure.map_or_else(|| remove(top, name).map(drop), Err)
}

/// What is gone by now is removed.
fn failed(removed: rustix::io::Result<()>) -> Option<Errno> {
    removed.err().filter(|error| *error != Errno::NOENT)
}

/// Renames a folder to a name that is free in `top`.
fn lift(at: &OwnedFd, name: &CStr, top: &OwnedFd, lifted: &mut u64) -> rustix::io::Result<()> {
    // A folder that gets another parent is written to.
    open_up(at, name)?;
    loop {
        *lifted += 1;
        match renameat(at, name, top, lifted.to_string()) {
            // Steps may have used this name.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            renamed => return renamed,
        }
    }
}

/// Removes a file, or a folder that is empty, which takes no right to what is in it; `false`: it is not.
fn remove(at: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
    let removed = match unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(at, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a folder for reading, after its owner was given all rights on it.
fn open_up(at: impl AsFd, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    let handle =
        openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if !Mode::from_raw_mode(fstat(&handle)?.st_mode).contains(Mode::RWXU) {
        // By `/proc`: a handle that needs no rights to be opened takes no fchmod. Where it is refused, what needs the rights says so.
        let _ = chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU);
    }
    openat(&handle, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn entries(folder: &OwnedFd) -> rustix::io::Result<impl Iterator<Item = rustix::io::Result<DirEntry>>> {
    let is_inside = |entry: &DirEntry| ![c".", c".."].contains(&entry.file_name());
    Ok(Dir::read_from(folder)?.filter(move |entry| entry.as_ref().map_or(true, is_inside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_folder_is_removed_however_deep_it_is() {
        let under = tempfile::tempdir().unwrap();
        let root = under.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut at = open_up(CWD, &root).unwrap();
        // Deeper than a thread's stack, a process's descriptors and a path reach.
        for _ in 0..20_000 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open_up(&at, "d").unwrap();
        }
        remove_all(&root).unwrap();
        assert_eq!(fs::read_dir(under.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_is_removed_whatever_is_in_it() {
        let under = tempfile::tempdir().unwrap();
        let (root, outside) = (under.path().join("root"), under.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "kept").unwrap();
        // Names that are given to what is lifted, and folders that lie side by side.
        for folder in ["1/1/1", "1/2/x", "2/1", "3/closed/below"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("file"), "x").unwrap();
            symlink(&outside, root.join(folder).join("link")).unwrap();
        }
        fs::write(root.join("4"), "x").unwrap();
        for closed in ["3/closed/below", "3/closed", "3", ""] {
            fs::set_permissions(root.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        remove_all(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(remove_all(&root).unwrap_err().kind(), io::ErrorKind::NotFound);

        symlink(&outside, &root).unwrap();
        remove_all(&root).unwrap();
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"kept");
    }

    #[test]
    fn the_owner_gets_the_rights_that_steps_took() {
        let under = tempfile::tempdir().unwrap();
        let closed = under.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        open_up(CWD, &closed).unwrap();
        assert_eq!(
            closed.metadata().unwrap().permissions().mode() & 0o777,
            0o700,
            "what root needn't have, others must"
        );

        symlink(under.path(), under.path().join("link")).unwrap();
        assert!(open_up(CWD, under.path().join("link")).is_err());
    }
}
