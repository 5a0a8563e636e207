//! The rights of a role that can only connect, and the rights that the install script grants to nobody else.

mod installation;
mod policies;
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
    /// Roles that can read the table.
    Readers,
    /// Roles that can also write to the table.
    Writers,
    /// The owner of the table.
    Owner,
    /// Only the server.
    Triggers(SqlState),
}
