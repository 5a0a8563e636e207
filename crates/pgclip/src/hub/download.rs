//! The download of one file into the cache. It is resumed after an interruption, verified, and repeated once if its
//! bytes are wrong.

use std::time::Duration;

use ureq::http::{StatusCode, header};

use super::cache::{Cache, is_intact};
use super::checksum::Checksum;
use super::error::HubError;
use super::http::{Answer, Client};
use super::listing::{Asked, refusal};
use super::partial::Partial;
use super::progress::{Interrupted, Progress};
use super::repository::{RemoteFile, Repository};
use super::retry::{AttemptError, Attempts};
use super::validate::{encode, is_hex};

pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a Cache,
    pub(super) repository: &'a Repository,
    /// The length of a second: see [`super::environment::Timeouts`].
    pub(super) second: Duration,
    pub(super) interrupted: Interrupted,
    pub(super) progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// Fetches the blob of a file into the cache, unless another process does so first.
    pub(super) fn fetch(&self, file: &RemoteFile, checksum: &Checksum) -> Result<(), HubError> {
        let _lock = self.cache.lock(checksum, self.interrupted, self.progress)?;
        if is_intact(&self.cache.blob(checksum), file.size, checksum, self.interrupted)? {
            return Ok(());
        }
        let mut partial = Partial::open(self.cache, checksum, file.size, self.interrupted)?;
        self.begin(file, &partial);
        let fetched = self.complete(file, checksum, &mut partial);
        self.progress.end();
        fetched?;
        partial.keep(self.cache)
    }

    fn begin(&self, file: &RemoteFile, partial: &Partial<'_>) {
        self.progress.begin(&file.path, file.size, partial.length());
    }

    fn restart(&self, file: &RemoteFile, partial: &mut Partial<'_>) -> Result<(), HubError> {
        if partial.length() > 0 {
            partial.restart()?;
            self.begin(file, partial);
        }
        Ok(())
    }

    /// Fetches all bytes and verifies them. The bytes of an earlier run may be wrong, as those of the server.
    fn complete(&self, file: &RemoteFile, checksum: &Checksum, partial: &mut Partial<'_>) -> Result<(), HubError> {
        match self.round(file, checksum, partial) {
            Err(HubError::WrongBytes { .. }) => self.restart(file, partial)?,
            other => return other,
        }
        let second = self.round(file, checksum, partial);
        if matches!(second, Err(HubError::WrongBytes { .. })) {
            partial.discard()?;
        }
        second
    }

    fn round(&self, file: &RemoteFile, checksum: &Checksum, partial: &mut Partial<'_>) -> Result<(), HubError> {
        self.fill(file, checksum, partial)?;
        let found = partial.found();
        if found == *checksum { Ok(()) } else { Err(wrong(file, checksum.to_text(), found.to_text())) }
    }

    /// Makes attempts until all bytes are there. Only bytes beyond those of earlier attempts count as progress.
    fn fill(&self, file: &RemoteFile, checksum: &Checksum, partial: &mut Partial<'_>) -> Result<(), HubError> {
        let mut attempts = Attempts::new(self.second, self.interrupted, self.progress);
        let mut furthest = partial.length();
        while !partial.is_complete() {
            let attempt = self.attempt(file, checksum, partial);
            if partial.length() > furthest {
                furthest = partial.length();
                attempts.reset();
            }
            if let Err(failure) = attempt {
                attempts.wait(failure)?;
            }
        }
        Ok(())
    }

    fn attempt(&self, file: &RemoteFile, checksum: &Checksum, partial: &mut Partial<'_>) -> Result<(), AttemptError> {
        let Repository { name, revision, .. } = self.repository;
        let target = format!("/{name}/resolve/{revision}/{}", encode(&file.path, true));
        let answer = self.client.get(&target, partial.length())?;
        if answer.status.is_success() {
            contradiction(&answer, self.repository, file, checksum)?;
        }
        match answer.status {
            StatusCode::OK => self.restart(file, partial).map_err(AttemptError::Final)?,
            StatusCode::PARTIAL_CONTENT if starts_at(&answer, partial.length()) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if partial.length() > 0 => {
                self.restart(file, partial).map_err(AttemptError::Final)?;
                return Err(AttemptError::passing(answer.host, "it does not continue the file where asked"));
            }
            _ => {
                let asked = Asked { repository: name, revision, file: Some(&file.path) };
                return Err(refusal(&answer, &asked));
            }
        }
        self.receive(&answer, file, partial)
    }

    fn receive(&self, answer: &Answer, file: &RemoteFile, partial: &mut Partial<'_>) -> Result<(), AttemptError> {
        while let Some(bytes) = answer.chunk()? {
            if bytes.len() as u64 > file.size - partial.length() {
                let error = wrong(file, format!("{} bytes", file.size), "more".into());
                return Err(AttemptError::Final(error));
            }
            partial.append(&bytes).map_err(AttemptError::Final)?;
            self.progress.advance(bytes.len() as u64);
        }
        if partial.is_complete() {
            return Ok(());
        }
        let reason = format!("the connection ended at byte {} of {}", partial.length(), file.size);
        Err(AttemptError::passing(answer.host.clone(), reason))
    }
}

fn wrong(file: &RemoteFile, expected: String, found: String) -> HubError {
    HubError::WrongBytes { file: file.path.clone(), expected, found }
}

/// Returns the first byte and the whole size from the header `Content-Range`: `bytes 5-9/10`.
fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (range, size) = answer.text(header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

fn starts_at(answer: &Answer, start: u64) -> bool {
    start > 0 && content_range(answer).is_some_and(|(first, _)| first == start)
}

/// Returns an error if the headers show that this is not the file that the hub listed.
fn contradiction(
    answer: &Answer,
    repository: &Repository,
    file: &RemoteFile,
    checksum: &Checksum,
) -> Result<(), AttemptError> {
    let differs = |expected: String, found: String| Err(AttemptError::Final(wrong(file, expected, found)));
    if let Some(commit) = answer.hub_text("x-repo-commit").filter(|commit| *commit != repository.revision) {
        return differs(format!("commit {}", repository.revision), format!("commit {commit}"));
    }
    let etag = answer.hub_text("x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    if let (Checksum::Sha256(sha256), Some(found)) = (checksum, etag.filter(|etag| is_hex(etag, 64)))
        && sha256 != found
    {
        return differs(checksum.to_text(), format!("sha256 {found}"));
    }
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let total = match answer.status {
        StatusCode::PARTIAL_CONTENT => content_range(answer).and_then(|(_, size)| size),
        _ => number(answer.text(header::CONTENT_LENGTH)),
    };
    match [number(answer.hub_text("x-linked-size")), total].into_iter().flatten().find(|size| *size != file.size) {
        Some(found) => differs(format!("{} bytes", file.size), format!("{found} bytes")),
        None => Ok(()),
    }
}
