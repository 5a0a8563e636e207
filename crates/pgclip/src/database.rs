//! Queries of databases by psql, which supports every way to connect.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns the rows of a script, or the errors of psql. `variables` are psql's, for the script.
pub fn query(psql: &Path, database: &str, variables: &[(&str, &str)], script: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("psql: {error}");
    let mut command = Command::new(psql);
    command.args([
        "--no-psqlrc",
        "--no-align",
        "--tuples-only",
        "--quiet",
        "--no-password",
        "--set",
        "ON_ERROR_STOP=1",
    ]);
    for (name, value) in variables {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    command.arg("--dbname").arg(database).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut psql = command.spawn().map_err(failed)?;
    if let Some(mut input) = psql.stdin.take() {
        // An early end of psql is reported by its exit status.
        input.write_all(script.as_bytes()).ok();
    }
    let output = psql.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}
