//! Checks docs/reference/errors.md: every message that the page lists is in the sources, word for word. Needs no server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use e2e::root;

/// Appends the contents of all files of a directory.
fn read_all(directory: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, sources);
        } else {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Replaces the arguments of format strings by an ellipsis: those of Rust in braces, those of SQL as `%s`.
fn with_ellipses(sources: &str) -> String {
    let mut text = String::new();
    let mut rest = sources;
    while let Some(begin) = rest.find('{') {
        let (before, after) = rest.split_at(begin);
        text.push_str(before);
        let end = after[1..]
            .find(|letter: char| !(letter.is_alphanumeric() || "_:?+ ".contains(letter)))
            .map_or(after.len(), |at| at + 1);
        match after[end..].strip_prefix('}') {
            Some(behind) => (text.push('…'), rest = behind).0,
            None => (text.push('{'), rest = &after[1..]).0,
        }
    }
    text.push_str(rest);
    text.replace("\\\"", "\"").replace("%s", "…")
}

/// The messages in the second column of the tables. A semicolon separates two of them.
fn messages(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let code = cells.next()?;
        (code.len() == 5 && code.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit()))
            .then_some(())?;
        cells.next()
    });
    let messages = rows.flat_map(|cell| cell.split("; ")).map(str::to_owned);
    messages.filter(|message| !message.starts_with('(')).collect()
}

#[test]
fn every_message_of_the_page_is_in_the_sources() {
    let mut sources = String::new();
    for directory in ["src", "sql/parts"] {
        read_all(&root().join(directory), &mut sources);
    }
    let sources = with_ellipses(&sources);
    let messages = messages(&std::fs::read_to_string(root().join("docs/reference/errors.md")).unwrap());
    assert!(messages.len() > 50);
    let missing: Vec<_> = messages.iter().filter(|message| !sources.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "no source has these messages: {missing:#?}");
}
