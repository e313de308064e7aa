//! The audit trail: a line of JSON for each shutdown.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::SystemTime;

use lifecycle_proxy_common::timestamp;
use lifecycle_runtime::Report;
use serde::Serialize;
use tracing::error;

#[derive(Serialize)]
struct Line<'a> {
    /// The time of writing, which is the end of the shutdown.
    #[serde(serialize_with = "timestamp::rfc3339")]
    time: SystemTime,
    pid: u32,
    version: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Appends a line with `report` to the file at `path`. `version` is the version of the program.
/// Logs an error if that fails.
pub fn record(path: &Path, version: &str, report: &Report) {
    if let Err(error) = append(path, version, report) {
        error!(path = %path.display(), %error, "appending to the audit trail failed");
    }
}

/// Appends a line with `report` to the file at `path`, and waits until the line is on the disk.
/// `version` is the version of the program.
///
/// # Errors
///
/// When the file cannot be opened, written or synchronised.
pub fn append(path: &Path, version: &str, report: &Report) -> io::Result<()> {
    let line = Line {
        time: SystemTime::now(),
        pid: std::process::id(),
        version,
        report,
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    if is_torn(&mut file)? {
        text.insert(0, b'\n');
    }
    // Written in one call, so that the lines of two processes do not mix.
    file.write_all(&text)?;
    file.sync_all()?;
    if is_new {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Returns whether the file's last line is incomplete, because a process was killed while it wrote.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use lifecycle_runtime::{GracefulShutdown, ShutdownState};

    use super::*;

    #[derive(GracefulShutdown)]
    struct Nothing {
        #[shutdown(state)]
        state: ShutdownState,
    }

    #[tokio::test]
    async fn each_report_is_a_line_even_after_an_incomplete_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.ndjson");
        let mut server = Nothing {
            state: ShutdownState::new(),
        };
        let report = server.shutdown().await;
        append(&path, "1.2.3", &report).unwrap();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"time\":").unwrap();
        append(&path, "1.2.3", &report).unwrap();
        append(&path, "1.2.3", &report).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Option<serde_json::Value>> = text
            .lines()
            .map(|line| serde_json::from_str(line).ok())
            .collect();
        let whole: Vec<_> = lines.iter().map(Option::is_some).collect();
        assert_eq!(whole, [true, false, true, true], "{text}");
        let first = lines[0].as_ref().unwrap();
        assert_eq!(
            (&first["component"], &first["clean"], &first["version"]),
            (&"Nothing".into(), &true.into(), &"1.2.3".into())
        );
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_an_error() {
        let mut server = Nothing {
            state: ShutdownState::new(),
        };
        let report = server.shutdown().await;
        assert!(append(Path::new("/nonexistent/audit"), "1.2.3", &report).is_err());
    }
}
