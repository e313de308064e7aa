//! Every row of the table, against `HttpServer`: it ends, and its client sees what it should.

use lifecycle_wire_tests::cases;
use lifecycle_wire_tests::subject::Kind;

macro_rules! rows {
    ($($test:ident: $name:literal => $client:literal;)*) => {
        $(#[tokio::test]
        async fn $test() {
            let seen = cases::run($name, Kind::Ours).await;
            assert!(seen.took.is_some(), "{seen}");
            assert_eq!(seen.client, $client, "{seen}");
        })*

        #[test]
        fn every_row_has_its_test() {
            let tested = [$($name),*];
            let known: Vec<_> = cases::ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, tested);
        }
    };
}

rows! {
    h1_idle: "h1 idle keep-alive" => "closed";
    h1_dialogue: "h1 in dialogue, next request 50 ms later" => "answered, told to close";
    silent: "silent after connect" => "closed";
    partial_preface: "partial h2 preface" => "closed";
    h1_in_flight: "h1 in flight" => "answered, told to close";
    half_a_head: "h1 half a request head" => "closed";
    half_a_body: "h1 half a body" => "closed";
    never_reads: "h1 client that never reads 20 MB" => "closed";
    h1_sse: "h1 endless SSE" => "ended after an event, told when to come back";
    websocket: "WebSocket over h1" => "told 1001, closed";
    h2_websocket: "WebSocket over h2 (RFC 8441)" => "told 1001, closed";
    h2_idle: "h2 idle" => "GOAWAY, closed";
    h2_in_flight: "h2 in flight" => "answered";
    h2_preface: "h2 preface, then silence" => "closed";
    h2_no_ack: "h2 client that never acknowledges" => "closed";
    queued: "in the accept queue, not accepted yet" => "all of 20 answered";
}
