//! `pgclip prepare`: weights that all connections share.

use std::path::Path;

use clip::{Error, Options, admin, store};
use serde_json::json;

use crate::commands::session::{Session, options};
use crate::failure::Failure;
use crate::output;

impl Session {
    pub fn prepare(&self, names: &[String]) -> Result<(), Failure> {
        let models = self.place.models()?;
        let options = options(&self.place)?;
        let names = if names.is_empty() { store::names(&models) } else { names.to_vec() };
        for name in &names {
            store::folder_of(&models, name)?;
        }
        let mut prepared = Vec::new();
        let mut failures = Vec::new();
        for name in &names {
            match admin::prepare(&models, name, &options) {
                Ok(done) => {
                    if !self.json {
                        output::line(&format!("{name}: {}", if done { "prepared" } else { "was prepared already" }))?;
                    }
                    prepared.push(name);
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted.into()),
                // A broken model does not keep the others from being prepared.
                Err(error) => {
                    eprintln!("pgclip: {name}: {error}");
                    failures.push(Failure::from(error));
                }
            }
        }
        if self.json {
            output::json(&json!({"prepared": prepared}))?;
        }
        match (failures.pop(), names.len()) {
            (None, _) => Ok(()),
            (Some(failure), 1) => Err(failure),
            (Some(failure), all) => {
                let message = format!("{} of {all} models could not be prepared", failures.len() + 1);
                Err(Failure { message, ..failure })
            }
        }
    }
}

/// Prepares a model that was just added. The model works even if this fails.
pub fn prepare_added(models: &Path, name: &str, options: &Options) -> Result<bool, Failure> {
    match admin::prepare(models, name, options) {
        Ok(_) => Ok(true),
        Err(Error::Interrupted) => {
            Err(Failure::from(Error::Interrupted)
                .hint(format!("{name} is added; pgclip prepare {name} does the rest.")))
        }
        Err(error) => {
            eprintln!("pgclip: {name} is added, but connections cannot share its weights: {error}");
            eprintln!("  To try again: pgclip prepare {name}");
            Ok(false)
        }
    }
}
