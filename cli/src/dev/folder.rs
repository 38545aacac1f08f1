//! The data folder: what lies where in it, and that only one `roadstead dev` uses it at a time.

use super::error::DevError;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The locked data folder. The lock is held until this is dropped, and by no child.
pub struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    pub fn open(root: &Path) -> Result<Self, DevError> {
        make(root, 0o711)?;
        let root = root.canonicalize().map_err(DevError::io(root.display()))?;
        let lock = lock(&root)?;
        let folder = Self { root, _lock: lock };
        for private in [folder.logs(), folder.redis(), folder.s3(), folder.workspaces()] {
            make(&private, 0o700)?;
        }
        Ok(folder)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn redis(&self) -> PathBuf {
        self.root.join("redis")
    }

    pub fn s3(&self) -> PathBuf {
        self.root.join("s3")
    }

    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials.json")
    }

    /// Sourced by a shell, it leads everything to this stack.
    pub fn shell_environment(&self) -> PathBuf {
        self.root.join("env")
    }

    pub fn ledger(&self) -> PathBuf {
        self.root.join("processes.json")
    }

    /// A part's log. The one of the run before is kept beside it, so that two runs are the most that is ever kept.
    pub fn fresh_log(&self, part: &str) -> Result<PathBuf, DevError> {
        let log = self.logs().join(format!("{part}.log"));
        match fs::rename(&log, self.logs().join(format!("{part}.log.1"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DevError::io(log.display())(error)),
            _ => Ok(log),
        }
    }
}

/// Makes a folder with this mode, unless it is there.
pub fn make(folder: &Path, mode: u32) -> Result<(), DevError> {
    DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(DevError::io(folder.display()))
}

/// Writes a file that only its owner may read: complete under its name, or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DevError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(DevError::io(path.display()))
}

fn lock(root: &Path) -> Result<File, DevError> {
    let path = root.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(DevError::io(path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)
                .and_then(|()| write!(file, "{}", std::process::id()))
                .map_err(DevError::io(path.display()))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            Err(DevError::Busy { folder: root.display().to_string(), pid })
        }
        Err(TryLockError::Error(error)) => Err(DevError::io(path.display())(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&root.path().join("d")).unwrap();
        let second = Folder::open(&root.path().join("d"));
        assert!(matches!(second, Err(DevError::Busy { pid: Some(pid), .. }) if pid == std::process::id()));
        drop(folder);
        Folder::open(&root.path().join("d")).unwrap();
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.json");
        write_private(&path, b"longer content").unwrap();
        write_private(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_of_the_run_before_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        for run in ["first", "second", "third"] {
            let log = folder.fresh_log("api").unwrap();
            assert!(!log.exists());
            fs::write(log, run).unwrap();
        }
        assert_eq!(fs::read_to_string(folder.logs().join("api.log.1")).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.logs()).unwrap().count(), 2);
    }
}
