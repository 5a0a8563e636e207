//! `pgclip add`: a model from a directory, or from an exported file, into the model directory.

use std::path::Path;

use clap::CommandFactory;
use clap::error::ErrorKind;
use clip::{Choices, Error, admin};

use crate::cli::Cli;
use crate::commands::prepare::prepare_added;
use crate::commands::session::{Session, options};
use crate::commands::summary::summary;
use crate::failure::Failure;
use crate::output::{self, Bar};

impl Session {
    pub fn add(&self, name: &str, source: &Path, choices: &Choices) -> Result<(), Failure> {
        let models = self.place.models()?;
        let is_file = source.is_file();
        if is_file && *choices != Choices::default() {
            let reason = "an exported file has a complete model: the options of a model apply only to directories";
            Cli::command().error(ErrorKind::ArgumentConflict, reason).exit();
        }
        // Without this check, the error would name the first missing file instead of the directory.
        if !is_file {
            std::fs::read_dir(source).map_err(|error| {
                Failure::new(format!("cannot read the directory {}: {error}", source.display()))
                    .hint("Name a directory with a model's files, or a file of pgclip export: see pgclip add --help.")
            })?;
        }
        let mut bar = Bar::new();
        let options = options(&self.place)?;
        let progress = &mut |file: &str, size, done| bar.set(file, size, done);
        let added = match is_file {
            true => admin::import(source, &models, name, &options, progress).map_err(import_failure),
            false => admin::add(source, &models, name, choices, &options, progress)
                .map(|manifest| (manifest, true))
                .map_err(Failure::from),
        };
        bar.finish();
        let (manifest, is_new) = added?;
        let prepared = prepare_added(&models, name, &options)?;
        if self.json {
            return output::json(&output::describe(&manifest, prepared)?);
        }
        let action = if is_new { "Added" } else { "Already installed:" };
        output::line(&format!("{action} {name} {} {}", if is_new { "to" } else { "in" }, models.display()))?;
        output::line(&summary(&manifest, prepared))?;
        output::line(&format!("\nUse it:  SELECT clip_embed_text('a red car', '{name}');"))
    }
}

/// Returns the failure of an import, with a hint about the file.
fn import_failure(error: Error) -> Failure {
    let is_file = matches!(error, Error::ModelFile { .. } | Error::ModelInvalid { .. });
    let is_taken = matches!(error, Error::ModelExists { .. });
    let failure = Failure::from(error);
    if is_file {
        failure.hint(
            "Nothing was installed. Export the model again (pgclip export NAME FILE), and copy the file completely.",
        )
    } else if is_taken {
        failure.hint(
            "The installed model has another digest. Choose another name, or remove the model first: pgclip rm NAME.",
        )
    } else {
        failure
    }
}
