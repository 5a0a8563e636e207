//! The client of the Hugging Face Hub: lists a repository at one commit and fetches files of it into the cache.
//! Servers are not trusted: names are checked before they become paths, and files are used only if they have the digest
//! listed for the commit. Only this module uses the crate `ureq`.

mod cache;
mod checksum;
mod download;
mod environment;
mod error;
mod http;
mod listing;
mod origin;
mod partial;
mod progress;
mod repository;
mod retry;
mod validate;

use std::path::{Path, PathBuf};

pub use environment::{Settings, Timeouts};
pub use error::HubError;
pub use progress::{Interrupted, Progress};
pub use repository::{RemoteFile, Repository};

use cache::{Cache, is_intact};
use checksum::Checksum;
use download::Transfer;
use http::Client;
use listing::{Asked, refusal};
use retry::{AttemptError, Attempts};

/// Largest download of one call: far above every CLIP, and far below the sizes that a forged listing could contain.
const MAX_TOTAL: u64 = 100 << 30;

pub struct Hub {
    client: Client,
    settings: Settings,
    interrupted: Interrupted,
}

impl Hub {
    /// Returns the hub of the environment, from the variables of `huggingface_hub`.
    pub fn from_environment(interrupted: Interrupted) -> Result<Self, HubError> {
        Self::new(Settings::from(|name| std::env::var_os(name))?, interrupted)
    }

    pub fn new(settings: Settings, interrupted: Interrupted) -> Result<Self, HubError> {
        Ok(Self { client: Client::new(&settings, interrupted)?, settings, interrupted })
    }

    /// Returns a repository at a branch, a tag or a commit. Without a network, it returns the files in the cache.
    pub fn repository(&self, name: &str, revision: &str, progress: &dyn Progress) -> Result<Repository, HubError> {
        validate::check_repository(name)?;
        validate::check_revision(revision)?;
        let refused = if self.settings.offline {
            HubError::NotCached { repository: name.into(), what: format!("revision \"{revision}\"") }
        } else {
            match self.ask(name, revision, progress) {
                Err(error @ HubError::Unreachable { .. }) => error,
                answered => return answered,
            }
        };
        self.cached(name, revision)?.ok_or(refused)
    }

    /// Fetches files into the cache and returns the folder of the snapshot.
    pub fn download(
        &self,
        repository: &Repository,
        files: &[&RemoteFile],
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let Repository { name, revision, branch, .. } = repository;
        validate::check_repository(name)?;
        if !validate::is_commit(revision) {
            return Err(HubError::InvalidRevision { revision: revision.clone() });
        }
        check_total(name, files)?;
        let cache = Cache::new(&self.settings.cache, name);
        let second = self.settings.timeouts.second;
        let (client, interrupted) = (&self.client, self.interrupted);
        let transfer = Transfer { client, cache: &cache, repository, second, interrupted, progress };
        for file in files {
            self.provide(&transfer, file)?;
        }
        // This comes last, so that a branch never points to an incomplete snapshot.
        if let Some(branch) = branch {
            validate::check_revision(branch)?;
            cache.pin(branch, revision)?;
        }
        Ok(cache.snapshot(revision))
    }

    /// Ensures that a file is in the snapshot.
    fn provide(&self, transfer: &Transfer<'_>, file: &RemoteFile) -> Result<(), HubError> {
        let Repository { name, revision, .. } = transfer.repository;
        validate::check_path(name, &file.path)?;
        let in_snapshot = transfer.cache.snapshot(revision).join(&file.path);
        let checksum = match Checksum::of(file) {
            // The cache was copied without its links, so the digest is unknown. The file is used as it was fetched.
            Err(_) if transfer.repository.cached && in_snapshot.is_file() => return Ok(()),
            checksum => checksum?,
        };
        let intact = |path: &Path| is_intact(path, file.size, &checksum, self.interrupted);
        if !intact(&transfer.cache.blob(&checksum))? {
            if intact(&in_snapshot)? {
                return Ok(());
            }
            if self.settings.offline {
                return Err(HubError::NotCached { repository: name.clone(), what: format!("{:?}", file.path) });
            }
            transfer.fetch(file, &checksum)?;
        }
        transfer.cache.link(revision, &file.path, &checksum)
    }

    fn ask(&self, name: &str, revision: &str, progress: &dyn Progress) -> Result<Repository, HubError> {
        let mut attempts = Attempts::new(self.settings.timeouts.second, self.interrupted, progress);
        loop {
            match self.ask_once(&Asked { repository: name, revision, file: None }) {
                Ok(document) => return listing::parse(name, revision, &document),
                // There is probably no network, so the error is reported at once.
                Err(AttemptError::Unreachable(error)) => return Err(error),
                Err(failure) => attempts.wait(failure)?,
            }
        }
    }

    fn ask_once(&self, asked: &Asked<'_>) -> Result<Vec<u8>, AttemptError> {
        let revision = validate::encode(asked.revision, false);
        let answer = self.client.get(&format!("/api/models/{}/revision/{revision}?blobs=true", asked.repository), 0)?;
        if answer.status.is_success() { answer.document() } else { Err(refusal(&answer, asked)) }
    }

    fn cached(&self, name: &str, revision: &str) -> Result<Option<Repository>, HubError> {
        let cache = Cache::new(&self.settings.cache, name);
        let Some(commit) = cache.pinned(revision) else { return Ok(None) };
        let files = cache.files(&commit)?;
        let branch = (commit != revision).then(|| revision.to_owned());
        let repository = Repository { name: name.into(), revision: commit, branch, license: None, files, cached: true };
        Ok(Some(repository).filter(|repository| !repository.files.is_empty()))
    }
}

fn check_total(repository: &str, files: &[&RemoteFile]) -> Result<(), HubError> {
    let total = files.iter().fold(0, |total: u64, file| total.saturating_add(file.size));
    if total > MAX_TOTAL {
        let what = format!("the download of \"{repository}\"");
        return Err(HubError::TooLarge { what, bytes: total, limit: MAX_TOTAL });
    }
    Ok(())
}
