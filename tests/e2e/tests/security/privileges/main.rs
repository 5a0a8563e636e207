//! The possibilities of a role with a connection only, and the safety of the install script.

mod installation;
mod roles;

use std::path::Path;
use std::process::Command;

use e2e::{Cluster, code, picture, root, run};
use postgres::Client;
use postgres::error::SqlState;

const DENIED: Option<SqlState> = Some(SqlState::INSUFFICIENT_PRIVILEGE);

/// The roles that can call a function.
enum May {
    Anyone,
    /// A role that can read the table.
    Readers,
    /// A role that can also write to the table.
    Writers,
    /// The owner of the table.
    Owner,
    /// The server alone.
    Triggers(SqlState),
}
