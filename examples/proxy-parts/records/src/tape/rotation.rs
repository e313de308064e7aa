//! A log file with rotation: the current file, and numbered older files. All functions block the
//! thread.
//!
//! During a restart, two processes write to the same log. Each process appends whole lines under a
//! lock on the file. While it holds the lock, it checks whether the other process has rotated the
//! file, and how long the file is.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The approximate size of the batches in which lines are written, in bytes.
const BATCH: usize = 64 * 1024;

/// The result of writing lines.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) lines: u64,
    pub(super) lost: u64,
    pub(super) error: Option<io::Error>,
    /// The lines that were not written, because the file could not be opened.
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

/// The current file, and the rules of its rotation.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    most: Option<NonZeroU64>,
    keep: u32,
    file: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// The length of the part of the file that consists of whole lines.
    length: u64,
}

impl RotatingFile {
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

    /// Appends lines. If a write fails, its lines and all later lines are lost. If the file cannot
    /// be opened, the result contains all lines.
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
                    // Gives up these lines only: the disk may have room again when the next lines
                    // come.
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

    /// Takes the next batch of lines: at least one line, and no more lines than fit into the file.
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
            self.rotate()?;
            // Read again: another process may have rotated the file first, and filled the new file.
            length = self.locked()?.length;
        }
        let open = self.opened()?;
        let written = open.file.write_all(batch);
        match &written {
            // Removes the part of a line that may have been written, so that the next line begins a
            // new line.
            Err(_) => drop(open.file.set_len(length)),
            Ok(()) => open.length = length + batch.len() as u64,
        }
        unlock(&open.file)?;
        written
    }

    /// Locks the file that has the log's name at this moment, and updates its length.
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
                // Tries again, since another process has rotated the open file. Dropping it
                // releases its lock.
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

    /// Rotates the files: raises the numbers of the older files, renames the current file to `.1`,
    /// and closes it, which releases its lock.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(open) = self.file.take() else {
            return Ok(());
        };
        open.file.sync_all()?;
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(
                rotated_name(&self.path, number),
                rotated_name(&self.path, number + 1),
            ) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, rotated_name(&self.path, 1))
    }
}

/// Opens a file to append to it. Completes the last line with a line end, if a crash has left the
/// line incomplete.
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

/// Locks the file against the other process, if the file system supports locks.
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

fn rotated_name(path: &Path, number: u32) -> PathBuf {
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

    fn rotating(directory: &tempfile::TempDir, most: u64, keep: u32) -> RotatingFile {
        RotatingFile::new(directory.path().join("tape"), NonZeroU64::new(most), keep)
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
    fn a_full_file_is_rotated_and_the_oldest_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut tape = rotating(&directory, 30, 2);
        let written = tape.append(lines(11));
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
        rotating(&directory, 30, 1).append(lines(2));
        let mut later = rotating(&directory, 30, 1);
        assert!(later.open().error.is_none());
        later.append(lines(2));
        assert_eq!(names(&directory), ["tape", "tape.1"]);
        assert_eq!(text(&directory, "tape.1").len(), 30);
        assert_eq!(text(&directory, "tape").len(), 10);
    }

    #[test]
    fn without_keep_old_files_are_removed_and_an_oversized_line_gets_its_own_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut tape = rotating(&directory, 5, 0);
        assert_eq!(tape.append(lines(3)).lines, 3);
        assert_eq!(names(&directory), ["tape"]);
        assert_eq!(text(&directory, "tape"), "000000002\n");
    }

    #[test]
    fn two_writers_of_one_tape_lose_no_line_and_respect_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut reels = [
            rotating(&directory, 100, 1000),
            rotating(&directory, 100, 1000),
        ];
        std::thread::scope(|scope| {
            for tape in &mut reels {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(tape.append(lines(3)).lines, 3);
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
        rotating(&directory, 1000, 1).append(lines(1));
        assert_eq!(text(&directory, "tape"), "whole\ncut\n000000000\n");
    }
}
