//! The future of a nested plan holds each inner future once. If every level held its futures twice, eight levels would
//! hold each future 256 times.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Reason};

struct Leaf;

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        let mut large = [0_u8; 1024];
        std::future::ready(()).await;
        large.fill(1);
        Ok(())
    }
}

macro_rules! parts {
    ($($name:ident($inner:ty))+) => {$(
        #[derive(GracefulShutdown)]
        #[shutdown(part)]
        struct $name(#[shutdown] $inner, #[shutdown] Leaf);
    )+};
}

parts! { A(Leaf) B(A) C(B) D(C) E(D) F(E) G(F) H(G) }

fn leaf() -> Leaf {
    Leaf
}

fn size(mut component: impl Component) -> usize {
    let cx = Context::new(Reason::Requested, std::time::Duration::from_secs(1));
    size_of_val(&component.cleanup(&cx))
}

fn main() {
    let one = size(A(leaf(), leaf()));
    let eight = H(G(F(E(D(C(B(A(leaf(), leaf()), leaf()), leaf()), leaf()), leaf()), leaf()), leaf()), leaf());
    let eight = size(eight);
    assert!(eight <= 8 * one, "one level: {one} bytes, eight: {eight}");
}
