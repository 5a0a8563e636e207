//! The towers of a model: graphs opened for one of its manifests, and embeddings made of their rows.

use crate::embedding::Embedding;
use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::options::Options;
use crate::runtime::library::Runtime;
use crate::runtime::provider::Engine;
use crate::runtime::session::{Form, Graph};
use crate::store::manifest::Manifest;
use crate::store::prepared;

/// Opens a tower in one of its forms.
pub(crate) fn open(
    manifest: &Manifest,
    tower: Tower,
    form: Form<'_>,
    runtime: &Runtime,
    options: &Options,
) -> Result<Graph, Error> {
    let spec = manifest.graph(tower);
    let output = (spec.output.clone(), spec.pooling);
    let engine = Engine { provider: options.provider, precision: spec.precision, threads: options.threads };
    Graph::open(runtime, form, (&manifest.name, tower), output, engine, options.interrupted)
}

/// Opens a tower from its published files, after it has read all of them to verify their digests.
pub(crate) fn open_published(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    runtime: &Runtime,
    options: &Options,
) -> Result<Graph, Error> {
    verify(folder, manifest, tower, options)?;
    open(manifest, tower, Form::Published(&folder.path.join(&manifest.graph(tower).file)), runtime, options)
}

/// Verifies the digests of a tower's published files.
pub(crate) fn verify(folder: Folder<'_>, manifest: &Manifest, tower: Tower, options: &Options) -> Result<(), Error> {
    manifest.graph(tower).files().try_for_each(|file| manifest.verify(folder, file, options.interrupted))
}

/// Opens a tower from its prepared files, if they can be trusted. Returns the bytes of weights that processes share,
/// too.
pub(crate) fn open_prepared(
    folder: Folder<'_>,
    manifest: &Manifest,
    tower: Tower,
    runtime: &Runtime,
    options: &Options,
) -> Result<(Graph, u64), Error> {
    let opened = prepared::locate(folder, manifest, tower, runtime, options.prepared.as_deref());
    let opened = opened.and_then(|(file, shared)| {
        let graph = open(manifest, tower, Form::Prepared(&file), runtime, options)?;
        Ok((graph, shared))
    });
    opened.map_err(|error| match error {
        kept @ (Error::NotPrepared { .. } | Error::Interrupted | Error::OutOfMemory { .. }) => kept,
        other => prepared::not_prepared(folder, other),
    })
}

/// Makes an embedding of a row, which must have as many dimensions as the manifest says.
pub(crate) fn embedding(manifest: &Manifest, row: &[f32], tower: Tower) -> Result<Embedding, Error> {
    if row.len() != manifest.dimensions {
        let reason = format!("it gave {} dimensions, expected {}", row.len(), manifest.dimensions);
        return Err(Error::Inference { model: manifest.name.clone(), tower, reason });
    }
    Embedding::normalize(row, &manifest.name, tower)
}
