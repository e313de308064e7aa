//! The functions that read the state file, set it aside, and replace it atomically. All of them block.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Saved;

const FORMAT: &str = "lifecycle-state";

/// The age from which the temporary file of a killed save is removed. A younger file may belong to a process that is
/// saving.
const STALE: Duration = Duration::from_secs(60);

/// The content of the file.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope<N, T> {
    format: N,
    name: N,
    version: u32,
    /// The time of the save, in milliseconds since 1970, like all times here.
    saved_at: u64,
    shutdown_at: Option<u64>,
    state: T,
}

/// The fields of the file without the state. They are checked first.
#[derive(Deserialize)]
struct Header {
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
    /// The content was read and is damaged or foreign. The file now has the name `aside`.
    SetAside {
        why: String,
        aside: PathBuf,
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
    // A time before 1970 becomes 1970.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}

/// Loads the state from the file. A damaged file is set aside only after its content was read.
pub(super) fn load<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    version: u32,
) -> io::Result<Found<T>> {
    let path = &target(path)?;
    sweep(path);
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            // A file that is not regular is refused, since reading a pipe would never end.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Ok(_) | Err(_) => {}
    }
    let text = fs::read(path)?;
    match parse(&text, name, version) {
        Ok((state, saved)) => Ok(Found::State(state, saved)),
        Err(why) => match set_aside(path) {
            Ok(aside) => Ok(Found::SetAside { why, aside }),
            // A damaged file that cannot be set aside is an error, since a later save would destroy it.
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("{why}, and it cannot be set aside: {error}"),
            )),
        },
    }
}

/// Follows symbolic links from `path` to their target. The last link may point to a file that does not exist yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    /// The largest number of links, which is also Linux's limit (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                path = directory(&path).join(fs::read_link(&path)?);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "too many symbolic links",
    ))
}

fn parse<T: DeserializeOwned>(text: &[u8], name: &str, version: u32) -> Result<(T, Saved), String> {
    let header: Header =
        serde_json::from_slice(text).map_err(|error| format!("it is damaged: {error}"))?;
    if header.format != FORMAT || header.name != name {
        return Err(format!(
            "it belongs to another program: {} {:?}",
            header.format, header.name
        ));
    }
    if header.version > version {
        return Err(format!(
            "its version {} is newer than {version}",
            header.version
        ));
    }
    let content: Content<T> = serde_json::from_slice(text).map_err(|error| {
        format!(
            "its state, of version {}, does not fit version {version}: {error}",
            header.version
        )
    })?;
    let saved = Saved {
        saved_at: time(header.saved_at),
        shutdown_at: header.shutdown_at.map(time),
        version: header.version,
    };
    Ok((content.state, saved))
}

/// Renames the damaged file to a name that no file has, so that its content is not lost.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = (0..100)
        .map(|n| beside(path, &format!("aside-{}-{n}", millis(SystemTime::now()))))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::other("no name is free"))?;
    fs::rename(path, &aside)?;
    Ok(aside)
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

/// Replaces the file, or the target of a symbolic link.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = &target(path)?;
    let directory = directory(path);
    let mut file = tempfile::Builder::new()
        .prefix(&prefix(path))
        .suffix(SUFFIX)
        .tempfile_in(directory)?;
    file.write_all(text)?;
    if let Ok(old) = fs::metadata(path) {
        // This gives the new file the permissions of the old file.
        fs::set_permissions(file.path(), old.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The directory is synced, since only that makes the rename durable.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _: Option<File> = None;
    Ok(())
}

/// Removes the temporary files of saves that were killed.
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
            // The result is ignored: if this fails, the next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}
