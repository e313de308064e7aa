//! The files that a tape consists of: the one that is written, and those that
//! were put aside when they were full. Everything here blocks.
//!
//! While a new process takes over, two write the same tape. Each appends whole
//! lines, and holds a lock on the file meanwhile; once it has the lock it looks
//! whether the other one has put the file aside, and how long it is by now.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Lines are written together, up to about so many bytes.
const BATCH: usize = 64 * 1024;

/// What came of writing.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) lines: u64,
    pub(super) lost: u64,
    pub(super) error: Option<io::Error>,
    /// Lines that nothing was tried with, as there was no file.
    pub(super) back: VecDeque<Vec<u8>>,
}

impl From<io::Result<()>> for Written {
    fn from(result: io::Result<()>) -> Self {
        Self {
            error: result.err(),
            ..Self::default()
        }
    }
}

/// The file that is written, and how it is put aside.
#[derive(Debug)]
pub(super) struct Reel {
    path: PathBuf,
    most: Option<NonZeroU64>,
    keep: u32,
    file: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Up to here it consists of whole lines.
    length: u64,
}

impl Reel {
    pub(super) const fn new(path: PathBuf, most: Option<NonZeroU64>, keep: u32) -> Self {
        Self {
            path,
            most,
            keep,
            file: None,
        }
    }

    pub(super) fn open(&mut self) -> Written {
        self.opened().map(drop).into()
    }

    /// Writes lines. Those that cannot be written are lost, whole; without a
    /// file they are handed back.
    pub(super) fn append(&mut self, mut lines: VecDeque<Vec<u8>>) -> Written {
        let mut written = Written::default();
        if let Err(error) = self.opened() {
            written.error = Some(error);
            written.back = lines;
            return written;
        }
        while !lines.is_empty() {
            let (batch, count) = self.batch(&mut lines);
            match self.append_batch(&batch) {
                Ok(()) => written.lines += count,
                Err(error) => {
                    // The disk may have room again when the next lines come.
                    written.lost += count + lines.len() as u64;
                    written.error = Some(error);
                    return written;
                }
            }
        }
        written
    }

    pub(super) fn synchronise(&mut self) -> Written {
        match &self.file {
            Some(open) => open.file.sync_all().into(),
            None => Written::default(),
        }
    }

    /// The next lines that are written together: no more than fit the file, but
    /// one at least.
    fn batch(&self, lines: &mut VecDeque<Vec<u8>>) -> (Vec<u8>, u64) {
        let length = self.file.as_ref().map_or(0, |open| open.length);
        let room = self
            .most
            .map_or(u64::MAX, |most| most.get().saturating_sub(length));
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(BATCH);
        let mut batch = lines.pop_front().unwrap_or_default();
        let mut count = 1;
        while let Some(line) = lines.front()
            && batch.len() + line.len() <= room
        {
            batch.extend(line);
            lines.pop_front();
            count += 1;
        }
        (batch, count)
    }

    fn append_batch(&mut self, batch: &[u8]) -> io::Result<()> {
        let most = self.most.map_or(u64::MAX, NonZeroU64::get);
        let mut length = self.locked()?.length;
        while length > 0 && length + batch.len() as u64 > most {
            self.put_aside()?;
            // Another process may have been faster, and filled the next one too.
            length = self.locked()?.length;
        }
        let open = self.opened()?;
        let written = open.file.write_all(batch);
        match &written {
            // A part of a line may be there; without it the next one is whole.
            Err(_) => drop(open.file.set_len(length)),
            Ok(()) => open.length = length + batch.len() as u64,
        }
        unlock(&open.file)?;
        written
    }

