//! The derive works beside other attributes, other derives, visibilities and trailing commas.
#![deny(warnings)]

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

/// A server with attributes of every kind.
#[allow(dead_code)] // The derive must accept attributes beside its own.
#[must_use]
#[derive(Debug, GracefulShutdown, Default)]
#[repr(C)]
#[shutdown(timeout = "5s",)]
pub struct Server {
    /// A field with attributes of other macros.
    #[shutdown(priority = 1, with = close,)]
    #[allow(unused)] // The derive must accept attributes beside its own on a field, too.
    #[doc(alias = "first")]
    pub(crate) a: u8,
    #[doc(hidden)]
    #[shutdown(after(a,), with = close)]
    pub(in crate) b: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {
    drop(Server::default());
}
