//! The output of the command: tables for people, JSON for programs, and bars during long work.

use std::io::{self, IsTerminal, Write};

use clip::Manifest;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// Prints JSON for programs.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    line(&text)
}

/// Prints a line. A closed pipe is not an error.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(Failure::new),
    }
}

/// Prints rows under their titles, with columns as narrow as possible.
pub fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    for row in std::iter::once(titles.map(str::to_owned)).chain(rows.iter().cloned()) {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Returns a number of bytes with a unit.
pub fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// Returns a manifest for programs, with the size of all files, and whether connections share the weights.
pub fn describe(manifest: &Manifest, prepared: bool) -> Result<serde_json::Value, Failure> {
    let mut value = serde_json::to_value(manifest).map_err(Failure::new)?;
    value["size_bytes"] = json!(manifest.size_bytes());
    value["prepared"] = json!(prepared);
    Ok(value)
}

/// A bar per file on a terminal. Nothing is printed elsewhere.
pub struct Bar {
    bar: ProgressBar,
    file: String,
}

impl Bar {
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), file: String::new() }
    }

    /// Sets the progress of a file.
    pub fn set(&mut self, file: &str, size: u64, done: u64) {
        if self.file != file {
            self.finish();
            self.file = file.into();
            self.bar = bar(file, size);
        }
        self.bar.set_position(done);
    }

    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Returns a bar with rate and remaining time.
pub fn bar(file: &str, size: u64) -> ProgressBar {
    let template = "{msg}  {bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
    let bar = if io::stderr().is_terminal() { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(file.to_owned())
}
