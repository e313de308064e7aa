//! The program: reads the configuration, starts the server, serves until a signal, and reports the
//! shutdown.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lifecycle_proxy::VERSION;
use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::cli::Cli;
use lifecycle_proxy::config::{Config, Seconds};
use lifecycle_proxy::console::Console;
use lifecycle_proxy::logging;
use lifecycle_proxy::restart::{self, Inheritance, Outcome, Requests};
use lifecycle_proxy_discovery::Goodbyes;
use lifecycle_proxy_records::audit;
use lifecycle_proxy_systemd::Notifier;
use lifecycle_runtime::{Readiness, Reason, Report, Runner, ShutdownHandle, Step, Stop};
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log);
    let console = Console::new(cli.log);
    let show_plan = cli.plan;
    match cli.config() {
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
        Ok(_) if cli.check => {
            console.checked();
            ExitCode::SUCCESS
        }
        Ok(config) => match Inheritance::take() {
            Err(error) => {
                error!("{error}");
                ExitCode::FAILURE
            }
            Ok(inheritance) => {
                ExitCode::from(serve(config, console, show_plan, inheritance).exit_code())
            }
        },
    }
}

fn serve(config: Config, console: Console, show_plan: bool, inheritance: Inheritance) -> Report {
    let (handle, readiness) = (ShutdownHandle::new(), Readiness::new());
    let lame_duck = config.lame_duck.map_or(Duration::ZERO, Seconds::duration);
    let (discovery, audit) = (config.discovery.clone(), config.audit.path.clone());
    let goodbyes = Goodbyes::default();
    let (sockets, predecessor) = inheritance.into_parts();
    let restarts = Requests::default();
    let requests = restarts.clone();
    let builder = ProxyServer::builder(config)
        .handle(&handle)
        .readiness(&readiness)
        .goodbyes(&goodbyes)
        .sockets(sockets)
        .manager(Notifier::from_env())
        .workers();
    let main = async |server: &mut ProxyServer, stop: Stop| {
        let stopped = stop.cancelled();
        console.invite(server);
        if show_plan {
            console.plan(server);
        }
        readiness.set_ready();
        info!("waiting for connections");
        if let Some(predecessor) = predecessor {
            predecessor.report_ready();
        }
        match server.restart_on(&restarts).await {
            Outcome::Stopping => stopped.await,
            // The new process accepts all connections now, so the shutdown of this process can
            // begin.
            Outcome::HandedOver => {}
        }
        let reason = handle.requested().await;
        info!(%reason, "signal received: draining");
        let count = server.connections().active;
        if count > 0 {
            info!(count, "waiting for {count} connections");
        }
    };
    let runner = Runner::build(async |_| builder.start().await);
    let report = goodbyes
        .hook(runner, &discovery)
        .handle(&handle)
        .readiness(&readiness)
        .lame_duck(lame_duck)
        .on_signal(restart::signal(), move || requests.request())
        .finally(move |report| record(audit.as_deref(), report))
        .finally(log_result)
        .block_on(main);
    if let Reason::StartFailed(_) = report.reason() {
        return report;
    }
    console.report(&report);
    report
}

/// Appends the report of the shutdown to the audit trail, unless the start failed.
fn record(audit: Option<&Path>, report: &Report) {
    if let Some(path) = audit.filter(|_| !matches!(report.reason(), Reason::StartFailed(_))) {
        audit::record(path, VERSION, report);
    }
}

/// Logs the result of the shutdown, or the error of a failed start.
fn log_result(report: &Report) {
    match report.reason() {
        Reason::StartFailed(error) => error!("{error}"),
        _ if !report.is_clean() => warn!("complete, but some steps were not done"),
        // A `best_effort` step leaves the report clean even if it had to cut clients at its deadline.
        _ if report.steps().iter().any(fell_short) => {
            warn!("complete, but not everything could be done in time");
        }
        _ => info!("all complete"),
    }
}

fn fell_short(step: &Step) -> bool {
    use lifecycle_runtime::Outcome::{Done, Skipped};
    !matches!(step.outcome(), Done | Skipped)
}
