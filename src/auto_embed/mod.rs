//! Managed columns: their triggers, and the fills that embed pending rows.

mod backfill;
mod check;
mod columns;
mod counts;
mod ddl;
mod embed_rows;
mod fill;
mod filling;
mod pairs;
mod parse_tree;
mod row_failure;
mod statement;
mod trigger;
mod trigger_row;

pub use fill::{Filled, Position, fill_next, fire_triggers_at_once};
pub use filling::Filling;
