//! Servers whose runtime cannot end because a read of stdin is pending, and similar servers whose runtime can end. The
//! arguments select a server, and give the runtime's timeout in milliseconds.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lifecycle_runtime::{BoxError, GracefulShutdown, Report, Runner, ShutdownState, Stop};
use lifecycle_tests::ms;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::{Builder, Runtime};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |fails: &mut bool| if *fails { Err("the disk is full") } else { Ok(()) })]
    fails: bool,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn serve(_: &mut Server, stop: Stop) {
    println!("serving");
    stop.cancelled().await;
}

fn read_stdin() {
    tokio::spawn(async {
        let mut byte = [0];
        let read = tokio::io::stdin().read(&mut byte).await;
        println!("read {read:?}");
    });
}

async fn run(how: &str, timeout: Option<Duration>) -> Report {
    let server = Server {
        fails: how == "fails",
        state: ShutdownState::new(),
    };
    let report = Runner::new(server)
        .runtime_timeout(timeout)
        .run(async |server: &mut Server, stop: Stop| {
            if how != "ends" && how != "runs-twice" {
                read_stdin();
                // Waits until the read is pending on the blocking pool.
                thread::sleep(ms(50));
                tokio::task::yield_now().await;
            }
            serve(server, stop).await;
            Ok::<_, BoxError>(())
        })
        .await;
    if how == "runs-twice" {
        let again = Server {
            fails: false,
            state: ShutdownState::new(),
        };
        let again = Runner::new(again).run(async |_: &mut Server, _: Stop| ());
        println!("tasks left: {}", again.await.tasks_left());
    }
    if how == "goes-on" {
        tokio::time::sleep(ms(2000)).await;
        println!("went on");
    }
    report
}

fn runtime(how: &str) -> Runtime {
    let mut builder = match how {
        "current-thread" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build().expect("a runtime")
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let how = args.next().unwrap_or_default();
    let timeout = args.next().and_then(|timeout| timeout.parse().ok());
    let timeout = timeout.map(Duration::from_millis);
    let main = {
        let how = how.clone();
        move || {
            let runtime = runtime(&how);
            let report = runtime.block_on(run(&how, timeout));
            println!("report: {}", report.is_clean());
            drop(runtime);
            report
        }
    };
    let report = match &*how {
        "elsewhere" => {
            let embedder = thread::spawn(main);
            // The sleep is longer than the runtime's timeout. Inside another program, that timeout must not end the
            // process.
            thread::sleep(ms(2000));
            println!("the embedder goes on");
            drop(embedder);
            return ExitCode::from(9);
        }
        _ => main(),
    };
    if how == "ends" {
        thread::sleep(ms(2000));
        println!("main goes on");
    }
    ExitCode::from(report.exit_code())
}
