//! Stories told through the real binary: clients in front, a scripted upstream behind.

fn main() {}
