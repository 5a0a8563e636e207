//! What a role can do that has nothing but a connection, and what the install script leaves to nobody else.

mod installation;
mod roles;

use std::path::Path;
use std::process::Command;

use e2e::{Cluster, code, picture, root, run};
use postgres::Client;
use postgres::error::SqlState;

const DENIED: Option<SqlState> = Some(SqlState::INSUFFICIENT_PRIVILEGE);

/// Who may call a function.
enum May {
    Anyone,
    /// Who may read the table.
    Readers,
    /// Who may write to the table as well.
    Writers,
    /// Who owns the table.
    Owner,
    /// The server alone.
    Triggers(SqlState),
}
