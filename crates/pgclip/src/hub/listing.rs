//! The hub's listing of a repository, and the meaning of its errors. External crate: `serde_json`.

use serde::Deserialize;
use serde_json::Value;
use ureq::http::StatusCode;

use super::error::HubError;
use super::http::Answer;
use super::repository::{RemoteFile, Repository};
use super::retry::{AttemptError, retry_after};
use super::validate;

/// The answer to `/api/models/.../revision/...`, as far as it is read.
#[derive(Deserialize)]
struct Model {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Value>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Reads the hub's answer for the repository `name` at `revision`, and checks everything in it.
pub(super) fn parse(name: &str, revision: &str, document: &[u8]) -> Result<Repository, HubError> {
    let unusable = |reason: String| HubError::malformed(format!("the hub's answer about \"{name}\""), reason);
    let model: Model = serde_json::from_slice(document).map_err(|error| unusable(error.to_string()))?;
    if !validate::is_commit(&model.sha) {
        return Err(unusable(format!("{:?} is no commit", model.sha)));
    }
    if validate::is_commit(revision) && revision != model.sha {
        return Err(unusable(format!("it is about commit {}", model.sha)));
    }
    let license = model.license();
    let file = |sibling: Sibling| {
        validate::check_path(name, &sibling.rfilename)?;
        let size = sibling.lfs.as_ref().map(|lfs| lfs.size).or(sibling.size);
        let size = size.ok_or_else(|| unusable(format!("it gives no size of {:?}", sibling.rfilename)))?;
        let sha256 = sibling.lfs.map(|lfs| lfs.sha256);
        Ok(RemoteFile { path: sibling.rfilename, size, sha256, blob_id: sibling.blob_id })
    };
    let files = model.siblings.into_iter().map(file).collect::<Result<_, _>>()?;
    let branch = (revision != model.sha).then(|| revision.to_owned());
    Ok(Repository { name: name.into(), revision: model.sha, branch, license, files, cached: false })
}

impl Model {
    /// Returns the license from the model card, else from the tags. A card may call its license `other` and then name
    /// it.
    fn license(&self) -> Option<String> {
        let of_card = |key: &str| match self.card.as_ref()?.get(key)? {
            Value::String(license) => Some(license.clone()),
            Value::Array(licenses) => Some(licenses.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
            _ => None,
        };
        let of_tags = || self.tags.iter().find_map(|tag| tag.strip_prefix("license:").map(str::to_owned));
        let license = of_card("license").or_else(of_tags).filter(|license| !license.is_empty())?;
        let named = (license == "other").then(|| of_card("license_name")).flatten();
        Some(named.unwrap_or(license))
    }
}

/// The subject of a request, for errors.
pub(super) struct Asked<'a> {
    pub(super) repository: &'a str,
    pub(super) revision: &'a str,
    pub(super) file: Option<&'a str>,
}

/// Returns the error of an answer without content.
pub(super) fn refusal(answer: &Answer, asked: &Asked<'_>) -> AttemptError {
    let passing = || {
        let error = HubError::Failing { host: answer.host.clone(), reason: format!("it answered {}", answer.status) };
        AttemptError::Passing { error, seconds: retry_after(&answer.headers) }
    };
    // After a redirect, only the signed address can be wrong, and the hub makes a new one.
    if !answer.own || answer.status.is_server_error() {
        return passing();
    }
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => passing(),
        _ => AttemptError::Final(denial(answer, asked)),
    }
}

fn denial(answer: &Answer, asked: &Asked<'_>) -> HubError {
    let repository = asked.repository.to_owned();
    let revision = asked.revision.to_owned();
    let message = answer.text("x-error-message").unwrap_or("");
    match (answer.text("x-error-code").unwrap_or(""), answer.status, asked.file) {
        ("GatedRepo", ..) => HubError::Gated { repository },
        _ if message.starts_with("Invalid credentials") => HubError::TokenRefused,
        ("RepoNotFound", ..) => HubError::RepositoryMissing { repository },
        ("RevisionNotFound", ..) => HubError::RevisionMissing { repository, revision },
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => HubError::Denied { repository },
        (_, StatusCode::NOT_FOUND, Some(file)) => HubError::FileMissing { repository, file: file.into() },
        (_, StatusCode::NOT_FOUND, None) => HubError::RepositoryMissing { repository },
        (_, status, _) => HubError::malformed("the hub's answer", status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parsed(rest: &str) -> Result<Repository, HubError> {
        parse("a/b", "main", format!("{{\"sha\": \"{COMMIT}\"{rest}}}").as_bytes())
    }

    #[test]
    fn licenses_are_found() {
        let license = |rest| parsed(rest).unwrap().license;
        assert_eq!(license(""), None);
        assert_eq!(license(r#", "cardData": null, "tags": ["x", "license:mit"]"#).as_deref(), Some("mit"));
        assert_eq!(license(r#", "cardData": {"license": ["mit", "bsd"]}"#).as_deref(), Some("mit, bsd"));
        let named = r#", "cardData": {"license": "other", "license_name": "apple-ascl"}"#;
        assert_eq!(license(named).as_deref(), Some("apple-ascl"));
    }

    #[test]
    fn an_answer_is_not_trusted() {
        for rest in [
            r#", "siblings": [{"rfilename": "../x", "size": 1}]"#,
            r#", "siblings": [{"rfilename": "x"}]"#,
            r#", "siblings": [{"rfilename": "x", "size": -1}]"#,
            r#", "siblings": 7"#,
        ] {
            assert!(parsed(rest).is_err(), "{rest}");
        }
        assert!(parse("a/b", "main", br#"{"sha": "../../x"}"#).is_err());
        assert!(parse("a/b", &"f".repeat(40), format!("{{\"sha\": \"{COMMIT}\"}}").as_bytes()).is_err());
    }
}
