//! The record of prepared files, `prepared.json`: their origin, and their state when they were saved.
//!
//! External crate: `serde_json`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::runtime::cpu::cpu_features;
use crate::runtime::library::Runtime;
use crate::store::manifest::{FileDigest, Manifest, digest};

/// The folder of prepared files in a model's folder. It has a folder per key.
pub(crate) const PREPARED: &str = "prepared";

/// The file of the record.
pub(crate) const RECORD: &str = "prepared.json";

/// Version of the format. It increases when a reader of the old format would misunderstand the new one.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Digits of a key's digest in the name of its folder: enough to tell the keys of one model apart.
const KEY_DIGITS: usize = 16;

/// The content of `prepared.json`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub format_version: u32,
    pub key: Key,
    /// The published graphs that the files were made of.
    pub published: BTreeMap<String, Seal>,
    pub files: BTreeMap<String, Seal>,
}

/// The model, ONNX Runtime and processor that the files were made for. For any other they are wrong, or crash.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// Digest of the model.
    pub digest: String,
    /// ONNX Runtime's description of its build.
    pub runtime: String,
    pub cpu: String,
}

/// The state of a file when it was saved. Its times show, without reading hundreds of megabytes, that it has not
/// changed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    pub digest: FileDigest,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Time of the last change of the file or of its metadata. Nobody can set it back.
    pub changed: (i64, i64),
}

impl Record {
    /// Reads a record, which must be trusted and of this version.
    pub fn read(folder: Folder<'_>, file: &str) -> Result<Self, Error> {
        folder.check(file)?;
        let record: Self = folder.json(file)?;
        match record.format_version {
            FORMAT_VERSION => Ok(record),
            other => Err(Error::invalid(
                folder.model,
                file,
                format_args!("its format version is {other}, expected {FORMAT_VERSION}"),
            )),
        }
    }

    /// Returns the text of the file.
    pub fn to_json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Key {
    /// Returns the key of a model for this ONNX Runtime on this processor.
    pub fn of(manifest: &Manifest, runtime: &Runtime) -> Self {
        Self { digest: manifest.digest.clone(), runtime: runtime.build_info().into(), cpu: cpu_features() }
    }

    /// Returns the folder for the key, within the model's.
    pub fn folder(&self) -> String {
        let name = digest(format!("{}\n{}\n{}", self.digest, self.runtime, self.cpu).as_bytes());
        format!("{PREPARED}/{}", &name[..KEY_DIGITS])
    }
}

impl Seal {
    /// Returns the state of a file now. The digest of its contents is taken from `digest`.
    pub fn of(folder: Folder<'_>, file: &str, digest: FileDigest) -> Result<Self, Error> {
        let found = fs::metadata(folder.path.join(file)).map_err(|error| folder.unreadable(file, error))?;
        let digest = FileDigest { size: found.len(), ..digest };
        Ok(Self { digest, modified: (found.mtime(), found.mtime_nsec()), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

/// Returns the name of a tower's prepared graph.
pub(crate) fn graph_file(tower: Tower) -> String {
    format!("{}.onnx", tower.name())
}

/// Returns the name of a tower's weights. The file is missing if no tensor is large.
pub(crate) fn data_file(tower: Tower) -> String {
    format!("{}.data", tower.name())
}
