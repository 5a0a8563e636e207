//! `pgclip pull`: from the hub into the model directory.

use std::cell::RefCell;
use std::path::Path;

use clip::{Choices, Error, Source, store};
use indicatif::ProgressBar;
use pgclip::hub::{Hub, Progress, RemoteFile, Repository};

use crate::catalog;
use crate::cli::ChoiceArguments;
use crate::commands::session::{Session, interrupted};
use crate::failure::{Exit, Failure};
use crate::output;

/// The default revision.
const NEWEST: &str = "main";

impl Session {
    pub fn pull(&self, model: &str, name: Option<String>, choices: ChoiceArguments) -> Result<(), Failure> {
        let (model, revision) =
            model.split_once('@').map_or((model, None), |(model, revision)| (model, Some(revision)));
        let entry = catalog::find(model);
        if entry.is_none() && !model.contains('/') {
            return Err(Failure::new(format!("\"{model}\" is not in the catalog"))
                .exit(Exit::NoSuchModel)
                .hint("Name a repository of the hub (owner/name), or a model that pgclip catalog lists."));
        }
        let repository = entry.map_or(model, |entry| entry.repository);
        let revision = revision.or(entry.map(|entry| entry.revision)).unwrap_or(NEWEST);
        let last = repository.rsplit('/').next().unwrap_or(repository);
        let name = name.unwrap_or_else(|| entry.map_or(last, |entry| entry.name).to_owned());
        // These checks come before hundreds of megabytes are fetched.
        store::check_name(&name)?;
        if self.place.models()?.join(&name).exists() {
            return Err(Error::ModelExists { name }.into());
        }

        let bars = Bars::default();
        let hub = Hub::from_environment(interrupted)?;
        let repository = hub.repository(repository, revision, &bars)?;
        if repository.cached {
            eprintln!("pgclip: the hub was not asked: {} is what was fetched before", repository.revision);
        }
        let mut choices = choices.into_choices();
        let folder = fetch(&hub, &repository, &name, &choices, &bars)?;
        choices.source = Some(Source { repository: repository.name.clone(), revision: repository.revision.clone() });
        choices.license =
            choices.license.or_else(|| entry.map(|entry| entry.license.to_owned())).or(repository.license.clone());
        self.add(&name, &folder, &choices)
    }
}

/// Fetches the files of the model: first those with known names, then the weights that the graphs name.
fn fetch(
    hub: &Hub,
    repository: &Repository,
    name: &str,
    choices: &Choices,
    progress: &Bars,
) -> Result<std::path::PathBuf, Failure> {
    let paths: Vec<String> = repository.files.iter().map(|file| file.path.clone()).collect();
    let wanted = clip::wanted(name, &paths, choices)?;
    let folder = hub.download(repository, &find(repository, &wanted), progress)?;
    let mut weights = Vec::new();
    for graph in wanted.iter().filter(|path| path.ends_with(".onnx")) {
        weights.extend(clip::weights_of(name, Path::new(&folder), graph)?);
    }
    weights.dedup();
    Ok(hub.download(repository, &find(repository, &weights), progress)?)
}

/// Returns the files of the repository among these paths. `add` reports those that are missing.
fn find<'a>(repository: &'a Repository, paths: &[String]) -> Vec<&'a RemoteFile> {
    repository.files.iter().filter(|file| paths.contains(&file.path)).collect()
}

/// A bar per file.
#[derive(Default)]
struct Bars {
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress for Bars {
    fn begin(&self, file: &str, size: u64, already: u64) {
        let bar = output::bar(file, size);
        bar.set_position(already);
        // Bytes that were fetched before do not count for the rate.
        bar.reset_eta();
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn wait(&self, reason: &str, seconds: u64) {
        eprintln!("pgclip: {reason}: trying again in {seconds} s");
    }
}
