//! Access to Postgres: values, strings, statements, roles, settings, errors, interrupts. Nothing here depends on a model.

pub mod arguments;
pub mod encoding;
pub mod environment;
pub mod error;
pub mod finfo;
pub mod installation;
pub mod interrupt;
pub mod messages;
pub mod roles;
pub mod server_settings;
pub mod settings;
pub mod spi;
mod sql_types;
pub mod subtransaction;
pub mod summary;
pub mod text;
pub mod timestamp;
pub mod values;
pub mod varlena;
pub mod vector;
