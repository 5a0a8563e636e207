//! `pgclip verify`: the differences between installed models and their manifests.

use clip::store;
use serde_json::json;

use crate::commands::session::{Session, interrupted};
use crate::failure::{Exit, Failure};
use crate::output;

impl Session {
    pub fn verify(&self, names: &[String]) -> Result<(), Failure> {
        let models = self.place.models()?;
        let names = if names.is_empty() { store::names(&models) } else { names.to_vec() };
        let prepared = self.place.prepared()?;
        let mut found = Vec::new();
        for name in &names {
            let findings = store::verify(&models, name, prepared.as_deref(), interrupted)?;
            if !self.json && findings.is_empty() {
                output::line(&format!("{name}: ok"))?;
            }
            for finding in findings {
                if !self.json {
                    output::line(&format!("{name}: {}: {}", finding.file, finding.problem))?;
                }
                found.push(json!({"model": name, "file": finding.file, "problem": finding.problem}));
            }
        }
        if self.json {
            output::json(&found)?;
        }
        match found.len() {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} {} wrong", if count == 1 { "thing is" } else { "things are" }))
                .exit(Exit::Findings)
                .hint("Remove the model and add it again from where it came (pgclip show says where).")),
        }
    }
}
