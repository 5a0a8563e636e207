//! `pgclip add`: a model from a directory into the model directory.

use std::path::Path;

use clip::{Choices, admin};

use crate::commands::prepare::prepare_added;
use crate::commands::session::{Session, options};
use crate::commands::summary::summary;
use crate::failure::Failure;
use crate::output::{self, Bar};

impl Session {
    pub fn add(&self, name: &str, folder: &Path, choices: &Choices) -> Result<(), Failure> {
        let models = self.place.models()?;
        // Without this check, the error would name the first missing file instead of the directory.
        std::fs::read_dir(folder).map_err(|error| {
            Failure::new(format!("cannot read the directory {}: {error}", folder.display()))
                .hint("Name a directory with a model's files: see pgclip add --help.")
        })?;
        let mut bar = Bar::new();
        let options = options(&self.place)?;
        let added =
            admin::add(folder, &models, name, choices, &options, &mut |file, size, done| bar.set(file, size, done));
        bar.finish();
        let manifest = added?;
        let prepared = prepare_added(&models, name, &options)?;
        if self.json {
            return output::json(&output::describe(&manifest, prepared)?);
        }
        output::line(&format!("Added {name} to {}", models.display()))?;
        output::line(&summary(&manifest, prepared))?;
        output::line(&format!("\nUse it:  SELECT clip_embed_text('a red car', '{name}');"))
    }
}
