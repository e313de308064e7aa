//! The file itself: read, set aside, replaced in one step. Blocking.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Saved;

const FORMAT: &str = "lifecycle-state";

/// How old what a killed save left must be before it is swept up: another process may be saving.
const STALE: Duration = Duration::from_secs(60);

/// The file's content.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope<N, T> {
    format: N,
    name: N,
    version: u32,
    /// Milliseconds since 1970, as all times here.
    saved_at: u64,
    shutdown_at: Option<u64>,
    state: T,
}

/// All but the state, which is looked at first.
#[derive(Deserialize)]
struct Cover {
    format: String,
    name: String,
    version: u32,
    saved_at: u64,
    shutdown_at: Option<u64>,
}

#[derive(Deserialize)]
struct Content<T> {
    state: T,
}

pub(super) enum Found<T> {
    State(T, Saved),
    Nothing,
    SetAside {
        why: String,
        aside: io::Result<PathBuf>,
    },
}

impl<'a, T> Envelope<&'a str, &'a T> {
    pub(super) fn new(
        name: &'a str,
        version: u32,
        shutdown_at: Option<SystemTime>,
        state: &'a T,
    ) -> Self {
        Self {
            format: FORMAT,
            name,
            version,
            saved_at: millis(SystemTime::now()),
            shutdown_at: shutdown_at.map(millis),
            state,
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    // A clock before 1970 is no time to keep.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}

pub(super) fn load<T: DeserializeOwned>(path: &Path, name: &str, version: u32) -> Found<T> {
    sweep(path);
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return set_aside(path, format!("it cannot be read: {error}")),
    };
    match parse(&text, name, version) {
        Ok((state, saved)) => Found::State(state, saved),
        Err(why) => set_aside(path, why),
    }
}

fn parse<T: DeserializeOwned>(text: &[u8], name: &str, version: u32) -> Result<(T, Saved), String> {
    let cover: Cover =
        serde_json::from_slice(text).map_err(|error| format!("it is damaged: {error}"))?;
    if cover.format != FORMAT || cover.name != name {
        return Err(format!(
            "it is somebody else's: {} {:?}",
            cover.format, cover.name
        ));
    }
    if cover.version > version {
        return Err(format!(
            "its version {} is newer than {version}",
            cover.version
        ));
    }
    let content: Content<T> = serde_json::from_slice(text).map_err(|error| {
        format!(
            "its state, of version {}, does not fit version {version}: {error}",
            cover.version
        )
    })?;
    let saved = Saved {
        saved_at: time(cover.saved_at),
        shutdown_at: cover.shutdown_at.map(time),
        version: cover.version,
    };
    Ok((content.state, saved))
}

/// Renames the file to a name that is free, so that nothing is lost.
fn set_aside<T>(path: &Path, why: String) -> Found<T> {
    let aside = (0..100)
        .map(|n| beside(path, &format!("aside-{}-{n}", millis(SystemTime::now()))))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::other("no name is free"))
        .and_then(|aside| fs::rename(path, &aside).map(|()| aside));
    Found::SetAside { why, aside }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn prefix(path: &Path) -> String {
    format!(
        ".{}.",
        path.file_name().unwrap_or_default().to_string_lossy()
    )
}

const SUFFIX: &str = ".tmp";

pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = directory(path);
    let mut file = tempfile::Builder::new()
        .prefix(&prefix(path))
        .suffix(SUFFIX)
        .tempfile_in(directory)?;
    file.write_all(text)?;
    if let Ok(old) = fs::metadata(path) {
        // Who could read the old file can read the new one.
        fs::set_permissions(file.path(), old.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename is on the disk once the directory is.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _: Option<File> = None;
    Ok(())
}

/// Removes what saves that were killed have left.
fn sweep(path: &Path) {
    let Ok(entries) = fs::read_dir(directory(path)) else {
        return;
    };
    let prefix = prefix(path);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let stale = || {
            let modified = entry.metadata().and_then(|of| of.modified()).ok()?;
            SystemTime::now().duration_since(modified).ok()
        };
        if name.starts_with(&prefix)
            && name.ends_with(SUFFIX)
            && stale().is_some_and(|age| age > STALE)
        {
            // The next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}
