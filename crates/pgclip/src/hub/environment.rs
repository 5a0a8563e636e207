//! The settings of the hub from environment variables, those that `huggingface_hub` reads.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Limits of waiting. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Limit for resolving a name, and for a connection.
    pub connect: Duration,
    /// Limit for the next byte.
    pub idle: Duration,
    /// The length of a second in pauses that a server asks for and between attempts.
    pub second: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(30), second: Duration::from_secs(1) }
    }
}

/// The address of the hub, the user's token, and the cache. It is not `Debug`, because a token must not be logged.
pub struct Settings {
    pub endpoint: String,
    pub token: Option<String>,
    pub cache: PathBuf,
    pub offline: bool,
    pub timeouts: Timeouts,
}

impl Settings {
    /// Reads the settings. `variable` returns a variable of the environment.
    pub fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let variable = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| {
            let utf8 = |value: OsString| {
                let reason = "it is not UTF-8".into();
                value.into_string().map_err(|_| HubError::Environment { variable: name, reason })
            };
            variable(name).map(utf8).transpose()
        };
        let user = variable("HOME").map(PathBuf::from);
        let path = |name| variable(name).map(|value| from_user(PathBuf::from(value), user.as_deref()));
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|caches| caches.join("huggingface")))
            .or_else(|| user.as_ref().map(|user| user.join(".cache/huggingface")))
            .ok_or_else(|| HubError::Environment {
                variable: "HF_HOME",
                reason: "neither it nor HOME is set".into(),
            })?;
        let token = match text("HF_TOKEN")? {
            Some(token) => Some(token),
            None => read_token(&path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")))?,
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let reason = "a token is one word of ASCII letters".into();
            return Err(HubError::Environment { variable: "HF_TOKEN", reason });
        }
        Ok(Self {
            endpoint: text("HF_ENDPOINT")?.unwrap_or_else(|| DEFAULT_ENDPOINT.into()),
            token,
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            offline: text("HF_HUB_OFFLINE")?.is_some_and(|value| is_true(&value)),
            timeouts: Timeouts::default(),
        })
    }
}

/// Returns true for the values that `huggingface_hub` reads as true.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

/// Resolves a tilde. The environment of a service is written without a shell, which would do it.
fn from_user(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

/// Reads the token. Returns None if the file is missing.
fn read_token(path: &Path) -> Result<Option<String>, HubError> {
    match fs::read_to_string(path) {
        Ok(token) => Ok(Some(token)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let reason = format!("could not read {}: {error}", path.display());
            Err(HubError::Environment { variable: "HF_TOKEN_PATH", reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn a_bare_environment_has_defaults() {
        let found = settings(&[("HOME", "/nowhere"), ("HF_TOKEN", "")]).unwrap();
        assert_eq!(found.endpoint, "https://huggingface.co");
        assert_eq!(found.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert_eq!((found.token, found.offline), (None, false));
    }

    #[test]
    fn variables_override_defaults() {
        let pairs =
            [("HOME", "/nowhere"), ("HF_ENDPOINT", "http://mirror"), ("HF_HOME", "~/h"), ("HF_TOKEN", "hf_x\n")];
        let found = settings(&pairs).unwrap();
        assert_eq!((found.endpoint.as_str(), found.token.as_deref()), ("http://mirror", Some("hf_x")));
        assert_eq!(found.cache, Path::new("/nowhere/h/hub"));
        let found = settings(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c"), ("HF_HUB_OFFLINE", "true")]).unwrap();
        assert_eq!((found.cache.as_path(), found.offline), (Path::new("/c"), true));
        assert_eq!(settings(&[("XDG_CACHE_HOME", "/x")]).unwrap().cache, Path::new("/x/huggingface/hub"));
    }

    #[test]
    fn a_token_comes_from_its_file() {
        let folder = std::env::temp_dir().join(format!("pgclip-token-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), "hf_file\n").unwrap();
        fs::write(folder.join("other"), "hf_other\n").unwrap();
        let home = folder.to_str().unwrap();
        let other = format!("{home}/other");
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token.as_deref(), Some("hf_file"));
        let pairs = [("HF_HOME", home), ("HF_TOKEN_PATH", &other)];
        assert_eq!(settings(&pairs).unwrap().token.as_deref(), Some("hf_other"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn unusable_variables_are_named() {
        let of = |pairs: &[(&str, &str)]| match settings(pairs) {
            Err(HubError::Environment { variable, .. }) => variable,
            _ => "",
        };
        assert_eq!(of(&[]), "HF_HOME");
        assert_eq!(of(&[("HOME", "/"), ("HF_TOKEN", "two words")]), "HF_TOKEN");
    }
}
