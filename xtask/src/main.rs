//! The command line of aimodel; thin.
fn main() {}
