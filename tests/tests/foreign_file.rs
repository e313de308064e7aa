//! The cleanup of a file writes its data to the disk.

use lifecycle_runtime::Component;
use lifecycle_tests::context;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom};

/// Returns a temporary file without a name, open for reading and writing.
fn file() -> File {
    File::from_std(tempfile::tempfile().unwrap())
}

async fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).await.unwrap();
    file.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn written_data_is_in_the_file_when_its_cleanup_ends() {
    let std_file = tempfile::tempfile().unwrap();
    let mut file = File::from_std(std_file.try_clone().unwrap());
    file.write_all(b"the last line").await.unwrap();
    file.cleanup(&context()).await.unwrap();
    assert_eq!(std_file.metadata().unwrap().len(), 13);
    file.cleanup(&context()).await.unwrap();
    assert_eq!(read(&mut file).await, "the last line");
}

#[tokio::test]
async fn an_interrupted_cleanup_of_a_file_can_be_resumed() {
    let mut file = file();
    file.write_all(b"the last line").await.unwrap();
    // The cleanup is polled once and dropped. If the disk is fast, it may have finished in that poll.
    let _ = tokio_test::task::spawn(file.cleanup(&context())).poll();
    file.cleanup(&context()).await.unwrap();
    assert_eq!(read(&mut file).await, "the last line");
}

#[tokio::test]
async fn aborting_and_releasing_a_file_leave_it_usable() {
    let mut file = file();
    file.abort();
    file.release();
    file.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut file).await, "more");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_write_that_fails_late_fails_the_cleanup() {
    let mut full = File::options().write(true).open("/dev/full").await.unwrap();
    // The write only fills a buffer and succeeds. The device refuses the data when the cleanup writes it.
    full.write_all(b"x").await.unwrap();
    let error = full.cleanup(&context()).await.unwrap_err();
    let error = error.downcast::<std::io::Error>().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_synced_is_only_flushed() {
    let mut null = File::options().write(true).open("/dev/null").await.unwrap();
    null.write_all(b"x").await.unwrap();
    null.cleanup(&context()).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_sync_that_fails_fails_the_cleanup() {
    // A descriptor opened with O_PATH only names a file, so fsync(2) of it fails with EBADF.
    let flags = rustix::fs::OFlags::PATH;
    let named = rustix::fs::open("/", flags, rustix::fs::Mode::empty()).unwrap();
    let error = File::from_std(named.into())
        .cleanup(&context())
        .await
        .unwrap_err();
    let error = error.downcast::<std::io::Error>().unwrap();
    let bad = rustix::io::Errno::BADF.raw_os_error();
    assert_eq!(error.raw_os_error(), Some(bad));
}
