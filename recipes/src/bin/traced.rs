//! `opentelemetry_sdk`: a server whose spans go to a collector in batches.
//!
//! - **Type**: `SdkTracerProvider`
//! - **Write**: `Runner::finally(move |_| provider.shutdown())`, its error told on stderr
//! - **Cleanup**: `SdkTracerProvider::shutdown`, in [`Runner::finally`]: it sends what is buffered and waits for the collector.
//! - **Lost without it**: the spans of the last seconds. A thread sends them in batches, and it ends with the process.
//! - **Repeated**: a second call does nothing and returns an error.
//! - **Waits for**: the collector, up to 5 s by default.
//! - **Order**: last of all. A field would be cleaned before the server's own drop, whose spans would be lost.
//!
//! The first argument is the collector's address. With the second argument `forgotten`, the program leaves the cleanup
//! out.

use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Report, Runner, ShutdownState, Stop,
};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;

struct Journal;

impl Component for Journal {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        let _span = tracing::info_span!("flush the journal").entered();
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _span = tracing::info_span!("drop the journal").entered();
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

fn traces(collector: &str) -> Result<SdkTracerProvider, BoxError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("http://{collector}/v1/traces"))
        .with_timeout(Duration::from_secs(10))
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build())
}

async fn run(provider: SdkTracerProvider, forgotten: bool) -> Report {
    let server = Server {
        journal: Journal,
        state: ShutdownState::new(),
    };
    // The timeout is longer than the default of 3 s, so that the test does not fail on a busy machine.
    let mut runner = Runner::new(server).finally_timeout(Duration::from_secs(10));
    if !forgotten {
        runner = runner.finally(move |_| {
            if let Err(error) = provider.shutdown() {
                eprintln!("spans are lost: {error}");
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
    // The provider is created before the runtime, since the client of its exporter blocks and has its own runtime.
    let provider = traces(&collector)?;
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traced"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(run(provider, forgotten));
    Ok(report)
}
