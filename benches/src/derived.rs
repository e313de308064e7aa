//! Compares a derived shutdown with a shutdown written by hand. Both have the same steps, which end at once, and give
//! the same guarantees.

mod by_hand;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

use crate::alloc::Count;
use crate::table::{Contest, Table};

use self::by_hand::ByHand;

/// A component whose cleanup ends at its first poll, and counts its runs.
#[derive(Default)]
pub struct Ready(pub u64);

impl Component for Ready {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.0 += 1;
        Ok(())
    }
}

macro_rules! owner {
    ($name:ident: $($field:ident),*) => {
        #[derive(GracefulShutdown)]
        #[shutdown(timeout = "25s")]
        pub struct $name {
            $(#[shutdown(timeout = "1s")] $field: Ready,)*
            #[shutdown(state)]
            state: ShutdownState,
        }

        impl $name {
            pub fn new() -> Self {
                Self { $($field: Ready::default(),)* state: ShutdownState::new() }
            }
        }
    };
}

owner!(Derived: a, b, c, d, e, f, g, h);
owner!(Half: a, b, c, d);

const HAND: &str = "by hand";
const OURS: &str = "derived";

pub fn run(rounds: usize) -> Vec<Table> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    const TIMES: usize = 500;
    let mut contest = Contest::new("A shutdown of 8 ready steps", "ns");
    contest.add(HAND, || {
        let began = std::time::Instant::now();
        runtime.block_on(async {
            for _ in 0..TIMES {
                let mut server = ByHand::default();
                let report = server.shutdown().await;
                if !report.is_clean() || server.runs() != 8 {
                    return Err("a step did not run".to_owned());
                }
            }
            Ok(began.elapsed().as_secs_f64() * 1e9 / TIMES as f64)
        })
    });
    contest.add(OURS, || {
        let began = std::time::Instant::now();
        runtime.block_on(async {
            for _ in 0..TIMES {
                let mut server = Derived::new();
                let report = server.shutdown().await;
                if !report.is_clean() || server.h.0 != 1 {
                    return Err("a step did not run".to_owned());
                }
            }
            Ok(began.elapsed().as_secs_f64() * 1e9 / TIMES as f64)
        })
    });
    contest.goal(OURS, HAND, 1.8);

    let mut counted = Table::counted("A shutdown of ready steps: allocations", "calls");
    let (eight, four, hand) = runtime.block_on(async {
        let eight = calls(&mut Derived::new()).await;
        let four = calls(&mut Half::new()).await;
        let mut by_hand = ByHand::default();
        let count = Count::begin();
        let report = by_hand.shutdown().await;
        let hand = count.end().calls;
        drop(report);
        (eight, four, hand)
    });
    counted.count("by hand, 8 steps", hand as f64, None);
    counted.count("derived, 8 steps", eight as f64, Some(5.0));
    counted.count(
        "derived, for each step more",
        (eight - four) as f64 / 4.0,
        Some(0.0),
    );
    vec![contest.run(rounds), counted]
}

async fn calls<S: GracefulShutdown>(server: &mut S) -> usize {
    let count = Count::begin();
    let report = server.shutdown().await;
    let calls = count.end().calls;
    drop(report);
    calls
}
