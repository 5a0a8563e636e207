//! Checks of names from users and servers before they become part of an address or a path.

use super::error::HubError;

/// Longest part of a repository's name on the hub.
const MAX_NAME: usize = 96;
/// Longest name of a folder or file in common file systems.
const MAX_PART: usize = 255;
/// Longest path. It leaves room for the cache's own folders in the 4096 bytes of Linux.
const MAX_PATH: usize = 1024;

/// Accepts `organization/name` or `name`.
pub(super) fn check_repository(name: &str) -> Result<(), HubError> {
    let part = |part: &str| {
        let edges = |c: char| c == '.' || c == '-';
        part.len() <= MAX_NAME
            && !part.is_empty()
            && !part.starts_with(edges)
            && !part.ends_with(edges)
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    // The cache writes a slash as two hyphens.
    let ambiguous = name.contains("--") || name.contains("..");
    let parts = name.split('/').count();
    if parts <= 2 && name.split('/').all(part) && !ambiguous {
        Ok(())
    } else {
        Err(HubError::InvalidRepository { repository: name.into() })
    }
}

/// Accepts a branch, a tag or a commit, which becomes a path below `refs`.
pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    if is_inside(revision) { Ok(()) } else { Err(HubError::InvalidRevision { revision: revision.into() }) }
}

pub(super) fn check_path(repository: &str, path: &str) -> Result<(), HubError> {
    if is_inside(path) {
        Ok(())
    } else {
        Err(HubError::UnsafePath { repository: repository.into(), path: path.chars().take(MAX_PATH).collect() })
    }
}

fn is_inside(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= MAX_PART;
    path.len() <= MAX_PATH && path.split('/').all(part) && !path.chars().any(char::is_control)
}

pub(super) fn is_commit(revision: &str) -> bool {
    is_hex(revision, 40)
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Percent-encodes the characters with a meaning in an address. Slashes are kept if `slash` is true.
pub(super) fn encode(text: &str, slash: bool) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte) || (slash && byte == b'/');
    let one = |byte: u8| if keeps(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_one_or_two_parts() {
        for name in ["gpt2", "openai/clip-vit-base-patch32", "a_b/c.d-e"] {
            assert_eq!(check_repository(name), Ok(()), "{name}");
        }
        for name in
            ["", "/a", "a/", "a/b/c", "..", "a/..", "a--b/c", "a b", "-a/b", "a/b?c", "a/\u{e4}", &"x".repeat(97)]
        {
            assert!(check_repository(name).is_err(), "{name}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["a", "onnx/model.onnx", "..a", "a b", "\u{e4}"] {
            assert_eq!(check_path("r", path), Ok(()), "{path}");
        }
        let long = "a/".repeat(600) + "a";
        for path in
            ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\nb", "a\0b", "a\u{9b}b", &"x".repeat(256), &long]
        {
            assert!(check_path("r", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/\u{e4}?#%.x", true), "a%20b/%C3%A4%3F%23%25.x");
    }
}
