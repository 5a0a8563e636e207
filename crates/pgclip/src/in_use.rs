//! The uses of a model in databases.

use std::path::Path;

use crate::database::query;
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
    let found = query(psql, database, &[("model", name)], QUERY).map_err(|reason| {
        Failure::new(format!("could not ask \"{database}\" whether it uses the model: {reason}"))
            .hint("Give a connection string that psql accepts, or do without asking: --force")
    })?;
    Ok(found.lines().map(str::to_owned).collect())
}
