//! Servers with a watchdog and something that keeps them from ending. The argument selects that obstacle.

use std::future::pending;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Reason, Report, Runner, ShutdownHandle,
    ShutdownState, Stop,
};
use lifecycle_tests::{Logs, ms, secs};
use tokio::runtime::{Builder, Runtime};

/// The behaviour of the server's first step in the shutdown.
#[derive(Clone, Copy)]
enum Act {
    End,
    Hang,
    /// The step blocks the executor for ever.
    Block,
    /// The step blocks the executor for ever, and its `waiting_for` closure blocks too.
    BlockMute,
    /// The step blocks the executor for longer than a plan may go without a heartbeat.
    BlockAWhile,
    /// The step takes as long as in `BlockAWhile`, without blocking the executor.
    WaitAWhile,
}

struct Drain(Act, Logs);

impl Component for Drain {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match self.0 {
            Act::BlockMute => cx.waiting_for(|| {
                block();
                String::new()
            }),
            _ => cx.waiting_for(|| "3 connections".into()),
        }
        let logs = self.1.clone();
        cx.on_force(move || {
            println!("the hook ran");
            print_blocked(&logs);
        });
        match self.0 {
            Act::End => {}
            Act::Hang => pending().await,
            Act::Block | Act::BlockMute => block(),
            Act::BlockAWhile => {
                // The engine polls the other steps first, since this step yields once.
                tokio::task::yield_now().await;
                thread::sleep(secs(5));
            }
            Act::WaitAWhile => tokio::time::sleep(secs(5)).await,
        }
        Ok(())
    }

    fn abort(&mut self) {
        println!("drain aborted");
    }
}

/// A component whose cleanup waits for ever.
struct Relay;

impl Component for Relay {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.waiting_for(|| "the mail relay".into());
        pending().await
    }
}

struct Pool;

impl Component for Pool {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        println!("pool closed");
        Ok(())
    }
}

/// A value whose drop blocks the executor if the field is `true`.
struct Holds(bool);

impl Drop for Holds {
    fn drop(&mut self) {
        if self.0 {
            block();
        }
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = self.patience, at_most = "60s")]
struct Server {
    patience: Duration,
    #[shutdown(priority = 0)]
    relay: Option<Relay>,
    #[shutdown(priority = 0)]
    drain: Drain,
    #[shutdown(priority = 1)]
    pool: Pool,
    holds: Holds,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server whose budget is a constant, so that the runner knows it before the server is built.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "500ms")]
struct Small {
    #[shutdown(timeout = "300ms")]
    pool: Pool,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server with a call on the blocking pool that never returns.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "500ms")]
struct Storing {
    #[shutdown(timeout = "200ms", blocking, with = |_store: &mut ()| block())]
    store: Option<()>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(act: Act, logs: &Logs) -> Server {
    Server {
        patience: ms(500),
        relay: None,
        drain: Drain(act, logs.clone()),
        pool: Pool,
        holds: Holds(false),
        state: ShutdownState::new(),
    }
}

/// Blocks the current thread for ever.
fn block() {
    loop {
        thread::park();
    }
}

/// Sleeps for longer than any watchdog in this file waits.
fn past_every_watchdog() {
    thread::sleep(secs(3));
}

fn print_blocked(logs: &Logs) {
    for event in logs.named("executor_blocked") {
        println!(
            "executor_blocked: {} by {}, {}",
            event.field("component"),
            event.field("steps"),
            event.number("blocked_ms") > 3_000,
        );
    }
}

async fn serve(_: &mut Server, stop: Stop) {
    println!("serving");
    stop.cancelled().await;
}

fn current_thread() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn multi_thread() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

fn watched(server: Server) -> Runner<Server> {
    Runner::new(server).watchdog(ms(200))
}

fn blocked_step(act: Act, logs: &Logs) -> Report {
    let mut server = server(act, logs);
    // The timeout is long enough for the runner to notice meanwhile that the executor is blocked.
    server.patience = secs(4);
    server.relay = Some(Relay);
    current_thread().block_on(watched(server).run(serve))
}

/// Runs a main that blocks the executor before a shutdown is requested.
fn blocked_main(handle: &ShutdownHandle, logs: &Logs) -> Report {
    let server = server(Act::End, logs);
    current_thread().block_on(watched(server).handle(handle).run(
        async |_: &mut Server, _: Stop| {
            println!("serving");
            block();
        },
    ))
}

/// Requests the shutdown when a line arrives on stdin.
fn request_at_a_line(handle: &ShutdownHandle) {
    let handle = handle.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().lines().next();
        handle.request(Reason::Requested);
    });
}

