//! Runs the SQL of every page: README.md and all files under docs/ that have ```sql fences.
//!
//! Each page has a fresh database without extensions and one psql session, so that SET, \gset and COPY carry over from
//! block to block. Every block is executed. The conventions of a page:
//!
//! - An ```output fence after a ```sql fence is psql's whole aligned output of that block, with headers and the number of
//!   rows. White space at the ends of lines does not count. A block that has an output has one statement that prints.
//! - If the output begins with NOTICE:, WARNING: or ERROR:, the messages of psql come before the rows. Only such a block
//!   may fail, and only if its output has a line that begins with ERROR:.
//! - `<!-- sql … -->` is a block that readers do not see, for the set-up of a page.
//! - A page with `<!-- servers … -->` is run by `make test-cluster`.
//! - `<!-- model NAME -->` adds a copy of the embedded model under this name, for the time of the page.
//!
//! PG_CLIP_PAGE=docs/guides/search.md runs that page only. PG_CLIP_WRITE_OUTPUTS=1 replaces the outputs in the pages by
//! the printed ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::{Cluster, pages_below, root};

const MARK: &str = "---- end of block";

struct Block {
    sql: String,
    /// The range of the expected output in the page.
    output: Option<Range<usize>>,
}

struct Page {
    path: PathBuf,
    text: String,
    models: Vec<String>,
    blocks: Vec<Block>,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut page = Self { path, text, models: Vec::new(), blocks: Vec::new() };
        let (mut place, mut open): (usize, Option<(String, usize)>) = (0, None);
        let mut after_sql = false;
        for line in page.text.split_inclusive('\n') {
            let (start, trimmed) = (place, line.trim());
            place += line.len();
            let kind = open.as_ref().map(|(kind, _)| kind.as_str());
            match kind {
                None => {
                    if let Some(name) = trimmed.strip_prefix("<!-- model ") {
                        page.models.push(name.trim_end_matches("-->").trim().to_owned());
                    }
                    let kind = trimmed.strip_prefix("```").or_else(|| (trimmed == "<!-- sql").then_some("hidden"));
                    open = kind.map(|kind| (kind.to_owned(), place));
                }
                Some(kind) if trimmed == if kind == "hidden" { "-->" } else { "```" } => {
                    let (kind, begin) = open.take().unwrap();
                    match kind.as_str() {
                        "sql" | "hidden" => {
                            page.blocks.push(Block { sql: page.text[begin..start].to_owned(), output: None });
                        }
                        "output" if after_sql => page.blocks.last_mut().unwrap().output = Some(begin..start),
                        _ => (),
                    }
                    after_sql = kind == "sql";
                }
                Some(_) => (),
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", page.path.display());
        for Block { sql, .. } in &page.blocks {
            let last = sql.trim_end().lines().next_back().unwrap_or_default();
            // Otherwise the next block would be a part of the statement.
            assert!(last.ends_with(';') || last.contains('\\'), "{}: no end of statement: {sql}", page.path.display());
        }
        page
    }

    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    fn expected(&self, block: &Block) -> Option<&str> {
        block.output.clone().map(|place| &self.text[place])
    }

    /// Returns the page as one script. It prints a mark on both outputs after each block.
    fn script(&self) -> String {
        let mut script = "\\set ON_ERROR_STOP 1\n".to_owned();
        for block in &self.blocks {
            let may_fail = self.expected(block).is_some_and(has_error);
            if may_fail {
                script += "\\set ON_ERROR_STOP 0\n";
            }
            writeln!(script, "{}\n\\echo {MARK}\n\\warn {MARK}", block.sql).unwrap();
            if may_fail {
                script += "\\set ON_ERROR_STOP 1\n";
            }
        }
        script
    }

    /// Returns all failed blocks, each with its number from 1.
    fn check(&mut self, cluster: &Cluster) -> Vec<String> {
        let database = self.name().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").to_lowercase();
        let mut client = cluster.connect();
        client.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
        for (number, model) in self.models.iter().enumerate() {
            // The second copy has another digest, as clip_reembed expects, and computes the same embeddings.
            cluster.add_emoji(model, if number == 1 { &["--ignore-exif-orientation"] } else { &[] });
        }
        let (results, messages, completed) = run(cluster, &database, self.script());
        client.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).unwrap();
        for model in &self.models {
            std::fs::remove_dir_all(cluster.models().join(model)).unwrap();
        }
        let (results, messages) = (parts(&results), parts(&messages));
        let (mut wrong, mut printed) = (Vec::new(), Vec::new());
        for (number, block) in self.blocks.iter().enumerate() {
            let place = format!("{}, block {}:\n{}", self.name(), number + 1, block.sql);
            if number + 1 >= results.len() {
                let said = messages.get(number).map_or("", String::as_str);
                let why = if completed { "the session ended" } else { "an error" };
                wrong.push(format!("{place}{why}:\n{said}\n"));
                break;
            }
            let Some(expected) = self.expected(block) else { continue };
            let given = if has_message(expected) {
                tidy(&format!("{}\n{}", messages[number], results[number]))
            } else {
                results[number].clone()
            };
            if given != tidy(expected) {
                wrong.push(format!("{place}expected:\n{expected}printed:\n{given}\n"));
            }
            printed.push((block.output.clone().unwrap(), given + "\n"));
        }
        if std::env::var_os("PG_CLIP_WRITE_OUTPUTS").is_some() {
            printed.into_iter().rev().for_each(|(place, given)| self.text.replace_range(place, &given));
            std::fs::write(&self.path, &self.text).unwrap();
        }
        wrong
    }
}

