//! Runs a server.
