//! `tantivy`: the writer of a search index.
//!
//! - **Cleanup**: `IndexWriter::commit`, then `wait_merging_threads`, on the blocking pool.
//! - **Lost without it**: every document since the last commit. Merges in progress start again.
//! - **Repeated**: no: the writer is gone.
//! - **Waits for**: the disk and the merges that run, without a limit.
//! - **Order**: after everything that adds documents. The field must be the only owner by then: `commit` needs the writer alone. Searchers need no cleanup.

use std::path::Path;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tantivy::schema::{Schema, TEXT};
use tantivy::{Index, IndexWriter, TantivyDocument};

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "10s", take, blocking, with = finish)]
    writer: Option<IndexWriter>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn finish(mut writer: IndexWriter) -> tantivy::Result<()> {
    writer.commit()?;
    writer.wait_merging_threads()
}

/// Opens a server with one document that is committed and one document that is not committed.
fn server(directory: &Path) -> Server {
    let mut schema = Schema::builder();
    let title = schema.add_text_field("title", TEXT);
    let index = Index::create_in_dir(directory, schema.build()).unwrap();
    let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
    for text in ["committed", "not committed"] {
        let mut document = TantivyDocument::default();
        document.add_text(title, text);
        writer.add_document(document).unwrap();
        if text == "committed" {
            writer.commit().unwrap();
        }
    }
    Server {
        writer: Some(writer),
        state: ShutdownState::new(),
    }
}

/// Returns how many documents the next start of the server finds.
fn found(directory: &Path) -> u64 {
    let index = Index::open_in_dir(directory).unwrap();
    // Creating a writer fails while an earlier writer holds the index's lock, so this also checks that the lock is
    // free.
    drop(
        index
            .writer_with_num_threads::<TantivyDocument>(1, 15_000_000)
            .unwrap(),
    );
    index.reader().unwrap().searcher().num_docs()
}

#[tokio::test]
async fn the_next_start_finds_every_document() {
    let directory = tempfile::tempdir().unwrap();
    assert_clean(&server(directory.path()).shutdown().await);
    assert_eq!(found(directory.path()), 2);
}

#[tokio::test]
async fn a_drop_alone_loses_uncommitted_documents() {
    let directory = tempfile::tempdir().unwrap();
    drop(server(directory.path()));
    assert_eq!(found(directory.path()), 1);
}

#[tokio::test]
async fn a_wait_without_a_commit_loses_uncommitted_documents() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(directory.path());
    let writer = server.writer.take().unwrap();
    writer.wait_merging_threads().unwrap();
    assert_eq!(found(directory.path()), 1);
}
