//! `pgclip list` and `pgclip show`: the models that are installed.

use clip::{Error, Manifest, store};
use serde_json::json;

use crate::commands::session::Session;
use crate::commands::summary::{summary, yes_or_no};
use crate::failure::Failure;
use crate::output;

impl Session {
    pub fn list(&self) -> Result<(), Failure> {
        let models = self.place.models()?;
        let listed = store::names(&models).into_iter().map(|name| (store::manifest(&models, &name), name));
        if self.json {
            let rows = listed.map(|(manifest, name)| match manifest {
                Ok(manifest) => output::describe(&manifest, self.is_prepared(&models, &name)),
                Err(error) => Ok(json!({"name": name, "error": error.to_string()})),
            });
            return output::json(&rows.collect::<Result<Vec<_>, _>>()?);
        }
        let row = |(manifest, name): (Result<Manifest, Error>, String)| match manifest {
            Ok(manifest) => [
                name.clone(),
                manifest.family.clone(),
                manifest.dimensions.to_string(),
                format!("{} x {}", manifest.image.width, manifest.image.height),
                output::size(manifest.size_bytes()),
                manifest.digest[..12].into(),
                yes_or_no(self.is_prepared(&models, &name)).into(),
                manifest.license.clone().unwrap_or_default(),
            ],
            Err(error) => {
                let unknown = || String::new();
                let reason = format!("cannot be used: {error}");
                [name, reason, unknown(), unknown(), unknown(), unknown(), unknown(), unknown()]
            }
        };
        let rows: Vec<_> = listed.map(row).collect();
        if rows.is_empty() {
            eprintln!("There are no models in {} yet: pgclip catalog lists some to pull.", models.display());
        }
        output::table(["NAME", "FAMILY", "DIMENSIONS", "PIXELS", "SIZE", "DIGEST", "PREPARED", "LICENSE"], &rows)
    }

    pub fn show(&self, name: &str) -> Result<(), Failure> {
        let models = self.place.models()?;
        let manifest = store::manifest(&models, name)?;
        if self.json {
            return output::json(&output::describe(&manifest, self.is_prepared(&models, name))?);
        }
        output::line(&summary(&manifest, self.is_prepared(&models, name)))?;
        output::line(&format!("{:16}{}", "directory", models.join(name).display()))?;
        let files = manifest.files.iter();
        let rows: Vec<_> = files.map(|(file, is)| [file.clone(), output::size(is.size), is.sha256.clone()]).collect();
        output::line("")?;
        output::table(["FILE", "SIZE", "SHA256"], &rows)
    }
}
