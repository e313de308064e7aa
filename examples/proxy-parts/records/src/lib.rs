//! Records that outlive a server, as files with one JSON object a line. The [traffic tape](tape)
//! has a line for each exchange, and never makes an exchange wait for the disk. The [audit
//! trail](audit) has a line for each shutdown.
//!
//! The server owns the recorder and the task that writes to the disk. A shutdown stops the task,
//! then writes the lines that are still queued:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//!
//! use lifecycle_proxy_records::audit;
//! use lifecycle_proxy_records::tape::{Entry, Settings, TapeRecorder};
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//! use tokio_util::task::AbortOnDropHandle;
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     writer: AbortOnDropHandle<()>,
//!     #[shutdown(after = writer, timeout = "3s", with = TapeRecorder::flush)]
//!     recorder: Arc<TapeRecorder>,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let directory = tempfile::tempdir()?;
//! let path = directory.path().join("tape.ndjson");
//! let settings = Settings { path: Some(path.clone()), ..Settings::default() };
//! let recorder = Arc::new(TapeRecorder::new(&settings).expect("it has a path"));
//! recorder.open().await?;
//! let writing = recorder.clone();
//! let mut server = Server {
//!     writer: AbortOnDropHandle::new(tokio::spawn(async move { writing.run().await })),
//!     recorder,
//!     state: ShutdownState::new(),
//! };
//! server.recorder.record(&Entry {
//!     time: SystemTime::now(),
//!     client: SocketAddr::from(([192, 0, 2, 1], 5000)),
//!     method: "GET",
//!     path: "/",
//!     status: Some(200),
//!     duration: Duration::from_millis(3),
//!     bytes: 12,
//!     complete: true,
//! });
//! let report = server.shutdown().await;
//! assert!(report.is_clean());
//! assert!(std::fs::read_to_string(path)?.contains("\"bytes\":12"));
//! audit::append(&directory.path().join("audit.ndjson"), "1.0.0", &report)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod audit;
pub mod tape;
