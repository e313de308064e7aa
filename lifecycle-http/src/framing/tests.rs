use super::*;

fn ambiguous(text: &str) -> Option<u64> {
    let mut found = Vec::new();
    for step in [1, 2, 7, text.len().max(1)] {
        let mut framing = RequestFraming::new();
        for part in text.as_bytes().chunks(step) {
            framing.pass(part);
        }
        found.push(framing.first_ambiguous());
    }
    found.dedup();
    assert_eq!(found.len(), 1, "it depends on how {text:?} is cut");
    found[0]
}

#[test]
fn requests_with_one_length_are_followed_to_their_end() {
    let both = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
    for before in [
        "",
        "\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nContent-Length: 7\r\nX: 89012345\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\n\r\n\r\n\r\n1f \r\n\
         0123456789012345678901234567890\r\n0\r\nContent-Length: 3\r\n\r\n",
    ] {
        assert_eq!(ambiguous(before), None, "{before:?}");
        let number = u64::from(before.contains("HTTP"));
        assert_eq!(
            ambiguous(&format!("{before}{both}")),
            Some(number),
            "{before:?}"
        );
    }
}

#[test]
fn a_request_that_two_servers_can_read_differently_is_ambiguous() {
    let zeros = "0".repeat(200);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "transfer-encoding: chunked\r\nX: y\r\ncontent-length: 5",
        "Transfer-Encoding: gzip\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length : 5\r\nTransfer-Encoding: chunked",
        &format!("Content-Length: {zeros}5"),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(ambiguous(&text), Some(0), "{fields}");
    }
}

#[test]
fn a_target_has_no_fragment() {
    assert_eq!(ambiguous("GET /#x HTTP/1.1\r\n\r\n"), Some(0));
    let long = format!("GET /{}# HTTP/1.1\r\n\r\n", "x".repeat(300));
    assert_eq!(ambiguous(&long), Some(0));
    assert_eq!(
        ambiguous("GET / HTTP/1.1\r\nX: #\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        None
    );
}

#[test]
fn after_a_body_that_cannot_be_followed_nothing_is_certain() {
    for body in [
        "x\r\n",
        "\r\n",
        "2\r\nabc\r\n",
        "11111111111111111\r\n",
        &format!("{}1\r\n", "0".repeat(200)),
    ] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(ambiguous(&text), Some(1), "{body:?}");
    }
}

#[test]
fn a_head_at_once_is_read_like_one_in_bytes() {
    let tokens = [
        "GET / HTTP/1.1",
        "\r\n",
        "\n",
        "X: y",
        "content-length: 2",
        "Transfer-Encoding: chunked",
        "#",
    ];
    let before = "GET / HTTP/1.1\r\n\r\n";
    let after = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut texts = vec![String::new()];
    for _ in 0..5 {
        texts = texts
            .iter()
            .flat_map(|text| tokens.map(|token| format!("{text}{token}")))
            .collect();
        for text in texts.iter().map(|text| format!("{text}\r\n\r\n")) {
            let [mut whole, mut split] = [(); 2].map(|()| RequestFraming::new());
            for part in [before, &text, after] {
                whole.pass(part.as_bytes());
                part.bytes().for_each(|byte| split.pass(&[byte]));
            }
            assert_eq!(whole.first_ambiguous(), split.first_ambiguous(), "{text:?}");
        }
    }
}

#[test]
fn http_2_is_left_alone() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let more = "Content-Length: 5\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(ambiguous(&format!("{preface}{more}")), None);
    // The same in three reads.
    let mut framing = RequestFraming::new();
    for part in ["PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\nframe\r\n", more] {
        framing.pass(part.as_bytes());
    }
    assert_eq!(framing.first_ambiguous(), None);
    let later = format!("GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n{more}");
    assert_eq!(ambiguous(&later), Some(1));
}
