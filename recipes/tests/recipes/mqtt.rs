//! `rumqttc`: a client of an MQTT broker, and the task that polls its event loop.
//!
//! - **Cleanup**: `AsyncClient::disconnect`, which only enqueues the packet. Go on polling: the task ends when the event loop has sent it.
//! - **Lost without it**: messages that were published but not sent. The broker also publishes the client's last will.
//! - **Repeated**: yes, while the event loop runs. After that, `disconnect` is an error.
//! - **Waits for**: the task, which first sends what is queued.
//! - **Order**: after everything that publishes. The client comes before its task, which would otherwise never end.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS};
use tokio::task::JoinHandle;

use crate::real_server::RealServer;
use crate::steps::{assert_clean, in_a_process};

const WILL: &str = "the server died";
const MARKER: &str = "all is read";

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "1s", with = |mqtt| mqtt.disconnect())]
    mqtt: AsyncClient,
    #[shutdown(priority = 1, timeout = "5s")]
    events: JoinHandle<()>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn client(port: u16, name: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(name, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(60));
    if name == "server" {
        options.set_last_will(LastWill::new("log", WILL, QoS::AtMostOnce, false));
    }
    AsyncClient::new(options, 100)
}

/// Polls the client's event loop until the DISCONNECT packet is sent, or until an error. A poll after an error would
/// connect again.
async fn poll(mut events: EventLoop) {
    while !matches!(
        events.poll().await,
        Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)
    ) {}
}

/// Connects a server to the broker. The server has published a message that its event loop has not sent yet.
async fn server(port: u16) -> Server {
    let (mqtt, mut events) = client(port, "server");
    while !matches!(
        events.poll().await.unwrap(),
        Event::Incoming(Packet::ConnAck(_))
    ) {}
    mqtt.publish("log", QoS::AtMostOnce, false, "an order")
        .await
        .unwrap();
    Server {
        mqtt,
        events: tokio::spawn(poll(events)),
        state: ShutdownState::new(),
    }
}

/// Runs `during`, and returns the messages that come on the topic `log` up to the message `last`. If `last` is
/// [`MARKER`], this function publishes it after `during`.
fn published(port: u16, during: impl FnOnce(), last: &str) -> Vec<String> {
    in_a_process(async {
        let (observer, mut events) = client(port, "observer");
        let mut texts = Vec::new();
        subscribe(&observer, &mut events, &mut texts).await;
        during();
        if last == MARKER {
            // The broker reads one packet of each client in turn. Ten requests of the observer give it the time to read
            // all packets of the server.
            for _ in 0..10 {
                subscribe(&observer, &mut events, &mut texts).await;
            }
            let marker = observer.publish("log", QoS::AtMostOnce, false, MARKER);
            marker.await.unwrap();
        }
        while texts.last().is_none_or(|text| text != last) {
            note(&events.poll().await.unwrap(), &mut texts);
        }
        texts
    })
}

async fn subscribe(observer: &AsyncClient, events: &mut EventLoop, texts: &mut Vec<String>) {
    observer.subscribe("log", QoS::AtMostOnce).await.unwrap();
    loop {
        let event = events.poll().await.unwrap();
        note(&event, texts);
        if matches!(event, Event::Incoming(Packet::SubAck(_))) {
            break;
        }
    }
}

fn note(event: &Event, texts: &mut Vec<String>) {
    if let Event::Incoming(Packet::Publish(message)) = event {
        texts.push(String::from_utf8_lossy(&message.payload).into_owned());
    }
}

/// Runs `work` on another thread, since a runtime cannot be entered from within a runtime.
fn elsewhere(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn published_messages_are_sent_and_the_broker_publishes_no_will() {
    let broker = RealServer::mosquitto();
    let port = broker.port;
    let stop = || {
        elsewhere(|| {
            in_a_process(async { assert_clean(&server(port).await.shutdown().await) });
        });
    };
    assert_eq!(published(port, stop, MARKER), ["an order", MARKER]);
}

#[test]
fn a_drop_alone_loses_the_message_and_the_broker_publishes_the_will() {
    let broker = RealServer::mosquitto();
    let port = broker.port;
    let end = || elsewhere(|| in_a_process(async { drop(server(port).await) }));
    assert_eq!(published(port, end, WILL), [WILL]);
}
