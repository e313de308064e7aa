//! Measures what clients see when axum's server and `HttpServer` shut down, and prints the table of the README.

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
