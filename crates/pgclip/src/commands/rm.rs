//! `pgclip rm`: the removal of a model.

use clip::store;
use serde_json::json;

use crate::commands::session::Session;
use crate::failure::Failure;
use crate::in_use;
use crate::output;

impl Session {
    pub fn remove(&self, name: &str, databases: &[String], force: bool) -> Result<(), Failure> {
        let models = self.place.models()?;
        let folder = store::folder_of(&models, name)?;
        if !force {
            in_use::refuse_used(&self.place.psql(), name, databases)?;
        }
        let size = store::manifest(&models, name).map(|manifest| manifest.size_bytes()).ok();
        store::remove(&models, name, self.place.prepared()?.as_deref())?;
        if self.json {
            return output::json(&json!({"removed": name, "size_bytes": size}));
        }
        let freed = size.map(|size| format!(", {} freed", output::size(size))).unwrap_or_default();
        output::line(&format!("Removed {}{freed}", folder.display()))
    }
}