fn two_runs(logs: &Logs) -> Report {
    let runtime = multi_thread();
    let first = watched(server(Act::End, logs)).run(async |_: &mut Server, _: Stop| {});
    assert!(runtime.block_on(first).is_clean());
    let second = Runner::new(server(Act::End, logs)).run(async |_: &mut Server, _: Stop| {
        past_every_watchdog();
        println!("the second has served");
    });
    runtime.block_on(second)
}

fn main() -> ExitCode {
    let logs = Logs::default();
    tracing::subscriber::set_global_default(logs.subscriber())
        .expect("this is the only subscriber");
    let handle = ShutdownHandle::new();
    let how = std::env::args().nth(1).unwrap_or_default();
    let report = match &*how {
        "clean" => multi_thread().block_on(watched(server(Act::End, &logs)).run(serve)),
        "hang" => multi_thread().block_on(watched(server(Act::Hang, &logs)).run(serve)),
        "blocked-step" => blocked_step(Act::Block, &logs),
        "blocked-mute" => blocked_step(Act::BlockMute, &logs),
        "blocked-a-while" | "waits-a-while" => {
            let act = match &*how {
                "blocked-a-while" => Act::BlockAWhile,
                _ => Act::WaitAWhile,
            };
            let mut server = server(act, &logs);
            server.patience = secs(30);
            let report = current_thread().block_on(watched(server).run(serve));
            print_blocked(&logs);
            report
        }
        "blocked-main" => blocked_main(&handle, &logs),
        "blocked-main-asked" => {
            request_at_a_line(&handle);
            blocked_main(&handle, &logs)
        }
        "blocked-drop" => {
            let mut server = server(Act::End, &logs);
            server.holds = Holds(true);
            current_thread().block_on(watched(server).run(serve))
        }
        "blocked-start" => current_thread().block_on(
            Runner::build(async |_| -> Result<Small, BoxError> {
                println!("starting");
                block();
                unreachable!("it holds the thread for good")
            })
            .watchdog(ms(200))
            .run_until_signal(),
        ),
        "stuck-blocking" => {
            let runtime = multi_thread();
            runtime.spawn_blocking(block);
            let report = runtime.block_on(watched(server(Act::End, &logs)).run(serve));
            println!("report: {}", report.is_clean());
            drop(runtime);
            report
        }
        "left-blocking" => {
            let server = Storing {
                store: Some(()),
                state: ShutdownState::new(),
            };
            let runtime = multi_thread();
            let runner = Runner::new(server).watchdog(ms(200));
            runtime.block_on(runner.run(async |_: &mut Storing, _: Stop| println!("serving")))
        }
        "unwatched" => {
            let server = server(Act::Block, &logs);
            thread::spawn(|| {
                past_every_watchdog();
                println!("nobody came");
                std::process::exit(9);
            });
            current_thread().block_on(Runner::new(server).run(serve))
        }
        "block-on" => {
            let runner = watched(server(Act::End, &logs));
            let report = runner.block_on(async |server: &mut Server, stop: Stop| {
                tokio::task::spawn_blocking(block);
                serve(server, stop).await;
            });
            println!("block_on has returned");
            past_every_watchdog();
            println!("the process goes on");
            report
        }
        "two-runs" => two_runs(&logs),
        other => panic!("no such server: {other}"),
    };
    println!("{report}");
    ExitCode::from(report.exit_code())
}
