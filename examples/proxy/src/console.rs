//! The texts for people on standard output: the addresses, paths to try, the plan and the report.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _, stderr, stdout};

use lifecycle_runtime::{Component, GracefulShutdown, Report};
use tracing::info;

use crate::app::ProxyServer;
use crate::app::embedded;
use crate::logging::Format;

/// A printer of texts for people. If no person reads standard output, it is silent, and the plan
/// and the report go to the log.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    format: Format,
    silent: bool,
}

impl Console {
    /// Creates the console for a format of the log.
    ///
    /// The console is silent with [`Format::Json`]. It is also silent with [`Format::Auto`] when
    /// neither standard output nor standard error is a terminal.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let terminal = stdout().is_terminal() || stderr().is_terminal();
        Self {
            format,
            silent: is_silent(format, terminal),
        }
    }

    /// Prints that the configuration is valid, and the part of the plan that is known without a
    /// server.
    ///
    /// The user has requested this text with `--check`, so only [`Format::Json`] sends it to the
    /// log.
    pub fn checked(self) {
        let plan = ProxyServer::PLAN;
        if matches!(self.format, Format::Json) {
            info!(%plan, "the configuration is valid");
        } else {
            print(&format_args!("The configuration is valid.\n\n{plan}"));
        }
    }

    /// Prints the addresses, and the paths to try of a demo upstream. A silent console prints
    /// nothing, since the log has the addresses.
    pub fn invite(self, server: &ProxyServer) {
        if !self.silent {
            print(&invitation(server));
        }
    }

    /// Prints the shutdown plan of the server.
    pub fn plan(self, server: &ProxyServer) {
        let plan = server.plan();
        if self.silent {
            info!(%plan, "shutdown plan");
        } else {
            print(&plan);
        }
    }

    /// Prints the report of the shutdown.
    pub fn report(self, report: &Report) {
        if self.silent {
            info!(%report, "shutdown report");
        } else {
            print(report);
        }
    }
}

/// Returns whether the console is silent, so that the log has the texts instead. `terminal` is true
/// if standard output or standard error is a terminal.
const fn is_silent(format: Format, terminal: bool) -> bool {
    match format {
        Format::Json => true,
        Format::Human => false,
        Format::Auto => !terminal,
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
        "Try, in another terminal:\n\
         \x20 curl http://{address}/\n\
         \x20 curl -N 'http://{address}/slow?seconds=3'\n\
         \x20 curl -o /dev/null --limit-rate 4M 'http://{address}/big?mb=20'\n\
         Press Ctrl-C here while they run: the proxy ends after these downloads.\n\
         The demo upstream behind the proxy answers:\n{}",
        indented(embedded::ROUTES)
    );
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Prints a text. Ignores a failure, since it means that nobody reads standard output any more.
fn print(text: &dyn fmt::Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_on_either_stream_gets_the_report() {
        assert!(!is_silent(Format::Auto, true));
        assert!(is_silent(Format::Auto, false));
        assert!(!is_silent(Format::Human, false));
        assert!(is_silent(Format::Json, true));
    }
}
