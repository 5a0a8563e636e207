//! What each verb does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clip::{Choices, Error, Format, Limits, MANIFEST_FILE, Manifest, Options, Overflow, Resize, admin, store};
use serde_json::json;

use crate::catalog::CATALOG;
use crate::cli::Place;
use crate::failure::{Exit, Failure};
use crate::report::{self, Bar};
use crate::usage;

/// Set by the first signal that asks to stop.
pub static STOP: AtomicBool = AtomicBool::new(false);

pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// A verb's surroundings.
pub struct Session {
    pub place: Place,
    pub json: bool,
}

impl Session {
    pub fn add(&self, name: &str, folder: &Path, choices: &Choices) -> Result<(), Failure> {
        let models = self.place.models()?;
        // Otherwise the first file that is missed would be named, and the folder would not.
        std::fs::read_dir(folder).map_err(|error| {
            Failure::new(format!("cannot read the folder {}: {error}", folder.display()))
                .hint("Name a folder that holds a model's files: see pgclip add --help.")
        })?;
        let mut bar = Bar::new();
        let options = options(&self.place)?;
        let added =
            admin::add(folder, &models, name, choices, &options, &mut |file, size, done| bar.set(file, size, done));
        bar.finish();
        let manifest = added?;
        let prepared = prepare_added(&models, name, &options)?;
        if self.json {
            return report::json(&report::describe(&manifest, prepared)?);
        }
        report::line(&format!("Added {name} to {}", models.display()))?;
        report::line(&summary(&manifest, prepared))?;
        report::line(&format!("\nUse it:  SELECT clip_embed_text('a red car', '{name}');"))
    }

    pub fn list(&self) -> Result<(), Failure> {
        let models = self.place.models()?;
        let listed = store::names(&models).into_iter().map(|name| (store::manifest(&models, &name), name));
        if self.json {
            let rows = listed.map(|(manifest, name)| match manifest {
                Ok(manifest) => report::describe(&manifest, self.is_prepared(&models, &name)),
                Err(error) => Ok(json!({"name": name, "error": error.to_string()})),
            });
            return report::json(&rows.collect::<Result<Vec<_>, _>>()?);
        }
        let row = |(manifest, name): (Result<Manifest, Error>, String)| match manifest {
            Ok(manifest) => [
                name.clone(),
                manifest.family.clone(),
                manifest.dimensions.to_string(),
                format!("{} x {}", manifest.image.width, manifest.image.height),
                report::size(manifest.size_bytes()),
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
        report::table(["NAME", "FAMILY", "DIMENSIONS", "PIXELS", "SIZE", "DIGEST", "PREPARED", "LICENCE"], &rows)
    }

    pub fn show(&self, name: &str) -> Result<(), Failure> {
        let models = self.place.models()?;
        let manifest = store::manifest(&models, name)?;
        if self.json {
            return report::json(&report::describe(&manifest, self.is_prepared(&models, name))?);
        }
        report::line(&summary(&manifest, self.is_prepared(&models, name)))?;
        report::line(&format!("{:16}{}", "folder", models.join(name).display()))?;
        let files = manifest.files.iter();
        let rows: Vec<_> = files.map(|(file, is)| [file.clone(), report::size(is.size), is.sha256.clone()]).collect();
        report::line("")?;
        report::table(["FILE", "SIZE", "SHA256"], &rows)
    }

    pub fn verify(&self, names: &[String]) -> Result<(), Failure> {
        let models = self.place.models()?;
        let names = if names.is_empty() { store::names(&models) } else { names.to_vec() };
        let mut found = Vec::new();
        for name in &names {
            let findings = store::verify(&models, name, interrupted)?;
            if !self.json && findings.is_empty() {
                report::line(&format!("{name}: ok"))?;
            }
            for finding in findings {
                if !self.json {
                    report::line(&format!("{name}: {}: {}", finding.file, finding.problem))?;
                }
                found.push(json!({"model": name, "file": finding.file, "problem": finding.problem}));
            }
        }
        if self.json {
            report::json(&found)?;
        }
        match found.len() {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} {} wrong", if count == 1 { "thing is" } else { "things are" }))
                .exit(Exit::Findings)
                .hint("Remove the model and add it again from where it came (pgclip show says where).")),
        }
    }