    /// The file that has the name now, under a lock, and as long as it is then.
    fn locked(&mut self) -> io::Result<&mut Open> {
        loop {
            let mut held = match self.file.take() {
                Some(file) => file,
                None => open(&self.path)?,
            };
            lock(&held.file)?;
            let metadata = held.file.metadata()?;
            match fs::metadata(&self.path) {
                Ok(named) if (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()) => {
                    held.length = metadata.len();
                    return Ok(self.file.insert(held));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Another one has it. Closed, this one is no longer locked.
                _ => {}
            }
        }
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    /// Gives the file the name with `.1`, after those that had such names, and then
    /// lets go of its lock.
    fn put_aside(&mut self) -> io::Result<()> {
        let Some(open) = self.file.take() else {
            return Ok(());
        };
        open.file.sync_all()?;
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(aside(&self.path, number), aside(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(&self.path, 1))
    }
}

/// Opens a tape to append to it. One that breaks off in a line, as after a crash,
/// has that line ended.
fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(path)?;
    lock(&file)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    unlock(&file)?;
    Ok(Open { file, length })
}

/// Keeps the other process away; where files cannot be locked, nothing does.
fn lock(file: &File) -> io::Result<()> {
    supported(file.lock())
}

fn unlock(file: &File) -> io::Result<()> {
    supported(file.unlock())
}

fn supported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> VecDeque<Vec<u8>> {
        (0..count)
            .map(|number| format!("{number:09}\n").into_bytes())
            .collect()
    }

    fn reel(directory: &tempfile::TempDir, most: u64, keep: u32) -> Reel {
        Reel::new(directory.path().join("tape"), NonZeroU64::new(most), keep)
    }

    fn text(directory: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(directory.path().join(name)).unwrap()
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<_> = entries.map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_one_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut reel = reel(&directory, 30, 2);
        let written = reel.append(lines(11));
        assert_eq!((written.lines, written.lost), (11, 0));
        assert_eq!(names(&directory), ["tape", "tape.1", "tape.2"]);
        assert_eq!(
            text(&directory, "tape.2"),
            "000000003\n000000004\n000000005\n"
        );
        assert_eq!(
            text(&directory, "tape.1"),
            "000000006\n000000007\n000000008\n"
        );
        assert_eq!(text(&directory, "tape"), "000000009\n000000010\n");
    }

    #[test]
    fn a_file_of_an_earlier_run_counts() {
        let directory = tempfile::tempdir().unwrap();
        reel(&directory, 30, 1).append(lines(2));
        let mut later = reel(&directory, 30, 1);
        assert!(later.open().error.is_none());
        later.append(lines(2));
        assert_eq!(names(&directory), ["tape", "tape.1"]);
        assert_eq!(text(&directory, "tape.1").len(), 30);
        assert_eq!(text(&directory, "tape").len(), 10);
    }

    #[test]
    fn nothing_is_kept_if_so_wanted_and_a_line_longer_than_a_file_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut reel = reel(&directory, 5, 0);
        assert_eq!(reel.append(lines(3)).lines, 3);
        assert_eq!(names(&directory), ["tape"]);
        assert_eq!(text(&directory, "tape"), "000000002\n");
    }

    #[test]
    fn two_that_write_one_tape_lose_no_line_and_fill_no_file_beyond_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut reels = [reel(&directory, 100, 1000), reel(&directory, 100, 1000)];
        std::thread::scope(|scope| {
            for reel in &mut reels {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(reel.append(lines(3)).lines, 3);
                    }
                });
            }
        });
        let texts: Vec<_> = names(&directory)
            .iter()
            .map(|name| text(&directory, name))
            .collect();
        assert!(texts.iter().all(|text| text.len() <= 100), "{texts:?}");
        for line in ["000000000", "000000001", "000000002"] {
            let count = texts.iter().flat_map(|text| text.lines());
            assert_eq!(count.filter(|found| *found == line).count(), 200);
        }
    }

    #[test]
    fn a_line_that_a_crash_cut_off_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tape"), "whole\ncut").unwrap();
        reel(&directory, 1000, 1).append(lines(1));
        assert_eq!(text(&directory, "tape"), "whole\ncut\n000000000\n");
    }
}
