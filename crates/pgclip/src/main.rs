//! The command `pgclip`: models in and out of a server's model folder.

fn main() {}
