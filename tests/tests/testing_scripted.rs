//! A `Scripted` component behaves as its `Act` says, and counts its cleanups, aborts and releases.

use std::time::Instant;

use lifecycle_runtime::testing::{Act, Scripted};
use lifecycle_runtime::{Component as _, GracefulShutdown, Report, ShutdownState};
use lifecycle_tests::{ms, secs};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown(timeout = "2s")]
    pool: Scripted,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(act: Act) -> Server {
    Server {
        pool: Scripted::new(act),
        state: ShutdownState::new(),
    }
}

/// Shuts down a server whose step behaves as `act`. Returns the step's outcome, its time in milliseconds, and how often
/// it was cleaned and aborted.
async fn acted(act: Act) -> (String, u128, (u32, u32)) {
    let mut server = server(act);
    let report: Report = server.shutdown().await;
    let step = report.step("pool").unwrap();
    let counts = (server.pool.cleanups(), server.pool.aborts());
    assert_eq!(server.pool.releases(), 0);
    (
        step.outcome().to_string(),
        step.elapsed().as_millis(),
        counts,
    )
}

#[tokio::test(start_paused = true)]
async fn a_scripted_component_succeeds_fails_panics_hangs_or_takes_its_time_as_told() {
    assert_eq!(acted(Act::Succeed).await, ("done".into(), 0, (1, 0)));
    let failed = acted(Act::Fail("the disk is full")).await;
    assert_eq!(failed, ("failed: the disk is full".into(), 0, (1, 1)));
    let panicked = acted(Act::Panic("no")).await;
    assert_eq!(panicked, ("panicked: no".into(), 0, (1, 1)));
    assert_eq!(
        acted(Act::Take(ms(1_500))).await,
        ("done".into(), 1_500, (1, 0))
    );
    let (outcome, elapsed, counts) = acted(Act::Hang).await;
    assert!(
        outcome.starts_with("timed out") && outcome.contains("Hang"),
        "{outcome}"
    );
    assert_eq!((elapsed, counts), (2_000, (1, 1)));
    let (outcome, _, counts) = acted(Act::Take(secs(60))).await;
    assert!(outcome.starts_with("timed out"), "{outcome}");
    assert_eq!(counts, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_scripted_component_blocks_its_thread_in_real_time() {
    let began = Instant::now();
    let (outcome, elapsed, counts) = acted(Act::Block(ms(30))).await;
    assert!(began.elapsed() >= ms(30));
    assert_eq!((&*outcome, elapsed, counts), ("done", 0, (1, 0)));
}

#[test]
fn a_scripted_component_counts_its_releases() {
    let mut pool = Scripted::new(Act::Hang);
    pool.release();
    pool.release();
    assert_eq!((pool.releases(), pool.cleanups(), pool.aborts()), (2, 0, 0));
}
