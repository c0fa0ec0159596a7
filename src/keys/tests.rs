//! What keys promise: who is let in, who is not, and how little is said of it.
