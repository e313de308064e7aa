//! Measures what clients see when either server stops, and prints the table.

use lifecycle_wire_tests::cases;
use lifecycle_wire_tests::subject::Kind;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("| connection | plain axum | `HttpServer` |\n|---|---|---|");
    for row in cases::ALL {
        let plain = row.run(Kind::Plain).await;
        let ours = row.run(Kind::Ours).await;
        println!("| {} | {plain} | {ours} |", row.name);
    }
}
