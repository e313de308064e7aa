//! Prints what clients see when either server stops: the table of the README.

use lifecycle_wire_tests::cases;
use lifecycle_wire_tests::subject::Kind;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("| connection | plain axum | `HttpServer` |\n|---|---|---|");
    for (name, _) in cases::ALL {
        let plain = cases::run(name, Kind::Plain).await;
        let ours = cases::run(name, Kind::Ours).await;
        println!("| {name} | {plain} | {ours} |");
    }
}
