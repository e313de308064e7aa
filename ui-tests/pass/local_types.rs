//! Types with the derive may be inside functions, also two types with the same name.

fn close(_: &mut u8) {}

fn one() -> usize {
    use lifecycle_runtime::{Component, GracefulShutdown};

    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Part(#[shutdown(with = close)] u8);
    Part::PLAN.steps().len()
}

fn two() -> usize {
    #[derive(lifecycle_runtime::GracefulShutdown)]
    #[shutdown(part)]
    struct Part(#[shutdown(with = close)] u8, #[shutdown(with = close)] u8);
    <Part as lifecycle_runtime::Component>::PLAN.steps().len()
}

fn main() {
    assert_eq!((one(), two()), (1, 2));
}
