//! Background workers as processes: who starts them, which slots they take, how they run transactions.

pub mod launcher;
pub mod locks;
pub mod process;
pub mod wake;
