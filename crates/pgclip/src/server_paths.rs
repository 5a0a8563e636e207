//! The server's directories of models and libraries. They come from the directory of this program, if that is an extension
//! image, else from pg_config, unless options name others.

use std::path::{Path, PathBuf};
use std::process::Command;

use clip::Provider;

use crate::cli::Place;
use crate::failure::Failure;

/// The paths in an extension image. The program is in its directory `bin`.
const MODELS_IN_IMAGE: &str = "share/pg_clip/models";
const RUNTIME_IN_IMAGE: &str = "lib/pg_clip/libonnxruntime.so";

/// Debian's directory of servers of several major versions.
const DEBIAN: &str = "/usr/lib/postgresql";

impl Place {
    /// Returns the model directory.
    pub fn models(&self) -> Result<PathBuf, Failure> {
        match self.model_path.as_slice() {
            [path] => absolute(path),
            [_, ..] => Err(Failure::new("more than one model directory").hint("Only pgclip serve reads several.")),
            [] => match self.own_image() {
                Some(image) => Ok(image.join(MODELS_IN_IMAGE)),
                None => Ok(self.ask("--sharedir", "--model-path DIR")?.join("pg_clip/models")),
            },
        }
    }

    /// Returns the model directories, the first of which that has a model counts.
    pub fn all_models(&self) -> Result<Vec<PathBuf>, Failure> {
        match self.model_path.as_slice() {
            [] => Ok(vec![self.models()?]),
            paths => paths.iter().map(|path| absolute(path)).collect(),
        }
    }

    /// Returns the directory of prepared files, if they are not in the folders of the models.
    pub fn prepared(&self) -> Result<Option<PathBuf>, Failure> {
        self.prepared_path.as_deref().map(absolute).transpose()
    }

    /// Returns ONNX Runtime's library.
    pub fn runtime(&self) -> Result<PathBuf, Failure> {
        match &self.onnxruntime {
            Some(path) => absolute(path),
            None => match self.own_image() {
                Some(image) => Ok(image.join(RUNTIME_IN_IMAGE)),
                None => Ok(self.ask("--pkglibdir", "--onnxruntime FILE")?.join("pg_clip/libonnxruntime.so")),
            },
        }
    }

    /// Returns the library of ONNX Runtime for a provider. One with more providers is in the directory of their name, next to the
    /// library of the sessions.
    pub fn runtime_with(&self, provider: Provider) -> Result<PathBuf, Failure> {
        let runtime = self.runtime()?;
        let file = Path::new(provider.name()).join(runtime.file_name().unwrap_or_default());
        Ok(Some(runtime.with_file_name(file)).filter(|of_provider| of_provider.is_file()).unwrap_or(runtime))
    }

    /// Returns the server's own psql, or the one on the PATH.
    pub fn psql(&self) -> PathBuf {
        let own = self.ask("--bindir", "").map(|folder| folder.join("psql"));
        own.ok().filter(|psql| psql.exists()).unwrap_or_else(|| "psql".into())
    }

    /// Returns the directory of the extension image that this program is in, unless an option names a server.
    fn own_image(&self) -> Option<PathBuf> {
        let program = std::env::current_exe().and_then(|program| program.canonicalize()).ok()?;
        let image = program.parent()?.parent()?;
        let is_image = image.join(MODELS_IN_IMAGE).is_dir() && image.join(RUNTIME_IN_IMAGE).is_file();
        (self.pg_config.is_none() && is_image).then(|| image.into())
    }

    fn ask(&self, what: &str, instead: &str) -> Result<PathBuf, Failure> {
        let pg_config = self.pg_config()?;
        let hint = format!("Name the server's pg_config (--pg-config FILE), or say it directly: {instead}");
        let failed = |reason: &dyn std::fmt::Display| {
            Failure::new(format!("{} {what} failed: {reason}", pg_config.display())).hint(&hint)
        };
        let output = Command::new(&pg_config).arg(what).output().map_err(|error| failed(&error))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        match (output.status.success(), answer.trim()) {
            (true, path) if !path.is_empty() => Ok(path.into()),
            _ => Err(failed(&String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Returns the pg_config that is named, else the one next to this program, else the one on the PATH, else the only
    /// one installed.
    fn pg_config(&self) -> Result<PathBuf, Failure> {
        if let Some(named) = &self.pg_config {
            return Ok(named.clone());
        }
        let own = std::env::current_exe().and_then(|program| program.canonicalize());
        if let Some(beside) = own.ok().map(|program| program.with_file_name("pg_config")).filter(|path| path.exists()) {
            return Ok(beside);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(found) =
            std::env::split_paths(&path).map(|folder| folder.join("pg_config")).find(|file| file.exists())
        {
            return Ok(found);
        }
        let servers = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
        let installed: Vec<_> =
            servers.map(|server| server.path().join("bin/pg_config")).filter(|file| file.exists()).collect();
        match installed.as_slice() {
            [only] => Ok(only.clone()),
            _ => Err(Failure::new("cannot tell which server the models are for")
                .hint("Name its pg_config (--pg-config FILE), or the directory of its models (--model-path DIR).")),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
