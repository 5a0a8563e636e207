//! Checks docs/reference: it describes every function, column and setting, and every error message that it lists is in
//! the sources, word for word. Needs no server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{files_below, root};

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

/// Returns the messages in the second column of the tables. A semicolon separates two messages.
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
    let sources = with_ellipses(&["src", "sql/parts"].map(all_of).concat());
    let messages = messages(&std::fs::read_to_string(root().join("docs/reference/errors.md")).unwrap());
    assert!(messages.len() > 50);
    let missing: Vec<_> = messages.iter().filter(|message| !sources.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "no source has these messages: {missing:#?}");
}

/// Returns the contents of all files of a directory.
fn all_of(directory: &str) -> String {
    files_below(&root().join(directory)).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Returns the names that follow a prefix in the lines of a text.
fn names_after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let rest_of_lines = text.lines().filter_map(|line| Some(line.split_once(prefix)?.1));
    let end = |rest: &str| rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || "_.\"".contains(letter)));
    rest_of_lines.map(|rest| &rest[..end(rest).unwrap_or(rest.len())]).collect()
}

#[test]
fn every_public_function_has_a_section() {
    let (sql, pages) = (all_of("sql/parts"), all_of("docs/reference"));
    let mut names = names_after(&sql, "CREATE FUNCTION clip_");
    names.extend(names_after(&sql, "CREATE PROCEDURE clip_"));
    // SQL cannot call trigger functions.
    names.retain(|name| !["auto_embed_row", "auto_embed_statement", "auto_embed_check", "ddl"].contains(name));
    assert!(names.len() > 30);
    let list = std::fs::read_to_string(root().join("docs/reference/functions.md")).unwrap();
    for name in names {
        assert!(pages.contains(&format!("\n## clip_{name}\n")), "clip_{name} has no section");
        assert!(list.contains(&format!("#clip_{name})")), "functions.md does not list clip_{name}");
    }
}

#[test]
fn every_column_of_a_view_is_described() {
    let (sql, page) = (all_of("sql/parts"), all_of("docs/reference"));
    let columns = names_after(&sql, "COMMENT ON COLUMN clip_");
    assert!(columns.len() > 50);
    for column in columns {
        let (view, column) = column.split_once('.').unwrap();
        // `recall` is the row type of clip_index_recall, not a view.
        let heading = if view == "recall" { "index_recall" } else { view };
        let section = page.split(&format!("\n## clip_{heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let column = column.trim_matches('"');
        assert!(section.contains(&format!("| `{column}")), "the section of clip_{heading} lacks {column}");
    }
}

#[test]
fn every_setting_is_described() {
    let settings = std::fs::read_to_string(root().join("src/pg/settings.rs")).unwrap();
    let page = std::fs::read_to_string(root().join("docs/reference/settings.md")).unwrap();
    let names = names_after(&settings, "c\"clip.");
    assert!(names.len() >= 13);
    for name in names {
        let name = name.trim_matches('"');
        assert!(page.contains(&format!("| `clip.{name}` |")), "settings.md lacks clip.{name}");
    }
}
