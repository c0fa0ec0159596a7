//! Configuration as written, checked, built and watched.
