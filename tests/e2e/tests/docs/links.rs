//! Checks the relative links of all pages: the file exists, and it has the heading that the link names. Needs no server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use e2e::{pages_below, root};

/// Returns the lines of a page outside of code blocks, with their numbers from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// Returns a line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Returns the anchors of a page's headings, as GitHub computes them.
fn anchors(text: &str) -> HashSet<String> {
    let (mut anchors, mut seen) = (HashSet::new(), HashMap::new());
    for (_, line) in prose(text) {
        let Some(heading) = line.strip_prefix('#') else { continue };
        let heading = heading.trim_start_matches('#').trim();
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let anchor: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let times = seen.entry(anchor.clone()).or_insert(0);
        anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    anchors
}

/// Returns the targets of links and images in a line.
fn targets(line: &str) -> Vec<String> {
    let line = without_code(line);
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let html = ["src=\"", "href=\""].into_iter().flat_map(|attribute| line.split(attribute).skip(1));
    inline.chain(html.filter_map(|rest| rest.split('"').next())).map(str::to_owned).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let paths = pages_below(&root());
    assert!(paths.len() > 5);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in prose(&text) {
            for target in targets(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                count += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
                let place = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
                let why = if !place.exists() {
                    "there is no such file"
                } else if !anchor.is_empty() && !anchors(&std::fs::read_to_string(&place).unwrap()).contains(anchor) {
                    "the page has no such heading"
                } else {
                    continue;
                };
                let page = path.strip_prefix(root()).unwrap().display();
                wrong.push(format!("{page}:{number}: {target}: {why}"));
            }
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn anchors_are_those_of_github() {
    let page = "# A `code`, and: more\n```sh\n# no heading\n```\n## Same\n## Same\n";
    let expected = ["a-code-and-more", "same", "same-1"].map(str::to_owned);
    assert_eq!(anchors(page), HashSet::from(expected));
    assert_eq!(targets("[a](b.md#c), `[x](y)` and <img src=\"d.svg\" alt=\"\">"), ["b.md#c", "d.svg"]);
}
