//! The component impl of tokio's `File`.

use std::io::{self, ErrorKind};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::{BoxError, Component, Context, MustClean};

impl MustClean for File {}

impl Component for File {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.waiting_for(|| "the written data to reach the disk".into());
        self.flush().await?;
        match self.sync_all().await {
            Err(error) if !can_sync(&error) => Ok(()),
            synced => Ok(synced?),
        }
    }
}

/// Returns whether a file that gives this error can be synced at all. Pipes and devices have no disk; fsync(2) returns
/// EINVAL or EROFS for them.
fn can_sync(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::ReadOnlyFilesystem
    )
}
