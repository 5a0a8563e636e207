//! The imports between the source files of a crate, and the circles among them.
//!
//! The check reads only the text of the files: it expands no macro, and assigns a path inside an inline module to its
//! file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// The files that each file imports from. Paths are relative to the source directory.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// A module path from the root of its crate: `["pixels", "jpeg"]`.
type Module = Vec<String>;

/// Returns all files below `folder`, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

/// Returns the code of a file without its inline test module, which is at the end.
pub fn code(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Returns the Rust files of a crate with their code, except the modules that are compiled for tests only.
pub fn sources(src: &Path) -> BTreeMap<String, String> {
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
        (name, code(&std::fs::read_to_string(path).unwrap()).to_owned())
    };
    let mut sources: BTreeMap<_, _> = files(src).iter().map(read).collect();
    sources.retain(|name, _| name.ends_with(".rs"));
    let is_test = |name: &str| {
        let module = module_of(name);
        let Some((last, parent)) = module.split_last() else { return false };
        let declaration = format!("#[cfg(test)]\nmod {last};");
        sources.iter().any(|(file, code)| module_of(file) == parent && code.contains(&declaration))
    };
    let tests: Vec<String> = sources.keys().filter(|name| is_test(name)).cloned().collect();
    sources.retain(|name, _| !tests.contains(name));
    sources
}

/// Returns the graph of a crate's imports.
pub fn graph(sources: &BTreeMap<String, String>) -> Graph {
    let modules: BTreeMap<Module, &String> = sources.keys().map(|name| (module_of(name), name)).collect();
    let imports = |(name, code): (&String, &String)| {
        let module = module_of(name);
        let tokens = tokens(code);
        let mut names: BTreeMap<String, Module> = BTreeMap::new();
        for child in modules.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(&module)) {
            names.insert(child[module.len()].clone(), child.clone());
        }
        let paths: Vec<Module> = paths(&tokens).into_iter().filter_map(|path| absolute(&path, &module)).collect();
        // A path may begin with an imported module.
        names.extend(paths.iter().filter_map(|path| Some((path.last()?.clone(), path.clone()))));
        let short = tokens.windows(3).enumerate().filter(|(at, window)| {
            window[1] == "::" && (*at == 0 || tokens[at - 1] != "::") && names.contains_key(&window[0])
        });
        let short = short.map(|(_, window)| [&names[&window[0]][..], &window[2..]].concat());
        let used = paths.iter().cloned().chain(short).filter_map(|path| file_of(&path, &modules));
        (name.clone(), used.filter(|used| used != name).collect())
    };
    sources.iter().map(imports).collect()
}

/// Collapses a graph to the directories and files at the top of the crate.
pub fn rooms(graph: &Graph) -> Graph {
    let room = |file: &String| file.split('/').next().unwrap().to_owned();
    let mut rooms = Graph::new();
    for (file, used) in graph {
        let from = room(file);
        rooms.entry(from.clone()).or_default().extend(used.iter().map(room).filter(|to| *to != from));
    }
    rooms
}

/// Returns the shortest circle through each file that is in a circle. Each circle appears once: `a.rs -> b.rs -> a.rs`.
pub fn circles(graph: &Graph) -> Vec<String> {
    let mut found = BTreeMap::new();
    for start in graph.keys() {
        let mut before: BTreeMap<&String, &String> = BTreeMap::new();
        let mut pending = VecDeque::from([start]);
        while let Some(file) = pending.pop_front() {
            for used in graph.get(file).into_iter().flatten() {
                if !before.contains_key(used) {
                    before.insert(used, file);
                    pending.push_back(used);
                }
            }
        }
        if before.contains_key(start) {
            let mut circle = vec![start];
            let mut at = before[start];
            while at != start {
                circle.push(at);
                at = before[at];
            }
            circle.push(start);
            circle.reverse();
            let members: BTreeSet<&String> = circle.iter().copied().collect();
            let text = circle.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(" -> ");
            found.entry(members).or_insert(text);
        }
    }
    found.into_values().collect()
}

