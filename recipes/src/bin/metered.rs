//! `opentelemetry_sdk`: a server whose metrics and log records go to a collector.
//!
//! - **Type**: `SdkMeterProvider`, `SdkLoggerProvider`
//! - **Write**: `Runner::finally(move |_| { meters.shutdown(); logs.shutdown() })`, their errors told on stderr
//! - **Cleanup**: `shutdown` of both providers, in [`Runner::finally`]: each sends what it has and waits for the collector.
//! - **Lost without it**: the measurements since the last export (one every 60 s) and the log records of the last second. Threads send both, and they end with the process.
//! - **Repeated**: a second call does nothing and returns an error.
//! - **Waits for**: the collector, up to 5 s each. `shutdown_with_timeout` of the meters ignores its timeout.
//! - **Order**: last of all, the logs after the metrics. Fields would be cleaned before the server's own drop, whose records would be lost.
//!
//! The first argument is the collector's address. With the second argument `forgotten`, the program leaves the cleanup
//! out.

use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Report, Runner, ShutdownState, Stop,
};
use opentelemetry::global;
use opentelemetry::metrics::Counter;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, Protocol, WithExportConfig as _};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tracing_subscriber::layer::SubscriberExt as _;

struct Journal {
    flushed: Counter<u64>,
}

impl Component for Journal {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.flushed.add(1, &[]);
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        tracing::info!("the journal is dropped");
    }
}

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "5s")]
struct Server {
    #[shutdown(timeout = "1s")]
    journal: Journal,
    #[shutdown(state)]
    state: ShutdownState,
}

const TIMEOUT: Duration = Duration::from_secs(10);

fn meters(collector: &str) -> Result<SdkMeterProvider, BoxError> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("http://{collector}/v1/metrics"))
        .with_timeout(TIMEOUT)
        .build()?;
    Ok(SdkMeterProvider::builder()
        .with_periodic_exporter(exporter)
        .build())
}

fn logs(collector: &str) -> Result<SdkLoggerProvider, BoxError> {
    let exporter = LogExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("http://{collector}/v1/logs"))
        .with_timeout(TIMEOUT)
        .build()?;
    Ok(SdkLoggerProvider::builder()
        .with_batch_exporter(exporter)
        .build())
}

async fn run(meters: SdkMeterProvider, logs: SdkLoggerProvider, forgotten: bool) -> Report {
    let flushed = global::meter("metered").u64_counter("flushed").build();
    let server = Server {
        journal: Journal { flushed },
        state: ShutdownState::new(),
    };
    // Each provider may wait [`TIMEOUT`] for the collector, and the default of 3 s for both hooks is shorter than that.
    let mut runner = Runner::new(server).finally_timeout(2 * TIMEOUT);
    if !forgotten {
        runner = runner.finally(move |_| {
            if let Err(error) = meters.shutdown() {
                eprintln!("measurements are lost: {error}");
            }
            if let Err(error) = logs.shutdown() {
                eprintln!("log records are lost: {error}");
            }
        });
    }
    runner
        .run(async |_: &mut Server, stop: Stop| {
            println!("serving");
            stop.cancelled().await;
        })
        .await
}

fn main() -> Result<Report, BoxError> {
    let mut arguments = std::env::args().skip(1);
    let collector = arguments
        .next()
        .ok_or("the address of the collector is missing")?;
    let forgotten = arguments.next().is_some_and(|how| how == "forgotten");
    // The providers are created before the runtime, since the clients of their exporters block and have their own
    // runtimes.
    let (meters, logs) = (meters(&collector)?, logs(&collector)?);
    let layer = OpenTelemetryTracingBridge::new(&logs);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    // The global meter provider keeps `meters` until the process ends, so that no drop shuts it down. The layer above
    // keeps `logs`.
    global::set_meter_provider(meters.clone());
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(run(meters, logs, forgotten));
    Ok(report)
}
