//! The table of the README is true for axum's server and for `HttpServer`.

use std::thread;

use lifecycle_wire_tests::cases::{self, Row};
use lifecycle_wire_tests::subject::Kind;

/// Returns how the server's behaviour contradicts the row of the table, if it does.
fn contradiction(row: &Row, kind: Kind) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seen = runtime.block_on(row.run(kind));
    println!("{}, {kind:?}: {seen}", row.name);
    let expected = row.expected(kind);
    (!expected.is(&seen)).then(|| format!("{}, {kind:?}: {seen}, not {expected}", row.name))
}

#[test]
fn clients_of_either_server_see_the_rows_of_the_table() {
    // The rows run at the same time, because most of the time is spent waiting for servers that hang.
    let contradictions: Vec<_> = thread::scope(|scope| {
        let rows: Vec<_> = cases::ALL
            .iter()
            .map(|row| {
                scope.spawn(|| {
                    let kinds = [Kind::Plain, Kind::Ours];
                    kinds.map(|kind| contradiction(row, kind))
                })
            })
            .collect();
        let rows = rows.into_iter().map(|row| row.join().unwrap());
        rows.flatten().flatten().collect()
    });
    assert!(contradictions.is_empty(), "{contradictions:#?}");
}

#[test]
fn the_readme_shows_the_table() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme
        .split_once("| connection when the shutdown begins |")
        .expect("the README has the table");
    let shown: Vec<_> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let rows: Vec<_> = cases::ALL.iter().map(Row::to_string).collect();
    assert_eq!(shown, rows, "in the README:\n{}", rows.join("\n"));
}
