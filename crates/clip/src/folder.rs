//! A model's folder, read within limits and trusted only if nobody else can write to it.
//! A model's files decide what runs in the server, so they are protected like code. External crates: `serde_json`,
//! `nix`.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::memory::reserve;
use crate::threads::Interrupted;

/// Largest file that is read whole. Configuration files have a few kilobytes; a tokenizer's vocabulary can have tens of
/// megabytes.
const MAX_JSON_BYTES: u64 = 128 * 1024 * 1024;

/// Bytes that are read at a time: few, because a session clears them for each small file of a model that it opens.
const CHUNK: usize = 64 * 1024;

/// Bits of a mode that let the group or others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Bit of a folder's mode: users who can write to it can remove only their own files.
const STICKY: u32 = 0o1000;

/// A folder, and the name of its model for errors, because paths are for superusers only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folder<'a> {
    pub path: &'a Path,
    pub model: &'a str,
}

impl Folder<'_> {
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        let path = self.path.join(file);
        let size = fs::metadata(&path).map_err(|error| self.unreadable(file, error))?.len();
        if size > MAX_JSON_BYTES {
            return Err(Error::invalid(self.model, file, format_args!("it has {size} bytes, which is too many")));
        }
        fs::read(path).map_err(|error| self.unreadable(file, error))
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.path.join(file).is_file()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.read(file)?).map_err(|error| Error::invalid(self.model, file, error))
    }

    /// Passes a file, open as `reader`, to `take` in chunks small enough to notice an interrupt at once.
    pub(crate) fn read_through(
        &self,
        file: &str,
        reader: &mut impl Read,
        interrupted: Interrupted,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut chunk = reserve(CHUNK)?;
        chunk.resize(CHUNK, 0);
        loop {
            if interrupted() {
                return Err(Error::Interrupted);
            }
            match reader.read(&mut chunk).map_err(|error| self.unreadable(file, error))? {
                0 => return Ok(()),
                read => take(&chunk[..read])?,
            }
        }
    }

    pub(crate) fn unreadable(&self, file: &str, error: io::Error) -> Error {
        Error::ModelFile { model: self.model.into(), file: file.into(), reason: error.to_string() }
    }

    /// Rejects a file that others than its owner can change, and links that lead outside the folder.
    /// The folders in its path are checked too, up to the model directory.
    pub(crate) fn check(&self, file: &str) -> Result<(), Error> {
        let refuse = |file: &str, reason: &'static str| {
            Err(Error::ModelUnsafe { model: self.model.into(), file: file.into(), reason })
        };
        let metadata = |path: &Path| fs::symlink_metadata(path).map_err(|error| self.unreadable(file, error));
        if !is_inside(file) {
            return refuse(file, "it is not inside the folder");
        }
        // The model directory may be a link, which is the administrator's choice. A path may have no parent.
        let models = fs::metadata(self.path.parent().unwrap_or(self.path));
        let models = models.map_err(|error| self.unreadable(file, error))?;
        let trust = Trust::of(&models);
        let mut path = self.path.join(file);
        let found = metadata(&path)?;
        if found.is_symlink() {
            return refuse(file, "it is a symbolic link");
        }
        if !found.is_file() {
            return refuse(file, "it is not a regular file");
        }
        if found.nlink() > 1 {
            return refuse(file, "it has a hard link elsewhere");
        }
        if let Some(reason) = trust.objection(&found) {
            return refuse(file, reason);
        }
        while path.pop() && path.starts_with(self.path) {
            let found = metadata(&path)?;
            if !found.is_dir() {
                return refuse(file, "its folder is a symbolic link");
            }
            if trust.objection(&found).is_some() {
                return refuse(file, "its folder can be written by others than its owner, or is owned by another user");
            }
        }
        // If the directory is sticky, as /tmp is, others can add models but not replace this one. Their models are
        // rejected for their owner.
        match trust.objection(&models) {
            Some(_) if models.mode() & STICKY == 0 || !trust.owner(&models) => refuse(
                file,
                "the folder of all models can be written by others than its owner, or is owned by another user",
            ),
            _ => Ok(()),
        }
    }
}

/// The user whose files are trusted, in addition to root.
struct Trust {
    /// The user of this process. If that is root, the owner of the model directory, which is the server's user.
    user: u32,
}

impl Trust {
    fn of(models: &Metadata) -> Self {
        let user = nix::unistd::geteuid();
        Self { user: if user.is_root() { models.uid() } else { user.as_raw() } }
    }

    fn owner(&self, metadata: &Metadata) -> bool {
        metadata.uid() == 0 || metadata.uid() == self.user
    }

    /// Returns why a file is not trusted, or None if it is.
    fn objection(&self, metadata: &Metadata) -> Option<&'static str> {
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Some("it can be written by others than its owner");
        }
        (!self.owner(metadata)).then_some("it is owned by a user who is neither root nor the server's")
    }
}

/// Returns true if a path that a file names stays within the folder.
pub(crate) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Returns the paths of all files below `folder`, relative to it, sorted. Links are listed, not followed.
pub(crate) fn files_of(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(within) = pending.pop() {
        for entry in fs::read_dir(folder.join(&within))? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => pending.push(path),
                false => found.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the path, within the folder, of a file that the graph names relative to itself.
pub(crate) fn beside(graph: &str, data: &str) -> String {
    match graph.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{data}"),
        None => data.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_next_to_their_graph() {
        assert_eq!(beside("onnx/model.onnx", "model.onnx_data"), "onnx/model.onnx_data");
        assert_eq!(beside("model.onnx", "model.onnx_data"), "model.onnx_data");
    }
}
