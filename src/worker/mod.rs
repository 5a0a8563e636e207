//! Background workers as processes: their start, their locks, their transactions.

pub mod launcher;
pub mod locks;
pub mod process;
pub mod wake;
