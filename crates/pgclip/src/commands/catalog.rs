//! `pgclip catalog`: the models that can be pulled by a short name.

use crate::catalog::CATALOG;
use crate::commands::session::Session;
use crate::failure::Failure;
use crate::output;

impl Session {
    pub fn catalog(&self) -> Result<(), Failure> {
        if self.json {
            return output::json(&CATALOG);
        }
        for entry in &CATALOG {
            let [text, image] = entry.megabytes;
            output::line(entry.name)?;
            output::line(&format!("    {}", entry.good_for))?;
            output::line(&format!(
                "    {} dimensions · {} pixels · about {text} + {image} MB · {}",
                entry.dimensions, entry.image_size, entry.license
            ))?;
            output::line(&format!(
                "    weights of {}, export of {}@{}",
                entry.weights, entry.repository, entry.revision
            ))?;
            if !entry.verified {
                output::line("    not verified here: what is fetched is examined when it is added")?;
            }
        }
        Ok(())
    }
}
