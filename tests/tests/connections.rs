//! `Connections` keeps an exact limit, closes idle connections, and reports reasons and counts.

use std::future::{Future as _, pending, poll_fn};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use lifecycle_runtime::{
    CloseReason, Component, Connection, Connections, GracefulShutdown, Outcome, Peer, Refused,
    ShutdownState,
};
use lifecycle_tests::{context, ms, secs};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{advance, sleep};
use tokio_test::assert_ready;
use tokio_test::task::spawn;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    connections: Connections,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new(connections: Connections) -> Self {
        Self {
            connections,
            state: ShutdownState::new(),
        }
    }
}

fn limit(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).expect("not zero")
}

/// Spawns a connection that serves until its close signal. The returned receiver gets the reason of the signal.
fn spawn_reporting(
    connections: &Connections,
    name: &'static str,
) -> oneshot::Receiver<CloseReason> {
    let (tell, reason) = oneshot::channel();
    let spawned = connections.spawn(name, |connection| async move {
        let _ = tell.send(connection.cancelled().await);
    });
    spawned.expect("there is a place");
    reason
}

/// Spawns a connection that serves for ever.
fn endless(connections: &Connections, name: &'static str) {
    connections
        .spawn(name, |_| pending::<()>())
        .expect("there is a place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_exact_when_many_connections_come_at_once() {
    const LIMIT: usize = 50;
    let connections = Connections::new(limit(LIMIT));
    let (runtime, admitted, served) = (Handle::current(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _inside = runtime.enter();
                for _ in 0..LIMIT {
                    let made = || served.fetch_add(1, Ordering::SeqCst);
                    match connections.spawn("peer", |_| {
                        made();
                        pending::<()>()
                    }) {
                        Ok(()) => drop(admitted.fetch_add(1, Ordering::SeqCst)),
                        Err(refused) => assert_eq!(refused, Refused::Full { limit: LIMIT }),
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), LIMIT);
    assert_eq!(
        served.into_inner(),
        LIMIT,
        "refused connections are not served"
    );
    let stats = connections.stats();
    assert_eq!(
        (stats.active, stats.peak, stats.accepted),
        (LIMIT, LIMIT, LIMIT as u64)
    );
    assert_eq!(stats.rejected, 3 * LIMIT as u64);
}

#[tokio::test]
async fn a_permit_is_free_again_when_its_task_ends_fails_panics_or_is_aborted() {
    let connections = Connections::new(limit(1));
    let free = async || {
        while connections.stats().active > 0 {
            yield_now().await;
        }
    };
    connections.spawn("ends", |_| async {}).unwrap();
    assert_eq!(
        connections.spawn("late", |_| async {}),
        Err(Refused::Full { limit: 1 })
    );
    free().await;
    connections
        .spawn("fails", |_| async { Err::<(), _>("reset by peer") })
        .unwrap();
    free().await;
    connections
        .spawn("panics", |_| async { panic!("a bad frame") })
        .unwrap();
    free().await;
    assert_eq!(connections.stats().failed, 2);
    endless(&connections, "stays");
    (&connections).abort();
    free().await;
    assert_eq!(connections.stats().forced, 1);
    let stats = connections.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.peak), (4, 1, 1));
}

#[tokio::test]
async fn a_permit_is_free_again_when_the_handler_panics_before_its_task_starts() {
    let connections = Connections::new(limit(1));
    let panics = std::panic::AssertUnwindSafe(|| {
        connections.spawn("peer", |_| -> std::future::Ready<()> {
            panic!("no buffer")
        })
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(connections.stats().active, 0);
    connections.spawn("next", |_| async {}).unwrap();
}

#[tokio::test]
async fn a_permit_is_taken_before_its_task_starts_and_given_back_without_one() {
    let connections = Connections::new(limit(1));
    let admission = connections.admit("first").expect("there is a place");
    assert_eq!(connections.stats().active, 1);
    let full = connections.admit("second").map(drop);
    assert_eq!(full, Err(Refused::Full { limit: 1 }));
    drop(admission);
    let stats = connections.stats();
    assert_eq!((stats.active, stats.accepted, stats.rejected), (0, 0, 1));

    let admission = connections.admit("third").expect("there is a place");
    connections.close();
    let mut drained = spawn(connections.drained());
    assert!(drained.poll().is_pending(), "it was admitted");
    admission.spawn(|connection| async move {
        connection.cancelled().await;
    });
    drained.await;
    assert_eq!(connections.stats().accepted, 1);
    assert_eq!(connections.admit("late").map(drop), Err(Refused::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_to_close_and_an_active_one_is_not() {
    let connections = Connections::with_idle_timeout(limit(9), secs(60));
    let mut idle = spawn_reporting(&connections, "idle");
    let mut active = spawn_reporting(&connections, "active");
    let busy = connections
        .list()
        .find(|it| it.peer() == &Peer::from("active"))
        .expect("it is there");
    for _ in 0..7 {
        advance(secs(10)).await;
        busy.touch();
        yield_now().await;
    }
    assert_eq!(idle.try_recv(), Ok(CloseReason::Idle));
    assert!(active.try_recv().is_err());
    assert!(busy.idle() < secs(10));
    let stats = connections.stats();
    assert_eq!((stats.expired, stats.forced, stats.active), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_after_its_close_signal_is_aborted() {
    let connections = Connections::with_idle_timeout(limit(9), secs(60));
    endless(&connections, "deaf");
    sleep(secs(110)).await;
    let deaf: Vec<_> = connections.list().collect();
    assert_eq!(deaf[0].close_reason(), Some(CloseReason::Idle));
    assert!(deaf[0].idle() >= secs(105), "{:?}", deaf[0].idle());
    sleep(secs(20)).await;
    assert_eq!(deaf[0].close_reason(), Some(CloseReason::Forced));
    let stats = connections.stats();
    assert_eq!((stats.active, stats.forced, stats.expired), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_task_with_one_timer_watches_all_connections_and_ends_when_they_close() {
    let connections = Connections::with_idle_timeout(limit(200), secs(60));
    let alive = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive(), 0, "none without a connection");
    for _ in 0..100 {
        drop(spawn_reporting(&connections, "peer"));
    }
    yield_now().await;
    assert_eq!(alive(), 101);
    (&connections).cleanup(&context()).await.unwrap();
    let began = tokio::time::Instant::now();
    while alive() > 0 {
        yield_now().await;
    }
    assert_eq!(
        began.elapsed(),
        ms(0),
        "the watch ends without waiting for its next look"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_is_not_idle_and_its_idle_time_begins_afterwards() {
    let connections = Connections::with_idle_timeout(limit(9), secs(60));
    let mut reason = spawn_reporting(&connections, "peer");
    let connection = connections.list().next().expect("it is there");
    let busy = connection.busy();
    let busier = connection.busy();
    sleep(secs(300)).await;
    drop(busier);
    sleep(secs(300)).await;
    assert!(reason.try_recv().is_err());
    assert_eq!(connection.idle(), secs(0));
    drop(busy);
    sleep(secs(50)).await;
    connection.add_bytes(1, 1);
    assert!(reason.try_recv().is_err());
    sleep(secs(20)).await;
    assert_eq!(
        reason.try_recv(),
        Ok(CloseReason::Idle),
        "keep-alive traffic says nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connections_description_is_in_the_report_and_its_panic_cuts_the_others_too() {
    let mut server = Server::new(Connections::new(limit(9)));
    endless(&server.connections, "10.0.0.7:4711");
    let slow = server.connections.list().next().expect("it is there");
    slow.set_description(|| "GET /slow".into());
    let report = server.shutdown().await;
    let Outcome::Failed(error) = report.step("connections").unwrap().outcome() else {
        panic!("{report}")
    };
    assert!(
        error
            .to_string()
            .contains("10.0.0.7:4711 (GET /slow) for 9.0 s"),
        "{error}"
    );

    let mut server = Server::new(Connections::new(limit(9)));
    endless(&server.connections, "10.0.0.7:4711");
    let bad = server.connections.list().next().expect("it is there");
    bad.set_description(|| panic!("it cannot be shown"));
    let report = server.shutdown().await;
    assert_eq!(report.elapsed(), secs(9), "{report}");
    assert_eq!(server.connections.stats().forced, 1);
}

#[test]
fn a_watch_ends_with_its_runtime_and_the_next_connection_starts_another() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let connections = Connections::with_idle_timeout(limit(9), secs(60));
    let first = build();
    first.block_on(async { endless(&connections, "first") });
    drop(first);
    build().block_on(async {
        let reason = spawn_reporting(&connections, "second");
        sleep(secs(70)).await;
        assert_eq!(reason.await, Ok(CloseReason::Idle));
    });
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_every_connection_that_it_drains() {
    let mut server = Server::new(Connections::new(limit(9)));
    let (first, second) = (
        spawn_reporting(&server.connections, "first"),
        spawn_reporting(&server.connections, "second"),
    );
    let acceptor = server.connections.acceptor();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (first.await, second.await),
        (Ok(CloseReason::Drain), Ok(CloseReason::Drain))
    );
    let late = acceptor.spawn("late", |_| -> std::future::Ready<()> {
        unreachable!("it is refused")
    });
    assert_eq!(late, Err(Refused::Closed));
    assert_eq!(acceptor.stats().rejected, 0, "the limit refused none");
}

#[tokio::test(start_paused = true)]
async fn remaining_connections_are_cut_at_the_soft_deadline_named_and_counted() {
    let mut server = Server::new(Connections::new(limit(9)));
    endless(&server.connections, "10.0.0.7:4711");
    let h2 = server.connections.list().next().expect("it is there");
    h2.set_protocol("h2");
    h2.set_protocol("h1");
    drop(spawn_reporting(&server.connections, "polite"));
    yield_now().await;
    let report = server.shutdown().await;
    let Outcome::Failed(error) = report.step("connections").unwrap().outcome() else {
        panic!("{report}")
    };
    assert_eq!(
        error.to_string(),
        "cut at the deadline: 1 connection: 10.0.0.7:4711 (h2) for 9.0 s"
    );
    assert_eq!(report.elapsed(), secs(9));
    let stats = server.connections.stats();
    assert_eq!((stats.active, stats.forced), (0, 1));
}

#[tokio::test]
async fn the_first_reason_to_close_stays() {
    let connections = Connections::new(limit(9));
    let reason = spawn_reporting(&connections, "peer");
    let connection = connections.list().next().expect("it is there");
    assert_eq!(connection.close_reason(), None);
    connection.close(CloseReason::Error);
    connection.close(CloseReason::Idle);
    assert_eq!(reason.await, Ok(CloseReason::Error));
    connections.close();
    assert_eq!(connection.close_reason(), Some(CloseReason::Error));
    connections.drained().await;
}

#[tokio::test]
async fn a_close_signal_is_seen_by_a_connection_that_listens_later() {
    let connections = Connections::new(limit(9));
    endless(&connections, "peer");
    let connection = connections.list().next().expect("it is there");
    connection.close(CloseReason::Error);
    assert_eq!(
        assert_ready!(spawn(connection.cancelled()).poll()),
        CloseReason::Error
    );
}

#[tokio::test]
async fn an_error_is_the_reason_of_a_connection_that_had_none() {
    let connections = Connections::new(limit(9));
    let (give, given) = mpsc::channel::<Connection>();
    let spawned = connections.spawn("peer", move |connection| {
        let _ = give.send(connection);
        async { Err::<(), _>("reset by peer") }
    });
    spawned.unwrap();
    connections.close();
    connections.drained().await;
    let connection = given.recv().expect("it was served");
    assert_eq!(connection.close_reason(), Some(CloseReason::Error));
}

#[tokio::test(start_paused = true)]
async fn a_dashboard_sees_every_connection_the_oldest_first() {
    let connections = Connections::new(limit(9));
    let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
    connections.spawn(addr, |_| pending::<()>()).unwrap();
    advance(secs(5)).await;
    connections
        .spawn(String::from("unix"), |_| pending::<()>())
        .unwrap();
    let list: Vec<_> = connections.list().collect();
    assert_eq!(
        list.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:80", "unix"]
    );
    assert_eq!(list[0].peer(), &Peer::Addr(addr));
    list[0].received(10);
    list[0].received(5);
    list[0].sent(7);
    assert_eq!(list[0].bytes(), (15, 7));
    assert_eq!((list[0].age(), list[1].age()), (secs(5), secs(0)));
    assert_eq!(list[0].protocol(), None);
}

#[tokio::test]
async fn dropping_the_connections_aborts_each_of_them_whoever_holds_an_acceptor() {
    let connections = Connections::new(limit(9));
    let (tell, gone) = oneshot::channel::<()>();
    let spawned = connections.spawn("peer", |_| async move {
        let _tell = tell;
        pending::<()>().await;
    });
    spawned.unwrap();
    yield_now().await;
    let acceptor = connections.acceptor();
    drop(connections);
    assert!(gone.await.is_err());
    while acceptor.stats().active > 0 {
        yield_now().await;
    }
    assert_eq!(acceptor.spawn("late", |_| async {}), Err(Refused::Closed));
    assert_eq!(acceptor.list().count(), 0);
}

/// Returns a connection with an endless task that it has spawned, and a receiver that ends when the task is dropped.
fn with_part(connections: &Connections) -> (Connection, oneshot::Receiver<()>) {
    let (tell, gone) = oneshot::channel::<()>();
    let spawned = connections.spawn("peer", |connection| async move {
        let part = connection.spawn(async move {
            let _tell = tell;
            pending::<()>().await;
        });
        part.expect("its task is there");
        connection.cancelled().await;
    });
    spawned.expect("there is a place");
    let connection = connections.list().next().expect("it is there");
    (connection, gone)
}

#[tokio::test]
async fn a_part_of_a_connection_is_dropped_when_the_connections_own_task_is_gone() {
    let connections = Connections::new(limit(9));
    let (connection, gone) = with_part(&connections);
    yield_now().await;
    connection.close(CloseReason::Error);
    assert!(gone.await.is_err());
    let late = connection.spawn(async { unreachable!("it is refused") });
    assert!(late.is_err());
    let stats = connections.stats();
    assert_eq!((stats.active, stats.failed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_connection_that_is_cut_are_awaited() {
    struct Slow(std::sync::mpsc::Sender<()>);
    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let mut server = Server::new(Connections::new(limit(9)));
    let (send, sent) = mpsc::channel();
    let spawned = server.connections.spawn("peer", |connection| async move {
        connection.cancelled().await;
        // A task may still be spawned after the close signal, for example for a stream that the client opened before it
        // learnt of the close.
        let late = connection.spawn(async move {
            let _slow = Slow(send);
            pending::<()>().await;
        });
        late.expect("its task is there");
        pending::<()>().await;
    });
    spawned.unwrap();
    let report = server.shutdown().await;
    assert_eq!(report.elapsed(), secs(9), "{report}");
    assert_eq!(sent.try_recv(), Ok(()), "gone when the step ended");
}

#[tokio::test]
async fn a_part_that_panics_ends_nothing_else() {
    let connections = Connections::new(limit(9));
    let mut reason = spawn_reporting(&connections, "peer");
    let connection = connections.list().next().expect("it is there");
    connection.spawn(async { panic!("a bad stream") }).unwrap();
    for _ in 0..3 {
        yield_now().await;
    }
    assert_eq!(connection.close_reason(), None);
    assert!(reason.try_recv().is_err(), "it goes on");
    connections.close();
    connections.drained().await;
}

#[tokio::test]
async fn a_detached_connection_has_a_close_signal_and_parts() {
    let connection = Connection::detached("test");
    let (tell, reason) = oneshot::channel();
    let part = connection.clone();
    let spawned = connection.spawn(async move {
        let _ = tell.send(part.cancelled().await);
    });
    spawned.unwrap();
    yield_now().await;
    connection.close(CloseReason::Drain);
    assert_eq!(reason.await, Ok(CloseReason::Drain));
}

#[tokio::test]
async fn a_waiter_for_the_close_is_woken_after_other_wakeups_and_on_another_task() {
    let connections = Connections::new(limit(9));
    let (tell, mut reason) = oneshot::channel();
    let (moved, waits) = oneshot::channel();
    let spawned = connections.spawn("peer", |connection| async move {
        let mut closing = Box::pin(async move { connection.cancelled().await });
        // This task polls the future several times, and then hands it to another task.
        for _ in 0..5 {
            let polled = poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            yield_now().await;
        }
        let _ = moved.send(closing);
        pending::<()>().await;
    });
    spawned.unwrap();
    let waits = waits.await.expect("it is handed over");
    tokio::spawn(async move {
        let _ = tell.send(waits.await);
    });
    for _ in 0..5 {
        yield_now().await;
    }
    assert!(reason.try_recv().is_err());
    connections.close();
    assert_eq!(reason.await, Ok(CloseReason::Drain));
}
