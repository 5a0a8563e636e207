//! The cache on disk, laid out as `huggingface_hub` does, so that both share the files that either has fetched.
//! `models--org--name/` holds `blobs/<digest>`, `snapshots/<commit>/<path>` as links to them, and `refs/<branch>` with
//! the commit of each branch. A blob gets its name only when its bytes are right; until then it is `.incomplete`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checksum::{Checksum, Hasher};
use super::error::HubError;
use super::progress::{Interrupted, Progress};
use super::repository::RemoteFile;
use super::retry::pause;
use super::validate;

/// Interval of the checks whether another process has finished a blob.
const LOCK_EVERY: Duration = Duration::from_millis(50);
/// Bytes that are hashed at a time, small enough to notice an interrupt.
const CHUNK: usize = 1024 * 1024;

/// The cache of one repository.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    /// Returns the cache of `repository`, a name that [`validate::check_repository`] accepts.
    pub(super) fn new(root: &Path, repository: &str) -> Self {
        let name = format!("models--{}", repository.replace('/', "--"));
        Self { locks: root.join(".locks").join(&name), folder: root.join(name) }
    }

    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(checksum.id())
    }

    pub(super) fn partial(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", checksum.id()))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Locks a blob against other processes, including `huggingface_hub`, until the file is dropped.
    pub(super) fn lock(
        &self,
        checksum: &Checksum,
        interrupted: Interrupted,
        progress: &dyn Progress,
    ) -> Result<File, HubError> {
        let path = self.locks.join(format!("{}.lock", checksum.id()));
        let failed = |error: io::Error| HubError::cache(&path, &error);
        create_folder_of(&path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                progress.wait("another process fetches the same file", 0);
                told = true;
            }
            pause(LOCK_EVERY, interrupted)?;
        }
    }

    /// Links the file `path` of a snapshot to a blob.
    pub(super) fn link(&self, commit: &str, path: &str, checksum: &Checksum) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(path);
        let up = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{}", checksum.id()));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        create_folder_of(&link)?;
        let replaced = fs::remove_file(&link).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        match replaced.and_then(|()| symlink(&target, &link)) {
            // Another process has just made the same link: a path of a commit is always the same blob.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(|error| HubError::cache(&link, &error)),
        }
    }

    /// Records the commit of a branch.
    pub(super) fn pin(&self, branch: &str, commit: &str) -> Result<(), HubError> {
        if self.pinned(branch).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(branch);
        create_folder_of(&path)?;
        fs::write(&path, commit).map_err(|error| HubError::cache(&path, &error))
    }

    /// Returns the commit of a revision when it was last fetched.
    pub(super) fn pinned(&self, revision: &str) -> Option<String> {
        if validate::is_commit(revision) {
            return Some(revision.into());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| validate::is_commit(commit))
    }

    /// Returns the available files of a snapshot. A blob's name is its digest.
    pub(super) fn files(&self, commit: &str) -> Result<Vec<RemoteFile>, HubError> {
        let root = self.snapshot(commit);
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let failed = |error: io::Error| HubError::cache(&folder, &error);
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                } else {
                    files.extend(remote_file(&root, &entry.path()));
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// Returns a file of a snapshot, or None for a broken link.
fn remote_file(root: &Path, path: &Path) -> Option<RemoteFile> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let target = fs::read_link(path).ok();
    let id = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let digest = |digits| id.filter(|id| validate::is_hex(id, digits)).map(str::to_owned);
    let path = path.strip_prefix(root).ok()?.to_str()?.to_owned();
    Some(RemoteFile { path, size: metadata.len(), sha256: digest(64), blob_id: digest(40) })
}

/// Returns true if the file at `path` has the size and the digest.
pub(super) fn is_intact(
    path: &Path,
    size: u64,
    checksum: &Checksum,
    interrupted: Interrupted,
) -> Result<bool, HubError> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return Ok(false);
    }
    let mut file = File::open(path).map_err(|error| HubError::cache(path, &error))?;
    let mut hasher = checksum.hasher(size);
    hash(&mut file, path, &mut hasher, interrupted)?;
    Ok(hasher.finish() == *checksum)
}

/// Hashes the rest of a file and returns its length.
pub(super) fn hash(
    file: &mut File,
    path: &Path,
    hasher: &mut Hasher,
    interrupted: Interrupted,
) -> Result<u64, HubError> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        if interrupted() {
            return Err(HubError::Interrupted);
        }
        match file.read(&mut chunk).map_err(|error| HubError::cache(path, &error))? {
            0 => return Ok(length),
            n => {
                hasher.update(&chunk[..n]);
                length += n as u64;
            }
        }
    }
}

pub(super) fn create_folder_of(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| HubError::cache(folder, &error))
}
