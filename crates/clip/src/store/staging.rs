//! Staging directories: a model or its prepared files are written under a temporary name and published by one rename.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Prefix of the names of staging directories and of models that are being removed. No model has such a name.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Modes of files and folders, independent of the umask: everyone may read a model, and only its owner may replace it,
/// as the server requires. Files are read-only for their owner too, because changing one in place crashes the processes
/// that map it.
const FILE_MODE: u32 = 0o444;
const FOLDER_MODE: u32 = 0o755;

/// Removes the staging directories of killed processes, and blocks others from starting until the returned lock is
/// dropped.
///
/// A staging directory in use is locked by its process. The kernel releases the lock when the process ends.
pub(crate) fn sweep(model_path: &Path) -> Result<File, Error> {
    let failed = |error: io::Error| store_error(model_path, &error);
    let lock = File::open(model_path).map_err(failed)?;
    lock.lock().map_err(failed)?;
    for entry in fs::read_dir(model_path).map_err(failed)?.flatten() {
        // Files and links of that name are of others.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_unfinished = is_folder && entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let is_abandoned = || File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
        if is_unfinished && is_abandoned() {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(lock)
}

/// A staging directory. It is removed when dropped, unless it was published.
pub(crate) struct StagingDir {
    pub path: PathBuf,
    /// Held as long as the process lives.
    _lock: File,
    models: PathBuf,
}

impl StagingDir {
    /// Creates the directory.
    pub(crate) fn begin(model_path: &Path, name: &str) -> Result<Self, Error> {
        let failed = |error: io::Error| store_error(model_path, &error);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(model_path).map_err(failed)?;
        let _sweep = sweep(model_path)?;
        let path = model_path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
        make_folder(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.try_lock().map_err(|error| failed(error.into()))?;
        Ok(Self { path, _lock: lock, models: model_path.into() })
    }

    /// Creates a file, and the missing folders in its path.
    pub(crate) fn create(&self, file: &str) -> Result<File, Error> {
        let path = self.path.join(file);
        let mut missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.is_dir()).collect();
        while let Some(folder) = missing.pop() {
            make_folder(folder).map_err(|error| self.failed(error))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let file = file.map_err(|error| self.failed(error))?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(|error| self.failed(error))?;
        Ok(file)
    }

    /// Writes a file and makes it durable.
    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create(file)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.failed(error))
    }

    /// Sets the mode of a file that ONNX Runtime wrote, and makes it durable.
    pub(crate) fn finish(&self, file: &File) -> Result<(), Error> {
        let finished = file.set_permissions(Permissions::from_mode(FILE_MODE)).and_then(|()| file.sync_all());
        finished.map_err(|error| self.failed(error))
    }

    /// Removes a file.
    pub(crate) fn discard(&self, file: &str) -> Result<(), Error> {
        fs::remove_file(self.path.join(file)).map_err(|error| self.failed(error))
    }

    /// Makes the directory durable, and then publishes it by one rename.
    pub(crate) fn publish(self, folder: &Path) -> Result<(), Error> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        let mut folders = vec![self.path.clone()];
        while let Some(path) = folders.pop() {
            sync(&path).map_err(|error| self.failed(error))?;
            let entries = fs::read_dir(&path).map_err(|error| self.failed(error))?.flatten();
            folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        // A rename does not replace a folder that is not empty: of two processes that add one name, the first wins.
        match fs::rename(&self.path, folder) {
            Ok(()) => sync(folder.parent().unwrap_or(&self.models)).map_err(|error| self.failed(error)),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Err(Error::ModelExists { name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned() })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Returns the error of a failed write.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        store_error(&self.models, &error)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // After a publication nothing is left. The next sweep retries a removal that fails.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Creates a folder that everyone may read, independent of the umask. Fails if it exists.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
}

/// Returns the error of a model directory that cannot be written.
pub(crate) fn store_error(path: &Path, error: &io::Error) -> Error {
    Error::Store { path: path.display().to_string(), reason: error.to_string() }
}
