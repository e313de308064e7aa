//! Servers that get signals from the tests: during the start, while they serve, or during the lame duck. The argument
//! selects a server.

use std::future::pending;
use std::process::ExitCode;
use std::thread;

use lifecycle_runtime::{
    BoxError, Component, Context, FailedStart, GracefulShutdown, Report, Runner, ShutdownState,
    Signal, Stop,
};
use lifecycle_tests::secs;
use rustix::process::{Signal as Sent, getpid, kill_process};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// A store that prints whether the plan closed it, or whether it was only dropped.
struct Store {
    closed: bool,
}

impl Component for Store {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        println!("store closed");
        self.closed = true;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.closed {
            println!("store dropped");
        }
    }
}

/// A step whose cleanup waits for a line of stdin if `lines` is set, and otherwise ends at once.
struct Drain {
    lines: Option<mpsc::UnboundedReceiver<String>>,
}

impl Component for Drain {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        if let Some(lines) = &mut self.lines {
            cx.waiting_for(|| "a line".into());
            println!("draining");
            lines.recv().await;
        }
        Ok(())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "50s")]
struct Server {
    #[shutdown(timeout = "40s")]
    drain: Drain,
    #[shutdown]
    store: Store,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server() -> Server {
    Server {
        drain: Drain { lines: None },
        store: Store { closed: false },
        state: ShutdownState::new(),
    }
}

/// Returns a receiver of the lines of stdin, which a thread reads.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            // Sending fails if the server has dropped the receiver, and then the line is not needed.
            let _ = sender.send(line);
        }
    });
    lines
}

/// Answers every line of stdin until `stop` fires.
async fn echo(stop: &Stop) {
    let mut lines = lines();
    println!("serving");
    loop {
        tokio::select! {
            Some(line) = lines.recv() => println!("echo {line}"),
            () = stop.cancelled() => break,
        }
    }
    println!("told");
}

async fn serve(_: &mut Server, stop: Stop) {
    println!("serving");
    stop.cancelled().await;
}

fn signal(sent: Sent) {
    kill_process(getpid(), sent).expect("it is this process");
}

async fn starting(how: &str) -> Report {
    match how {
        "start" => {
            Runner::build(async |stop: Stop| {
                println!("starting");
                stop.cancelled().await;
                Ok::<_, BoxError>(server())
            })
            .run(serve)
            .await
        }
        "start-goes-on" => {
            Runner::build(async |stop: Stop| {
                let _store = Store { closed: false };
                println!("starting");
                stop.cancelled().await;
                println!("told");
                pending::<Result<Server, BoxError>>().await
            })
            .start_stop_timeout(secs(3600))
            .run(serve)
            .await
        }
        "start-holds" => {
            Runner::build(async |_| -> Result<Server, BoxError> {
                println!("starting");
                loop {
                    std::thread::park();
                }
            })
            .run(serve)
            .await
        }
        "signal-in-start" => {
            Runner::build(async |stop: Stop| {
                signal(Sent::TERM);
                stop.cancelled().await;
                Ok::<_, BoxError>(server())
            })
            .run(serve)
            .await
        }
        "failed-start" => {
            Runner::build(async |_| {
                let _store = Store { closed: false };
                Err::<Server, _>("the port is taken")
            })
            .run(serve)
            .await
        }
        _ => {
            Runner::build(async |_| Err(FailedStart::new(server(), "the port is taken")))
                .run(serve)
                .await
        }
    }
}

async fn lame_duck(hold_main: bool) -> Report {
    // The lame duck takes far longer than the test waits, so that only a signal ends it.
    Runner::new(server())
        .lame_duck(secs(3600))
        .deregister("consul", async || println!("deregistered"))
        .run(async |_: &mut Server, stop: Stop| {
            echo(&stop).await;
            if hold_main {
                pending::<()>().await;
            }
        })
        .await
}

async fn hooks() -> Report {
    const USER_1: i32 = Sent::USR1.as_raw();
    const USER_2: i32 = Sent::USR2.as_raw();
    let mut reloads = 0;
    let mut server = server();
    server.drain.lines = Some(lines());
    Runner::new(server)
        .on_signal(Signal::HANGUP, move || {
            reloads += 1;
            println!("reloaded {reloads}");
        })
        .on_signal(Signal::from_raw(USER_1), || println!("dumped"))
        .on_signal(Signal::from_raw(USER_2), || {
            println!("panics");
            panic!("a hook");
        })
        .run(serve)
        .await
}

fn main() -> ExitCode {
    let how = std::env::args().nth(1).unwrap_or_default();
    let runtime = Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(async {
        match &*how {
            "lame-duck" => lame_duck(false).await,
            "lame-duck-held" => lame_duck(true).await,
            "hooks" | "hooks-lingering" => hooks().await,
            how => starting(how).await,
        }
    });
    println!("{report}");
    println!("reason: {}", report.reason());
    if how == "hooks-lingering" {
        loop {
            thread::park();
        }
    }
    ExitCode::from(report.exit_code())
}
