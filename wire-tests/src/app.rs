//! The application under test: small, large and slow responses, event streams, and WebSockets.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Query};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get, post};
use futures_util::Stream;
use lifecycle_http::HttpConnection;
use tokio::time::sleep;

/// The length of the response of `/`: long enough to be cut in the middle, short enough for many requests.
pub const ANSWER: usize = 4_096;

pub fn app() -> Router {
    Router::new()
        .route("/", get(|| async { answer() }))
        .route("/slow", get(slow))
        .route("/big", get(|| async { vec![b'x'; 20 << 20] }))
        .route(
            "/upload",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/events", get(events))
        .route("/ws", any(websocket))
}

/// Returns the body of `/`. Each of its bytes differs from its neighbours, so that a missing part shows.
pub fn answer() -> Vec<u8> {
    (0..ANSWER).map(|at| b'a' + (at % 26) as u8).collect()
}

async fn slow(Query(ms): Query<Ms>) -> Vec<u8> {
    sleep(Duration::from_millis(ms.0)).await;
    answer()
}

struct Ms(u64);

impl<'de> serde::Deserialize<'de> for Ms {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs = std::collections::HashMap::<String, u64>::deserialize(from)?;
        Ok(Self(pairs.get("ms").copied().unwrap_or(100)))
    }
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = tokio::time::interval(Duration::from_millis(50));
    Sse::new(futures_util::stream::unfold(ticks, async |mut ticks| {
        ticks.tick().await;
        Some((Ok(Event::default().data("tick")), ticks))
    }))
}

/// Echoes messages. If the server has a close signal, sends the client the close code 1001 when that signal fires.
async fn websocket(
    upgrade: WebSocketUpgrade,
    connection: Option<Extension<HttpConnection>>,
) -> Response {
    upgrade.on_upgrade(async move |socket| echo(socket, connection.map(|Extension(it)| it)).await)
}

async fn echo(mut socket: WebSocket, connection: Option<HttpConnection>) {
    let closing = async {
        match connection {
            Some(connection) => drop(connection.cancelled().await),
            None => std::future::pending().await,
        }
    };
    let mut closing = std::pin::pin!(closing);
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = &mut closing => break,
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return,
        }
    }
    let away = CloseFrame {
        code: close_code::AWAY,
        reason: "".into(),
    };
    let _ = socket.send(Message::Close(Some(away))).await;
    while let Some(Ok(_)) = socket.recv().await {}
}
