//! `pg_clip.json`: what a model folder holds, pinned. External crates: `serde_json`, `sha2`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::spec::Folder;
use crate::watch::Interrupted;

pub const MANIFEST_FILE: &str = "pg_clip.json";

/// Raised when a reader of the old format would misunderstand the new one.
const FORMAT_VERSION: u32 = 1;

/// A chunk of hashing: small enough to notice an interrupt at once.
const CHUNK: usize = 1024 * 1024;

/// What `pg_clip.json` says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    pub name: String,
    /// Sha256 over everything that decides an embedding: see [`Manifest::digest_of`].
    pub digest: String,
    /// `model_type` of the configuration.
    pub family: String,
    /// Length of an embedding.
    pub dimensions: usize,
    /// Tokens that the text tower reads, begin and end included.
    pub context_length: usize,
    /// Height and width of the image tower's input.
    pub image_size: [u32; 2],
    /// Whether a short text may be run at its own length: decided by running both ways.
    pub natural_length: bool,
    /// Whether pictures are turned upright by their EXIF orientation.
    pub exif_orientation: bool,
    /// Learned factor of the cosine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The graph of the text tower.
    pub text_graph: String,
    /// The graph of the image tower.
    pub image_graph: String,
    /// The files that decide an embedding, by path within the folder.
    pub files: BTreeMap<String, FileDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    pub sha256: String,
    pub size: u64,
}

impl Manifest {
    pub(crate) fn read(folder: Folder<'_>) -> Result<Self, Error> {
        let invalid = |reason: String| Error::invalid(folder.model, MANIFEST_FILE, reason);
        let manifest: Self = folder.json(MANIFEST_FILE)?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "its format version is {}, expected {FORMAT_VERSION}",
                manifest.format_version
            )));
        }
        if manifest.name != folder.model {
            return Err(invalid(format!("it is of a model named {:?}", manifest.name)));
        }
        if manifest.dimensions == 0 || manifest.context_length == 0 {
            return Err(invalid("its sizes are zero".into()));
        }
        let graphs = [&manifest.text_graph, &manifest.image_graph];
        if let Some(graph) = graphs.into_iter().find(|graph| !manifest.files.contains_key(*graph)) {
            return Err(invalid(format!("{graph:?} is not among its files")));
        }
        // A path that leaves the folder would read what the folder's owner does not answer for.
        let inside =
            |file: &&String| Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if let Some(file) = manifest.files.keys().find(|file| !inside(file)) {
            return Err(invalid(format!("{file:?} is not inside the folder")));
        }
        if manifest.digest_of() != manifest.digest {
            return Err(invalid("its digest is not the digest of what it lists".into()));
        }
        Ok(manifest)
    }

    /// Write the manifest into the model's folder, whole or not at all.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        let temporary = folder.join(format!(".{MANIFEST_FILE}.new"));
        std::fs::write(&temporary, json)?;
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, folder.join(MANIFEST_FILE))
    }

    /// Sha256 over lines of `path sha256 size` in the order of the paths, then the fields that change a vector.
    pub(crate) fn digest_of(&self) -> String {
        let mut hash = Sha256::new();
        for (path, file) in &self.files {
            hash.update(format!("{path} {} {}\n", file.sha256, file.size));
        }
        hash.update(format!("text_graph {}\nimage_graph {}\n", self.text_graph, self.image_graph));
        hash.update(format!("exif_orientation {}\n", self.exif_orientation));
        hex(&hash.finalize())
    }

    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Check that `file` is the one that the manifest was written for.
    pub(crate) fn verify(&self, folder: Folder<'_>, file: &str, interrupted: Interrupted) -> Result<(), Error> {
        match self.files.get(file) {
            Some(expected) if *expected == digest_file(folder, file, interrupted)? => Ok(()),
            _ => Err(Error::ModelChanged { model: folder.model.into(), file: file.into() }),
        }
    }

    pub(crate) fn new(
        name: &str,
        family: &str,
        dimensions: usize,
        context_length: usize,
        image_size: [u32; 2],
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            name: name.into(),
            digest: String::new(),
            family: family.into(),
            dimensions,
            context_length,
            image_size,
            natural_length: false,
            exif_orientation: true,
            logit_scale: None,
            license: None,
            text_graph: String::new(),
            image_graph: String::new(),
            files: BTreeMap::new(),
        }
    }
}

pub(crate) fn digest_file(folder: Folder<'_>, file: &str, interrupted: Interrupted) -> Result<FileDigest, Error> {
    let unreadable = |error: io::Error| Error::ModelFile {
        model: folder.model.into(),
        file: file.into(),
        reason: error.to_string(),
    };
    let mut reader = File::open(folder.path.join(file)).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut chunk = crate::pixels::reserve(CHUNK)?;
    chunk.resize(CHUNK, 0);
    let mut size = 0;
    loop {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        match reader.read(&mut chunk).map_err(unreadable)? {
            0 => break,
            n => {
                hash.update(&chunk[..n]);
                size += n as u64;
            }
        }
    }
    Ok(FileDigest { sha256: hex(&hash.finalize()), size })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
