use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

async fn peers(tell: Vec<SocketAddr>, known: Vec<Peer>) -> (Peers, Goodbye) {
    peers_at("127.0.0.1:0", tell, known).await
}

async fn peers_at(at: &str, tell: Vec<SocketAddr>, known: Vec<Peer>) -> (Peers, Goodbye) {
    let text = format!("listen: \"{at}\"\ntell: []\nhello: 3600\n");
    let mut config: settings::Peers = serde_saphyr::from_str(&text).unwrap();
    config.tell = tell;
    let identity = Identity {
        service: "proxy".into(),
        id: "me".into(),
        host: "here".into(),
        listening: SocketAddr::from(([127, 0, 0, 1], 1)),
        address: "127.0.0.1".into(),
    };
    let goodbye = Goodbye::default();
    let limit = Duration::from_secs(1);
    let (socket, address) = socket().await;
    let socket = (Arc::new(socket), address);
    let peers = Peers::start(&config, socket, &identity, known, limit, goodbye.clone());
    (peers, goodbye)
}

async fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn receive(socket: &UdpSocket) -> (Kind, String, SocketAddr) {
    let mut buffer = [0; 512];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("a datagram").unwrap();
    let datagram = Datagram::decode(&buffer[..length]).unwrap();
    assert_eq!(datagram.id, "me");
    (datagram.kind, datagram.nonce.into_owned(), from)
}

#[tokio::test]
async fn a_goodbye_is_sent_again_until_its_nonce_comes_back() {
    let (socket, address) = socket().await;
    let (_peers, goodbye) = peers(vec![address], Vec::new()).await;
    assert_eq!(receive(&socket).await.0, Kind::Hello);
    let peer = async {
        let (kind, first, _) = receive(&socket).await;
        assert_eq!(kind, Kind::Goodbye);
        let (_, again, from) = receive(&socket).await;
        assert_eq!(again, first);
        for nonce in ["wrong", &again] {
            let ack = format!("{{\"kind\":\"ack\",\"id\":\"you\",\"nonce\":\"{nonce}\"}}");
            socket.send_to(ack.as_bytes(), from).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(goodbye.send(), peer);
    sent.unwrap();
}

#[tokio::test]
async fn an_ipv6_socket_receives_datagrams_of_an_ipv4_peer() {
    let (socket, address) = socket().await;
    let (peers, goodbye) = peers_at("[::]:0", vec![address], Vec::new()).await;
    let (_, _, from) = receive(&socket).await;
    let text = b"{\"kind\":\"goodbye\",\"id\":\"you\",\"nonce\":\"n\"}";
    socket.send_to(text, from).await.unwrap();
    assert_eq!(receive(&socket).await.0, Kind::Ack);
    assert!(peers.table().list()[0].gone);
    goodbye.send().await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_named_and_an_absent_peer_gets_no_goodbye() {
    let (_silent, silent) = socket().await;
    let (_gone, gone) = socket().await;
    let known = vec![Peer {
        address: gone,
        id: Some("other".into()),
        last_seen: None,
        gone: true,
    }];
    let (_peers, goodbye) = peers(vec![silent, gone], known).await;
    let error = goodbye.send().await.unwrap_err().to_string();
    assert_eq!(error, format!("no acknowledgement from {silent}"));
}

#[tokio::test]
async fn other_datagrams_are_counted_and_change_nothing() {
    let (socket, address) = socket().await;
    let (stranger, _) = self::socket().await;
    let (peers, _) = peers(vec![address], Vec::new()).await;
    let (_, _, to) = receive(&socket).await;
    let text = b"{\"kind\":\"goodbye\",\"id\":\"you\",\"nonce\":\"n\"}";
    let own = b"{\"kind\":\"goodbye\",\"id\":\"me\",\"nonce\":\"n\"}";
    stranger.send_to(text, to).await.unwrap();
    for bad in [&own[..], b"\xff\x00", b"{}", b"[]", &[b' '; 2000], b""] {
        socket.send_to(bad, to).await.unwrap();
    }
    socket.send_to(text, to).await.unwrap();
    assert_eq!(receive(&socket).await.0, Kind::Ack);
    assert_eq!(peers.shared.ignored.load(Ordering::Relaxed), 7);
    let known = peers.table().list();
    assert!(known[0].gone && known[0].last_seen.is_some(), "{known:?}");
    assert_eq!(known[0].id.as_deref(), Some("you"));
}
