//! The manifest of a model, `pg_clip.json`, which pins its files and its recipe. External crates: `serde_json`, `sha2`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Tower};
use crate::folder::{Folder, is_inside};
use crate::recipe::{GraphSpec, ImageSpec, TextSpec};
use crate::threads::Interrupted;

pub const MANIFEST_FILE: &str = "pg_clip.json";

/// Version of the format. It increases when a reader of the old format would misunderstand the new one.
const FORMAT_VERSION: u32 = 1;

/// The content of `pg_clip.json`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    pub name: String,
    /// SHA-256 of everything that decides an embedding: see [`Manifest::digest_of`].
    pub digest: String,
    /// `model_type` of the configuration.
    pub family: String,
    /// Length of an embedding.
    pub dimensions: usize,
    /// The learned logit scale, not its logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_scale: Option<f64>,
    /// The learned logit bias, with the sigmoid loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The origin of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Digest of the model that this one was quantized from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantized_from: Option<String>,
    pub text: TextSpec,
    pub image: ImageSpec,
    /// The files that decide an embedding, by path within the folder.
    pub files: BTreeMap<String, FileDigest>,
}

/// A repository of the hub, at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub repository: String,
    pub revision: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    pub sha256: String,
    pub size: u64,
}

impl Manifest {
    /// Reads the manifest of a folder and checks that it is consistent. Trusts nobody: see [`Folder::check`].
    pub(crate) fn read(folder: Folder<'_>) -> Result<Self, Error> {
        folder.check(MANIFEST_FILE)?;
        let manifest: Self = folder.json(MANIFEST_FILE)?;
        manifest.checked(folder.model)
    }

    /// Returns the manifest in an exported file, for the name `model`, and the name under which it was exported.
    ///
    /// The digest does not depend on the name.
    pub(crate) fn parse(bytes: &[u8], model: &str) -> Result<(Self, String), Error> {
        let exported: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::invalid(model, MANIFEST_FILE, error))?;
        let name = exported.name.clone();
        Ok((Self { name: model.into(), ..exported }.checked(model)?, name))
    }

    /// Rejects a manifest that is not consistent, or not of this version, or not of the model.
    fn checked(self, model: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::invalid(model, MANIFEST_FILE, reason);
        let manifest = self;
        if manifest.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "its format version is {}, expected {FORMAT_VERSION}",
                manifest.format_version
            )));
        }
        if manifest.name != model {
            return Err(invalid(format!("it is of a model named {:?}", manifest.name)));
        }
        if let Some(text) = [Some(&manifest.family), manifest.license.as_ref()]
            .into_iter()
            .flatten()
            .find(|text| printable_ascii(text) != **text)
        {
            return Err(invalid(format!("{text:?} is no short line of ASCII")));
        }
        if manifest.dimensions == 0 {
            return Err(invalid("its embeddings have no dimensions".into()));
        }
        if let Some(defect) = manifest.text.defect().or(manifest.image.defect()) {
            return Err(invalid(defect));
        }
        if let Some(file) = manifest.needed().find(|file| !manifest.files.contains_key(*file)) {
            return Err(invalid(format!("{file:?} is not among its files")));
        }
        // A path to the outside would read files that the folder's owner is not responsible for.
        if let Some(file) = manifest.files.keys().find(|file| !is_inside(file)) {
            return Err(invalid(format!("{file:?} is not inside the folder")));
        }
        if manifest.digest_of().as_ref() != Ok(&manifest.digest) {
            return Err(invalid("its digest is not the digest of what it lists".into()));
        }
        Ok(manifest)
    }

    /// Completes a manifest with its version and its digest.
    pub(crate) fn seal(mut self) -> Result<Self, Error> {
        self.format_version = FORMAT_VERSION;
        self.digest = self.digest_of().map_err(|reason| Error::invalid(&self.name, MANIFEST_FILE, reason))?;
        Ok(self)
    }

    /// Returns a manifest with the correct name and digest, which a fuzzer cannot find.
    #[cfg(fuzzing)]
    pub(crate) fn mended(bytes: &[u8], name: &str) -> Option<Self> {
        let manifest: Self = serde_json::from_slice(bytes).ok()?;
        Self { name: name.into(), ..manifest }.seal().ok()
    }

    /// Returns the text of the file.
    pub(crate) fn to_json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Returns the SHA-256 of lines of `path sha256 size` in the order of the paths, and then the two specifications as
    /// JSON.
    fn digest_of(&self) -> Result<String, String> {
        let mut hash = Sha256::new();
        for (path, file) in &self.files {
            hash.update(format!("{path} {} {}\n", file.sha256, file.size));
        }
        let specifications = serde_json::to_vec(&(&self.text, &self.image)).map_err(|error| error.to_string())?;
        hash.update(specifications);
        Ok(hex(&hash.finalize()))
    }

    /// Returns the files that an embedding needs.
    fn needed(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.text.tokenizer).chain(self.graph_files())
    }

    /// Returns the files of both towers.
    pub(crate) fn graph_files(&self) -> impl Iterator<Item = &String> {
        Tower::BOTH.into_iter().flat_map(|tower| self.graph(tower).files())
    }

    /// Returns the graph of a tower.
    pub fn graph(&self, tower: Tower) -> &GraphSpec {
        match tower {
            Tower::Text => &self.text.graph,
            Tower::Image => &self.image.graph,
        }
    }

    pub(crate) fn graph_mut(&mut self, tower: Tower) -> &mut GraphSpec {
        match tower {
            Tower::Text => &mut self.text.graph,
            Tower::Image => &mut self.image.graph,
        }
    }

    /// Returns the bytes of the files of a tower.
    pub fn tower_bytes(&self, tower: Tower) -> u64 {
        self.graph(tower).files().filter_map(|file| self.files.get(file)).map(|file| file.size).sum()
    }

    /// Returns the bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Verifies that `file` is the one in the manifest, and that nobody else can change it.
    pub(crate) fn verify(&self, folder: Folder<'_>, file: &str, interrupted: Interrupted) -> Result<(), Error> {
        folder.check(file)?;
        match self.files.get(file) {
            Some(expected) if *expected == digest_file(folder, file, interrupted)? => Ok(()),
            _ => Err(Error::ModelChanged { model: folder.model.into(), file: file.into() }),
        }
    }
}

/// Returns a text of a publisher in the form that terminals, and databases of any encoding, can show.
pub(crate) fn printable_ascii(text: &str) -> String {
    const MAX: usize = 200;
    text.chars().take(MAX).map(|character| if matches!(character, ' '..='~') { character } else { '?' }).collect()
}

pub(crate) fn digest_file(folder: Folder<'_>, file: &str, interrupted: Interrupted) -> Result<FileDigest, Error> {
    let mut reader = File::open(folder.path.join(file)).map_err(|error| folder.unreadable(file, error))?;
    let mut digester = Digester::default();
    folder.read_through(file, &mut reader, interrupted, |chunk| {
        digester.update(chunk);
        Ok(())
    })?;
    Ok(digester.finish())
}

/// Computes the digest of a file from its chunks.
#[derive(Default)]
pub(crate) struct Digester {
    hash: Sha256,
    size: u64,
}

impl Digester {
    pub fn update(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.size += chunk.len() as u64;
    }

    pub fn finish(self) -> FileDigest {
        FileDigest { sha256: hex(&self.hash.finalize()), size: self.size }
    }
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
