//! The uses of a model in databases. They are queried with psql, which supports every way to connect.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Exit, Failure};

/// Finds the uses of a model: settings, and expressions that call the extension's functions. It returns one line per
/// use.
const QUERY: &str = include_str!("usage.sql");

/// Fails if one of the databases uses the model.
pub fn refuse_used(psql: &Path, name: &str, databases: &[String]) -> Result<(), Failure> {
    for database in databases {
        let uses = uses(psql, name, database)?;
        if !uses.is_empty() {
            return Err(Failure::new(format!("model \"{name}\" is used in \"{database}\": {}", uses.join("; ")))
                .exit(Exit::InUse)
                .hint("Change what uses it, or remove it all the same: --force"));
        }
    }
    Ok(())
}

fn uses(psql: &Path, name: &str, database: &str) -> Result<Vec<String>, Failure> {
    let failed = |reason: &str| {
        Failure::new(format!("could not ask \"{database}\" whether it uses the model: {reason}"))
            .hint("Give a connection string that psql accepts, or do without asking: --force")
    };
    let mut psql = Command::new(psql)
        .args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password"])
        .args(["--set", "ON_ERROR_STOP=1", "--set", &format!("model={name}"), "--dbname", database])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&format!("psql: {error}")))?;
    if let Some(mut input) = psql.stdin.take() {
        // An early end of psql is reported by its exit status.
        input.write_all(QUERY.as_bytes()).ok();
    }
    let output = psql.wait_with_output().map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
