//! The program: read what is wanted, start, serve until told to stop, report.

use std::process::ExitCode;

use clap::Parser;
use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::cli::Cli;
use lifecycle_proxy::console::Console;
use lifecycle_proxy::logging;
use lifecycle_runtime::{BoxError, Report, Runner, ShutdownHandle};
use tracing::{error, info, warn};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log);
    run(&cli).await.unwrap_or_else(|error| {
        error!("{error}");
        ExitCode::FAILURE
    })
}

async fn run(cli: &Cli) -> Result<ExitCode, BoxError> {
    let console = Console::new(cli.log);
    let config = cli.config()?;
    if cli.check {
        console.checked();
        return Ok(ExitCode::SUCCESS);
    }
    let handle = ShutdownHandle::new();
    let server = ProxyServer::builder(config).handle(&handle).start().await?;
    let report = serve(server, handle, console).await;
    console.report(&report);
    Ok(ExitCode::from(report.exit_code()))
}

async fn serve(server: ProxyServer, handle: ShutdownHandle, console: Console) -> Report {
    let runner = Runner::new(server).handle(&handle).finally(|report| {
        if report.is_clean() {
            info!("all complete");
        } else {
            warn!("complete, but not all of it");
        }
    });
    // Signals are heard from here on, so this is when the proxy is ready.
    let main = async |server: &mut ProxyServer, stop: lifecycle_runtime::Stop| {
        console.invite(server);
        info!("waiting for connections");
        stop.cancelled().await;
        let reason = handle.requested().await;
        info!(%reason, "signal received: draining");
    };
    runner.run(main).await
}
