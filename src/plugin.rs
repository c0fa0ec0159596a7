//! The host of WebAssembly plugins: components of the world in `wit/`, each call in its own sandbox, with what it may
//! ask for and what it may cost.
