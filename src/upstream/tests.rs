//! Stories with a scripted peer on the other side of a real socket.

mod hostile;
mod reuse;
mod secure;
mod streams;
mod uploads;
