//! The steps of a part must fit into the part's timeout, too.

use lifecycle_runtime::GracefulShutdown;

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(part, timeout = "5s")]
struct Part {
    #[shutdown(timeout = "4s", with = close)]
    first: u8,
    #[shutdown(timeout = "4s", with = close)]
    second: u8,
}

fn main() {}
