//! Plans of five levels with twenty steps each stay far below the compiler's limit for const evaluation.
#![deny(long_running_const_eval)]

use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown};

fn close(_: &mut u8) {}

macro_rules! level {
    ($name:ident of $inner:ty, $($key:tt)*) => {
        #[derive(GracefulShutdown)]
        #[shutdown(part)]
        struct $name {
            #[shutdown($($key)*)] a: $inner, #[shutdown($($key)*)] b: $inner,
            #[shutdown($($key)*)] c: $inner, #[shutdown($($key)*)] d: $inner,
            #[shutdown($($key)*)] e: $inner, #[shutdown($($key)*)] f: $inner,
            #[shutdown($($key)*)] g: $inner, #[shutdown($($key)*)] h: $inner,
            #[shutdown($($key)*)] i: $inner, #[shutdown($($key)*)] j: $inner,
            #[shutdown($($key)*)] k: $inner, #[shutdown($($key)*)] l: $inner,
            #[shutdown($($key)*)] m: $inner, #[shutdown($($key)*)] n: $inner,
            #[shutdown($($key)*)] o: $inner, #[shutdown($($key)*)] p: $inner,
            #[shutdown($($key)*)] q: $inner, #[shutdown($($key)*)] r: $inner,
            #[shutdown($($key)*)] s: $inner, #[shutdown($($key)*)] t: $inner,
        }
    };
}

level!(One of u8, with = close, timeout = "1ms");
level!(Two of One,);
level!(Three of Two,);
level!(Four of Three,);
level!(Five of Four, priority = 1);

fn main() {
    assert_eq!(Four::PLAN.budget(), Some(Duration::from_millis(160_000)));
    assert_eq!(Five::PLAN.budget(), Four::PLAN.budget());
}