fn module_of(file: &str) -> Module {
    let parts = file.strip_suffix(".rs").unwrap().split('/').map(str::to_owned);
    let mut module: Module = parts.collect();
    if module.last().is_some_and(|last| last == "mod") || matches!(file, "lib.rs" | "main.rs") {
        module.pop();
    }
    module
}

/// Returns the file of a path's last module.
fn file_of(path: &Module, modules: &BTreeMap<Module, &String>) -> Option<String> {
    (0..=path.len()).rev().find_map(|length| modules.get(&path[..length]).map(|file| (*file).clone()))
}

/// Resolves `crate`, `self` and `super` at the beginning of a path.
fn absolute(path: &Module, module: &Module) -> Option<Module> {
    let mut base = module.clone();
    let mut rest = path.as_slice();
    match path.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while rest.first().is_some_and(|first| first == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
            return Some([base, rest.to_vec()].concat());
        }
        _ => return None,
    }
    base.extend_from_slice(&rest[1..]);
    Some(base)
}

/// Returns the paths that begin with `crate`, `self` or `super`, including those in groups.
fn paths(tokens: &[String]) -> Vec<Module> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 1 < tokens.len() {
        let begins = matches!(tokens[at].as_str(), "crate" | "self" | "super") && tokens[at + 1] == "::";
        // `pub(in crate::a)` is not an import.
        let is_visibility = at >= 2 && tokens[at - 2] == "(" && tokens[at - 1] == "in";
        if begins && !is_visibility && (at == 0 || tokens[at - 1] != "::") {
            at = tree(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the path at `at`, with all branches of its group, and returns its end.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = prefix.to_vec();
    let is_name = |token: &String| token.starts_with(|first: char| first.is_alphabetic() || first == '_');
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                at = if tokens[at] == "," { at + 1 } else { tree(tokens, at, &path, found) };
            }
            return at + 1;
        }
        if !is_name(token) {
            // `*`, or the `<` of a generic path.
            at += 1;
            break;
        }
        if path.is_empty() || token != "self" {
            path.push(token.clone());
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    found.push(path);
    at
}

/// Returns names, `::` and single marks, without comments and literals.
fn tokens(code: &str) -> Vec<String> {
    let bytes = code.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &code[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(length) = literal(rest) {
            at += length;
        } else if is_name(bytes[at]) {
            let length = bytes[at..].iter().take_while(|&&byte| is_name(byte)).count();
            found.push(rest[..length].to_owned());
            at += length;
        } else if rest.starts_with("::") {
            found.push("::".into());
            at += 2;
        } else {
            if !bytes[at].is_ascii_whitespace() {
                found.push(rest[..1].to_owned());
            }
            at += 1;
        }
    }
    found
}

/// Returns the length of the string or character that the text begins with. A lifetime is neither.
fn literal(text: &str) -> Option<usize> {
    let plain = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - plain.len();
    let raw = plain.strip_prefix('r').unwrap_or("");
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    if prefix <= 1 && raw[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = prefix + 1 + hashes + 1;
        return Some(inside + text[inside..].find(&end)? + end.len());
    }
    let quote = plain.chars().next().filter(|quote| prefix <= 1 && matches!(quote, '"' | '\''))?;
    let mut characters = plain.char_indices().skip(1);
    let mut length = 0;
    while let Some((place, character)) = characters.next() {
        match character {
            // An escape may be longer than one character.
            '\\' if quote == '\'' => return Some(prefix + place + 2 + plain[place + 2..].find('\'')? + 1),
            '\\' => drop(characters.next()),
            _ if character == quote => return Some(prefix + place + 1),
            // `'a` without a second quote.
            _ if quote == '\'' && length == 1 => return None,
            _ => {}
        }
        length += 1;
    }
    None
}
