//! A function that reads a small file as a whole.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a UTF-8 file of at most `most` bytes.
///
/// Reads only regular files and links to them, since reading a pipe or a device may never end.
///
/// # Errors
///
/// When the file cannot be read, is not a regular file, is larger than `most`, or is not UTF-8.
pub(super) fn read(path: &Path, most: u64) -> io::Result<String> {
    // Checked before the file is opened, since opening a pipe waits for its writer.
    check(&fs::metadata(path)?, most)?;
    let file = File::open(path)?;
    check(&file.metadata()?, most)?;
    let mut text = String::new();
    // Limits the read to one byte more than allowed, since the file may grow during the read.
    let read = file.take(most + 1).read_to_string(&mut text)?;
    if read as u64 > most {
        return Err(too_large(most));
    }
    Ok(text)
}

fn check(metadata: &fs::Metadata, most: u64) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > most {
        return Err(too_large(most));
    }
    Ok(())
}

fn too_large(most: u64) -> io::Error {
    io::Error::other(format!("it is larger than {most} bytes"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_up_to_a_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "12345").unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            assert_eq!(read(path, 5).unwrap(), "12345");
            assert!(read(path, 4).unwrap_err().to_string().contains("larger"));
        }
        for other in [
            directory.path(),
            Path::new("/dev/zero"),
            Path::new("/dev/null"),
        ] {
            let error = read(other, 5).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
