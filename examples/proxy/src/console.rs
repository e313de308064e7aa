//! What is said on standard output: the plan, what to try, the report. With
//! `--log json` nothing is, and the log carries the plan and the report.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use lifecycle_runtime::{Component, GracefulShutdown, Report};
use tracing::info;

use crate::app::ProxyServer;
use crate::app::embedded;
use crate::telemetry::logging::Format;

/// Standard output, if people are to read it.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    silent: bool,
}

impl Console {
    /// The console that goes with a form of log lines.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self {
            silent: matches!(format, Format::Json),
        }
    }

    /// The plan, as far as it is known without a server.
    pub fn checked(self) {
        let plan = ProxyServer::PLAN;
        if self.silent {
            info!(%plan, "the configuration is valid");
        } else {
            say(&format_args!("The configuration is valid.\n\n{plan}"));
        }
    }

    /// How the server will be shut down, and what to try until then.
    pub fn invite(self, server: &ProxyServer) {
        let plan = server.plan();
        if self.silent {
            info!(%plan, "shutdown plan");
        } else {
            say(&format_args!("{plan}\n{}", invitation(server)));
        }
    }

    /// How the shutdown went.
    pub fn report(self, report: &Report) {
        if self.silent {
            info!(%report, "shutdown report");
        } else {
            say(report);
        }
    }
}

fn invitation(server: &ProxyServer) -> String {
    let mut text = String::new();
    for address in server.addresses() {
        let _ = writeln!(text, "Listening on http://{address}");
    }
    let Some(address) = server.addresses().first().filter(|_| server.is_demo()) else {
        return text;
    };
    let _ = write!(
        text,
        "\nThe demo upstream behind it answers:\n{}\
         Try, in another terminal:\n\
         \x20 curl http://{address}/\n\
         \x20 curl -N 'http://{address}/slow?seconds=3'\n\
         \x20 curl -o /dev/null --limit-rate 4M 'http://{address}/big?mb=20'\n\
         and press Ctrl-C here while they run: they end, then the proxy does.\n",
        indented(embedded::ROUTES)
    );
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Nothing can be done when nobody listens, so errors are ignored.
fn say(text: &dyn fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