fn has_error(output: &str) -> bool {
    output.lines().any(|line| line.starts_with("ERROR:"))
}

fn has_message(output: &str) -> bool {
    ["NOTICE:", "WARNING:", "ERROR:"].iter().any(|word| output.starts_with(word))
}

/// Removes white space at the ends of lines, and empty lines at both ends.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Returns the text before each mark, and the text after the last one.
fn parts(printed: &str) -> Vec<String> {
    printed.split(&format!("{MARK}\n")).map(tidy).collect()
}

/// Returns the results, the messages, and whether psql reached the end of the script.
fn run(cluster: &Cluster, database: &str, script: String) -> (String, String, bool) {
    let mut psql = Command::new(format!("{}/psql", e2e::pg_config("--bindir")))
        .current_dir(root())
        .args(["-X", "--quiet", "--username=postgres"])
        .arg(format!("--host={}", cluster.directory.display()))
        .arg(format!("--dbname={database}"))
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = psql.stdin.take().unwrap();
    // psql stops reading after an error.
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()).ok());
    let output = psql.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.success())
}

#[test]
fn every_sql_block_runs_and_prints_what_the_page_shows() {
    let mut paths = vec![root().join("README.md")];
    paths.extend(pages_below(&root().join("docs")));
    if let Ok(page) = std::env::var("PG_CLIP_PAGE") {
        paths.retain(|path| path.ends_with(&page));
        assert!(!paths.is_empty(), "there is no page {page}");
    }
    let cluster = Cluster::start_with(&["max_worker_processes = 16"]);
    // Only the embedded model stays, as after an installation.
    for model in ["wide", "narrow", "bidirectional", "fragile"] {
        std::fs::remove_dir_all(cluster.models().join(model)).unwrap();
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in paths {
        let mut page = Page::read(path);
        // The pages of several servers belong to the tests in tests/cluster.
        if page.blocks.is_empty() || page.text.contains("<!-- servers ") {
            continue;
        }
        let begun = std::time::Instant::now();
        let failures = page.check(&cluster);
        count += page.blocks.len();
        let result = if failures.is_empty() { "ok" } else { "FAILED" };
        println!("{}: {} blocks, {} ms, {result}", page.name(), page.blocks.len(), begun.elapsed().as_millis());
        wrong.extend(failures);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 0);
    cluster.assert_no_crash();
}
