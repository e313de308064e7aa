use lifecycle_runtime::CloseReason;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Ends {
    client: DuplexStream,
    upstream: DuplexStream,
    connection: Connection,
    relay: JoinHandle<io::Result<Relayed>>,
}

fn ends(ping: Duration) -> Ends {
    let (client, inner) = duplex(1 << 16);
    let (outer, upstream) = duplex(1 << 16);
    let connection = Connection::detached("client");
    let told = connection.clone();
    let relay = tokio::spawn(async move {
        WebSocketRelay::new()
            .ping(ping)
            .run(inner, outer, &told)
            .await
    });
    Ends {
        client,
        upstream,
        connection,
        relay,
    }
}

async fn read<const N: usize>(from: &mut DuplexStream) -> [u8; N] {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Returns a frame as a client sends it: masked, with a mask of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

#[test]
fn frames_are_told_apart_however_their_bytes_arrive() {
    let mut stream = masked(0x81, b"hello");
    stream.extend([0x82, 126, 0x01, 0x00]);
    stream.extend([7; 256]);
    stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    stream.extend([7; 65536]);
    stream.extend(PING);
    let ends = [11, 271, 65817, 65819];
    for step in [1, 2, 3, 1000, stream.len()] {
        let mut frames = Frames::default();
        let mut passed = 0;
        for part in stream.chunks(step) {
            assert!(!frames.pass(part));
            passed += part.len();
            assert_eq!(
                frames.is_between(),
                ends.contains(&passed),
                "{step} {passed}"
            );
        }
        assert!(frames.pass(&masked(0x88, &[3, 232])));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_a_client_that_leaves_ends_it() {
    let mut ends = ends(30 * SECOND);
    let hello = masked(0x81, b"hello");
    ends.client.write_all(&hello).await.unwrap();
    assert_eq!(read::<11>(&mut ends.upstream).await, hello[..]);
    ends.upstream.write_all(&[0x81, 1, b'!']).await.unwrap();
    assert_eq!(read::<3>(&mut ends.client).await, [0x81, 1, b'!']);
    drop(ends.client);
    assert_eq!(ends.upstream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(ends.relay.await.unwrap().unwrap(), Relayed::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_a_pong_keeps_it() {
    let mut ends = ends(30 * SECOND);
    for _ in 0..5 {
        assert_eq!(read(&mut ends.client).await, PING);
        ends.client.write_all(&masked(0x8a, b"")).await.unwrap();
        assert_eq!(read::<6>(&mut ends.upstream).await[0], 0x8a);
    }
    let silent = Instant::now();
    assert_eq!(read(&mut ends.client).await, PING);
    assert_eq!(ends.relay.await.unwrap().unwrap(), Relayed::Expired);
    assert_eq!(silent.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_the_client_is_told_between_frames_and_its_answer_reaches_the_upstream() {
    let mut ends = ends(30 * SECOND);
    ends.upstream.write_all(&[0x81, 2, b'a']).await.unwrap();
    assert_eq!(read::<3>(&mut ends.client).await[2], b'a');
    ends.connection.close(CloseReason::Drain);
    tokio::task::yield_now().await;
    ends.upstream.write_all(b"b").await.unwrap();
    assert_eq!(read::<1>(&mut ends.client).await, *b"b");
    assert_eq!(read(&mut ends.client).await, GOING_AWAY);
    let answer = masked(0x88, &[3, 0xe9]);
    ends.client.write_all(&answer).await.unwrap();
    assert_eq!(read::<8>(&mut ends.upstream).await, answer[..]);
    drop(ends.upstream);
    assert_eq!(ends.client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(ends.relay.await.unwrap().unwrap(), Relayed::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_is_left_after_a_while() {
    let ends = ends(30 * SECOND);
    ends.connection.close(CloseReason::Drain);
    let start = Instant::now();
    assert_eq!(ends.relay.await.unwrap().unwrap(), Relayed::Closed);
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_stops_does_not_keep_the_client_from_its_close() {
    let Ends {
        mut client,
        mut upstream,
        connection,
        relay,
    } = ends(30 * SECOND);
    let flood =
        tokio::spawn(async move { while upstream.write_all(&[0x81, 1, b'a']).await.is_ok() {} });
    assert_eq!(read::<3>(&mut client).await, [0x81, 1, b'a']);
    connection.close(CloseReason::Drain);
    while read::<2>(&mut client).await != GOING_AWAY[..2] {
        read::<1>(&mut client).await;
    }
    assert_eq!(read::<2>(&mut client).await, GOING_AWAY[2..]);
    drop(client);
    assert_eq!(relay.await.unwrap().unwrap(), Relayed::Closed);
    flood.await.unwrap();
}
