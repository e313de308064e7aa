//! A server that prints the beginning of each phase of its shutdown, and ends the phase when a line of stdin names it.
//! The arguments choose how the server reacts to `stop`.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Report, Runner, SecondSignal, ShutdownState,
    Stop,
};
use lifecycle_tests::ms;
use tokio::runtime::Builder;

/// A time longer than any test waits, so that a phase ends only when the test lets it.
const LONG: Duration = Duration::from_secs(3600);

/// The names of the phases that may end, as the test has written them to stdin.
static GO: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn may_go(phase: &str) -> bool {
    let go = GO.lock().unwrap_or_else(PoisonError::into_inner);
    go.iter().any(|which| which == phase)
}

fn listen() {
    thread::spawn(|| {
        for line in io::stdin().lines().map_while(Result::ok) {
            let mut go = GO.lock().unwrap_or_else(PoisonError::into_inner);
            go.push(line);
        }
    });
}

async fn held(phase: &str) {
    println!("phase {phase}");
    while !may_go(phase) {
        tokio::time::sleep(ms(5)).await;
    }
}

fn held_here(phase: &str) {
    println!("phase {phase}");
    while !may_go(phase) {
        thread::sleep(ms(5));
    }
}

struct Held(&'static str);

impl Component for Held {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        held(self.0).await;
        println!("{} done", self.0);
        Ok(())
    }

    fn abort(&mut self) {
        println!("{} aborted", self.0);
    }
}

struct HeldDrop;

impl Drop for HeldDrop {
    fn drop(&mut self) {
        held_here("drop");
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "7200s")]
struct Server {
    #[shutdown(priority = 0, best_effort)]
    drain: Held,
    #[shutdown(priority = 1, timeout = "1000s")]
    save: Held,
    _drop: HeldDrop,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server() -> Server {
    Server {
        drain: Held("drain"),
        save: Held("save"),
        _drop: HeldDrop,
        state: ShutdownState::new(),
    }
}

async fn run(has: impl Fn(&str) -> bool) -> Report {
    let start = async |stop: Stop| {
        tokio::select! {
            biased;
            () = stop.cancelled(), if has("start-listens") => {}
            () = held("start") => {}
        }
        Ok::<_, BoxError>(server())
    };
    let main = async |_: &mut Server, stop: Stop| {
        if has("main-lingers") {
            // The runner awaits only a main that has looked at its `stop`, so this main looks at it once.
            let _ = stop.is_cancelled();
        }
        if has("main-listens") {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = held("main") => {}
            }
        } else {
            held("main").await;
        }
        println!("main done");
    };
    let mut runner = Runner::build(start)
        .start_stop_timeout(LONG)
        .finally_timeout(LONG)
        .finally(|_| held_here("finally"));
    if has("lame-duck") {
        runner = runner
            .lame_duck(LONG)
            .deregister("hook", async || println!("phase lame-duck"));
    }
    if has("force") {
        runner = runner.second_signal(SecondSignal::Force);
    }
    runner.run(main).await
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    listen();
    let runtime = Builder::new_current_thread().enable_all().build();
    let report = runtime
        .expect("a runtime")
        .block_on(run(|what| arguments.iter().any(|a| a == what)));
    println!("report: {}", report.is_clean());
    held_here("gone");
    ExitCode::from(report.exit_code())
}
