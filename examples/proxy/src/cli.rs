//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::config::{Config, ConfigError, Upstream};
use crate::logging::Format;

/// A reverse proxy that completes every started request before it shuts down.
///
/// Without arguments it starts a demo upstream and serves it on 127.0.0.1:8080. SIGTERM and SIGINT
/// (Ctrl-C) drain it; a second signal cuts the clients, a third ends it at once.
#[derive(Debug, Default, Parser)]
#[command(name = "proxy", version)]
pub struct Cli {
    /// The configuration file, in YAML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on, instead of the file's; may be given repeatedly
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
    /// The upstream, instead of the file's: http://host:port
    #[arg(long, value_name = "URL")]
    pub upstream: Option<Upstream>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t)]
    pub log: Format,
    /// Print the shutdown plan once the proxy serves
    #[arg(long)]
    pub plan: bool,
    /// Read the configuration, print the shutdown plan, and exit
    #[arg(long)]
    pub check: bool,
}

impl Cli {
    /// Returns the configuration: the file's values or the defaults, overridden by the command
    /// line.
    ///
    /// # Errors
    ///
    /// When the configuration file cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if !self.listen.is_empty() {
            config.listen_addrs.clone_from(&self.listen);
        }
        if self.upstream.is_some() {
            config.upstream.clone_from(&self.upstream);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_overrides_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxy.yaml");
        std::fs::write(&file, "listen_addrs: [127.0.0.1:1]\nmax_connections: 7\n").unwrap();
        let cli = Cli::try_parse_from([
            "proxy",
            "-c",
            file.to_str().unwrap(),
            "--listen=127.0.0.1:2",
            "--listen=[::1]:3",
            "--upstream=http://app:80",
        ]);
        let config = cli.unwrap().config().unwrap();
        assert_eq!(config.listen_addrs.len(), 2);
        assert_eq!(config.listen_addrs[0].port(), 2);
        assert_eq!(config.upstream.unwrap().to_string(), "http://app:80");
        assert_eq!(config.max_connections.get(), 7);
    }

    #[test]
    fn a_bad_upstream_is_refused_with_its_reason() {
        let error = Cli::try_parse_from(["proxy", "--upstream", "app:80"]).unwrap_err();
        assert!(error.to_string().contains("http://"), "{error}");
    }
}
