//! `rumqttc`: a client of an MQTT broker, and the task that polls its event loop.
//!
//! - **Cleanup**: `AsyncClient::disconnect`, which only enqueues, and poll on: the task ends when the event loop has sent it.
//! - **Lost without it**: messages that were published but not sent; and the broker publishes the client's last will.
//! - **Repeated**: while the event loop is there; once it is gone `disconnect` is an error.
//! - **Waits for**: the task, which sends what is queued first.
//! - **Order**: after all that publishes; the client before its task, which else never ends.

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

/// Polls until the goodbye is sent. Reconnecting is the event loop's own doing, when it is polled on after an error.
async fn poll(mut events: EventLoop) {
    while !matches!(
        events.poll().await,
        Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)
    ) {}
}

/// A connected server that has published something that is not sent yet.
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

/// What is published on `log` while `during` runs and until `last`, which the observer publishes if it is [`MARKER`].
fn published(port: u16, during: impl FnOnce(), last: &str) -> Vec<String> {
    in_a_process(async {
        let (observer, mut events) = client(port, "observer");
        let mut texts = Vec::new();
        subscribe(&observer, &mut events, &mut texts).await;
        during();
        if last == MARKER {
            // The broker reads one packet of a client in each of its rounds: it shall have read them all.
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

/// On a thread of its own, as a runtime cannot be entered from another.
fn elsewhere(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn what_was_published_is_sent_and_no_will_is_read() {
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
fn dropped_alone_it_is_lost_and_the_will_is_read() {
    let broker = RealServer::mosquitto();
    let port = broker.port;
    let end = || elsewhere(|| in_a_process(async { drop(server(port).await) }));
    assert_eq!(published(port, end, WILL), [WILL]);
}
