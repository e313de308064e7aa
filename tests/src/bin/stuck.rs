//! Servers with steps, mains or threads that hang, panic or block. The argument selects a server.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::thread;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Report, Runner, SecondSignal, ShutdownState,
    Stop, run,
};
use lifecycle_tests::secs;
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Builder, Runtime};

/// The behaviour of the server's first step in the shutdown.
#[derive(Clone, Copy)]
enum Act {
    End,
    Hang,
    /// The step hangs, and so does the hook that it has registered with `on_force`.
    HangTwice,
    Panic,
    Block,
    /// The step waits for a line of stdin.
    Line,
}

struct Drain(Act);

impl Component for Drain {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.waiting_for(|| "3 connections".into());
        if matches!(self.0, Act::HangTwice) {
            cx.on_force(block);
        }
        cx.on_force(|| println!("the hook ran"));
        cx.on_force(|| panic!("a hook that panics"));
        cx.on_force(|| println!("so did the next"));
        println!("draining");
        match self.0 {
            Act::End => {}
            Act::Hang | Act::HangTwice => pending().await,
            Act::Panic => panic!("no connections"),
            Act::Block => block(),
            Act::Line => {
                let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
                println!("read {:?}", line.await?.transpose()?);
            }
        }
        println!("drained");
        Ok(())
    }

    fn abort(&mut self) {
        println!("drain aborted");
    }
}

struct Pool;

impl Component for Pool {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        println!("pool closed");
        Ok(())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "60s")]
struct Server {
    patience: std::time::Duration,
    #[shutdown(timeout = self.patience, at_most = "50s")]
    drain: Drain,
    #[shutdown]
    pool: Pool,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server with named plugins, one of which hangs.
#[derive(GracefulShutdown)]
struct Plugins {
    #[shutdown(timeout = "20s")]
    plugins: BTreeMap<&'static str, Drain>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server with a drain that may take long, and a state that must be saved after the drain.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "120s")]
struct Draining {
    #[shutdown(best_effort)]
    drain: Drain,
    #[shutdown(timeout = "5s", with = |saved| save(saved))]
    saved: bool,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server with `best_effort` steps, which a hurry cuts, and a step that a hurry does not cut.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "60s")]
struct Hurried {
    #[shutdown(priority = 0, best_effort)]
    cache: Drain,
    #[shutdown(priority = 0)]
    drain: Drain,
    #[shutdown(priority = 1, best_effort)]
    later: Drain,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn save(saved: &mut bool) {
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    println!("saved");
    *saved = true;
}

async fn serve_for_ever(_: &mut Server, stop: Stop) {
    println!("serving");
    stop.cancelled().await;
    println!("told");
    pending::<()>().await;
}

fn server(act: Act) -> Server {
    Server {
        patience: secs(50),
        drain: Drain(act),
        pool: Pool,
        state: ShutdownState::new(),
    }
}

/// Blocks the current thread for ever.
fn block() {
    loop {
        thread::park();
    }
}

async fn serve(_: &mut Server, stop: Stop) {
    println!("serving");
    stop.cancelled().await;
    println!("main ends");
}

fn current_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs the server on a runtime, and drops the runtime before the report is returned, as `#[tokio::main]` does.
fn on(runtime: Runtime, server: Server) -> Report {
    runtime.block_on(run(server, serve))
}

fn main() -> ExitCode {
    let how = std::env::args().nth(1).unwrap_or_default();
    let report = match &*how {
        "hang" => on(multi_thread(), server(Act::Hang)),
        "hurried" => {
            let hurried = Hurried {
                cache: Drain(Act::Hang),
                drain: Drain(Act::Hang),
                later: Drain(Act::End),
                state: ShutdownState::new(),
            };
            multi_thread().block_on(run(hurried, async |_: &mut Hurried, stop: Stop| {
                println!("serving");
                stop.cancelled().await;
            }))
        }
        "main-hangs" => multi_thread().block_on(run(server(Act::Hang), serve_for_ever)),
        "hang-twice" => on(multi_thread(), server(Act::HangTwice)),
        "cut" => {
            let mut server = server(Act::Hang);
            server.patience = secs(1);
            on(multi_thread(), server)
        }
        "panic" => on(multi_thread(), server(Act::Panic)),
        "line" => on(multi_thread(), server(Act::Line)),
        "blocked-step" => on(current_thread(), server(Act::Block)),
        "blocked-main" => {
            current_thread().block_on(run(server(Act::End), async |_: &mut Server, stop| {
                println!("serving {}", stop.is_cancelled());
                block();
            }))
        }
        "stuck-blocking" => {
            let runtime = multi_thread();
            runtime.spawn_blocking(block);
            let report = runtime.block_on(run(server(Act::End), serve));
            println!("report: {}", report.is_clean());
            drop(runtime);
            report
        }
        "block-on" => {
            Runner::new(server(Act::End)).block_on(async |server: &mut Server, stop: Stop| {
                tokio::task::spawn_blocking(block);
                serve(server, stop).await;
            })
        }
        "early" => {
            multi_thread().block_on(run(server(Act::End), async |_: &mut Server, stop: Stop| {
                kill_process(getpid(), Signal::TERM).expect("it is this process");
                stop.cancelled().await;
                println!("main ends");
            }))
        }
        "main" => multi_thread().block_on(run(server(Act::End), serve_for_ever)),
        "main-second-forces" => multi_thread().block_on(
            Runner::new(server(Act::End))
                .second_signal(SecondSignal::Force)
                .run(serve_for_ever),
        ),
        "second-forces" => multi_thread().block_on(
            Runner::new(server(Act::Hang))
                .second_signal(SecondSignal::Force)
                .run(serve),
        ),
        "long-drain" => {
            let server = Draining {
                drain: Drain(Act::Hang),
                saved: false,
                state: ShutdownState::new(),
            };
            multi_thread().block_on(run(server, async |_: &mut Draining, stop: Stop| {
                println!("serving");
                stop.cancelled().await;
            }))
        }
        "elements" => {
            let plugins = [("auth", Drain(Act::Hang)), ("mail", Drain(Act::End))].into();
            let server = Plugins {
                plugins,
                state: ShutdownState::new(),
            };
            multi_thread().block_on(run(server, async |_: &mut Plugins, stop: Stop| {
                println!("serving");
                stop.cancelled().await;
            }))
        }
        "exit-code" => multi_thread().block_on(
            Runner::new(server(Act::End))
                .exit_code(|report| if report.is_clean() { 7 } else { 8 })
                .finally(|report| println!("finally: {}", report.reason()))
                .run(serve),
        ),
        other => panic!("no such server: {other}"),
    };
    println!("{report}");
    ExitCode::from(report.exit_code())
}
