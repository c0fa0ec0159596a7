//! Wasmtime: engines, preparation of files, instances, calls.

mod calls;
mod cell;
mod contract;
mod decoder;
mod grantee;
mod guest;
mod imports;
mod instance;
mod kept;
mod prepare;
mod road;
mod sandbox;
mod snapshot;
mod ticker;
mod trace;
mod trial;
mod wire;

#[cfg(test)]
mod tests;

pub use contract::examine;
pub use decoder::Decoder;
pub(super) use guest::Guest;
pub(super) use prepare::Preparation;
pub(super) use sandbox::Sandbox;
