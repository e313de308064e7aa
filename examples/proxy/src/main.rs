//! The program: read what is wanted, start, serve until told to stop, report.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::cli::Cli;
use lifecycle_proxy::config::{Config, Seconds};
use lifecycle_proxy::console::Console;
use lifecycle_proxy::logging;
use lifecycle_runtime::{Readiness, Reason, Report, Runner, ShutdownHandle};
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log);
    let console = Console::new(cli.log);
    match cli.config() {
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
        Ok(_) if cli.check => {
            console.checked();
            ExitCode::SUCCESS
        }
        Ok(config) => ExitCode::from(serve(config, console).exit_code()),
    }
}

fn serve(config: Config, console: Console) -> Report {
    let (handle, readiness) = (ShutdownHandle::new(), Readiness::new());
    let lame_duck = config.lame_duck.map_or(Duration::ZERO, Seconds::duration);
    let builder = ProxyServer::builder(config)
        .handle(&handle)
        .readiness(&readiness);
    let main = async |server: &mut ProxyServer, stop: lifecycle_runtime::Stop| {
        console.invite(server);
        readiness.set_ready();
        info!("waiting for connections");
        stop.cancelled().await;
        let reason = handle.requested().await;
        info!(%reason, "signal received: draining");
        let count = server.connections().active;
        if count > 0 {
            info!(count, "waiting for {count} connections");
        }
    };
    let report = Runner::build(async || builder.start().await)
        .handle(&handle)
        .readiness(&readiness)
        .lame_duck(lame_duck)
        .finally(conclude)
        .block_on(main);
    if let Reason::StartFailed(_) = report.reason() {
        return report;
    }
    console.report(&report);
    report
}

fn conclude(report: &Report) {
    match report.reason() {
        Reason::StartFailed(error) => error!("{error}"),
        _ if report.is_clean() => info!("all complete"),
        _ => warn!("complete, but not all of it"),
    }
}
