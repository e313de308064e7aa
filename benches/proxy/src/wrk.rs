//! Runs wrk, an HTTP load generator, which sends one request at a time on each of its connections.

use std::net::SocketAddr;
use std::process::Command;

use crate::Result;

/// The results that wrk printed.
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) requests_a_second: f64,
    pub(crate) p99_ms: f64,
}

pub(crate) fn run(address: SocketAddr, body: &str, clients: usize, seconds: u32) -> Result<Load> {
    let output = Command::new("wrk")
        .args(["-t1", "--latency", "-c", &clients.to_string()])
        .args([
            "-d",
            &format!("{seconds}s"),
            &format!("http://{address}/{body}"),
        ])
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8(output.stdout)?;
    read(&text).ok_or_else(|| format!("wrk says:\n{text}").into())
}

/// Reads the results from wrk's output. Returns `None` if any response was missing or was not a success.
fn read(text: &str) -> Option<Load> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let after = |lead: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(lead));
        line?.split_whitespace().next()
    };
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    Some(Load {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        requests_a_second: after("Requests/sec:")?.parse().ok()?,
        p99_ms: millis(after("99%")?)?,
    })
}

fn millis(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}