    pub fn remove(&self, name: &str, databases: &[String], force: bool) -> Result<(), Failure> {
        let models = self.place.models()?;
        let folder = store::folder_of(&models, name)?;
        if !force {
            usage::refuse_used(&self.place.psql(), name, databases)?;
        }
        let size = store::manifest(&models, name).map(|manifest| manifest.size_bytes()).ok();
        store::remove(&models, name)?;
        if self.json {
            return report::json(&json!({"removed": name, "size_bytes": size}));
        }
        let freed = size.map(|size| format!(", {} freed", report::size(size))).unwrap_or_default();
        report::line(&format!("Removed {}{freed}", folder.display()))
    }

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
                        report::line(&format!("{name}: {}", if done { "prepared" } else { "was prepared already" }))?;
                    }
                    prepared.push(name);
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted.into()),
                // One broken model is no reason to leave the others as they are.
                Err(error) => {
                    eprintln!("pgclip: {name}: {error}");
                    failures.push(Failure::from(error));
                }
            }
        }
        if self.json {
            report::json(&json!({"prepared": prepared}))?;
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

    /// Whether connections share the weights of a model.
    fn is_prepared(&self, models: &Path, name: &str) -> bool {
        self.place.runtime().is_ok_and(|runtime| store::check_prepared(models, name, &runtime).is_ok())
    }

    pub fn catalog(&self) -> Result<(), Failure> {
        if self.json {
            return report::json(&CATALOG);
        }
        for entry in &CATALOG {
            let [text, image] = entry.megabytes;
            report::line(entry.name)?;
            report::line(&format!("    {}", entry.good_for))?;
            report::line(&format!(
                "    {} dimensions · {} pixels · about {text} + {image} MB · {}",
                entry.dimensions, entry.image_size, entry.license
            ))?;
            report::line(&format!(
                "    weights of {}, export of {}@{}",
                entry.weights, entry.repository, entry.revision
            ))?;
            if !entry.verified {
                report::line("    not verified here: what is fetched is examined when it is added")?;
            }
        }
        Ok(())
    }
}

/// Let connections share a model that was just added. It is there and works, whatever becomes of this.
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

/// How models are run that are added. No picture and no text of a user is seen.
pub fn options(place: &Place) -> Result<Options, Failure> {
    Ok(Options {
        runtime: place.runtime()?,
        threads: 1,
        batch_size: 2,
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 0, pixels: 0, formats: Format::ALL.to_vec() },
        interrupted,
    })
}

fn yes_or_no(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

fn summary(manifest: &Manifest, prepared: bool) -> String {
    let (text, image) = (&manifest.text, &manifest.image);
    let resize = match image.resize {
        None => "as they are".into(),
        Some(Resize::ShortestEdge(edge)) => format!("shorter side to {edge}"),
        Some(Resize::Exact { width, height }) => format!("squashed to {width} x {height}"),
    };
    let mut lines = vec![
        ("name", manifest.name.clone()),
        ("family", manifest.family.clone()),
        ("dimensions", manifest.dimensions.to_string()),
        (
            "texts",
            format!(
                "up to {} tokens, {}{}",
                text.context_length,
                if text.natural_length { "short ones run short" } else { "all padded to that length" },
                if text.lowercase { ", lower-case" } else { "" },
            ),
        ),
        ("pictures", format!("{} x {} pixels, {resize}", image.width, image.height)),
        (
            "graphs",
            format!("{} ({}), {} ({})", text.graph.file, text.graph.output, image.graph.file, image.graph.output),
        ),
        ("digest", manifest.digest.clone()),
        ("size", report::size(manifest.size_bytes())),
        ("prepared", yes_or_no(prepared).into()),
    ];
    let optional = [
        ("logit scale", manifest.logit_scale.map(|scale| scale.to_string())),
        ("logit bias", manifest.logit_bias.map(|bias| bias.to_string())),
        ("licence", manifest.license.clone()),
        ("source", manifest.source.as_ref().map(|source| format!("{}@{}", source.repository, source.revision))),
        ("manifest", Some(MANIFEST_FILE.to_owned())),
    ];
    lines.extend(optional.into_iter().filter_map(|(title, value)| Some((title, value?))));
    let lines: Vec<_> = lines.into_iter().map(|(title, value)| format!("{title:16}{value}")).collect();
    lines.join("\n")
}
