//! The server refuses a request that two servers can read differently, because request smuggling depends on such a
//! difference.

mod support;

use lifecycle_http::Limits;
use support::{GET, tcp_site};

const FIELDS: [&str; 5] = [
    "content-length: 5\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: 5",
    "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0",
    "content-length: 5\r\ncontent-length: 5",
    "content-length: 5, 5",
];

#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_its_connection_closed() {
    let site = tcp_site(Limits::default()).await;
    for fields in FIELDS {
        let mut client = site.client().await;
        client
            .says(&format!(
                "POST /upload HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{GET}"
            ))
            .await;
        let all = client.hears_all().await;
        assert!(all.starts_with("HTTP/1.1 400 "), "{fields}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{fields}: {all}");
    }
    assert_eq!(site.stage.reached.available_permits(), 0);
}

#[tokio::test]
async fn the_requests_before_it_are_answered() {
    let site = tcp_site(Limits::default()).await;
    let mut client = site.client().await;
    let chunked = "POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    let sized = "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n\r\n\r\n";
    let fields = FIELDS[0];
    let bad = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
    client.says(&format!("{GET}{chunked}{sized}{bad}")).await;
    let all = client.hears_all().await;
    let statuses: Vec<_> = all
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &all[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "200", "400"], "{all}");
}
