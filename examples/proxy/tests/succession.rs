//! What others know of a proxy stays true when a new process takes over from it.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use support::link::Link;
use support::peer::Peer;
use support::registry::Registry;
use support::{Proxy, eventually};

#[test]
fn a_new_process_goes_on_under_the_same_name_and_nobody_hears_a_goodbye() {
    let (link, peer) = (Link::start(), Peer::start());
    let registry = Registry::start(|_| (200, ""));
    // A fixed port: both processes listen on it for a while.
    let port = Peer::start().address.port();
    let proxy = Proxy::start(&format!(
        "discovery:\n  id: edge-1\n  mdns: {{port: {}}}\n  \
         peers: {{listen: \"127.0.0.1:{port}\", tell: [{}]}}\n  consul: {{url: http://{}}}\n",
        link.port, peer.address, registry.address
    ));
    let log = proxy.log().clone();
    let registered = "PUT /v1/agent/service/register";
    registry.find(registered);
    log.find("announced by multicast DNS");
    peer.next("hello");

    proxy.signal(Signal::USR2);
    let next = log.find("handed over: a new process serves")["pid"].as_i64();
    let next = Pid::from_raw(next.unwrap().try_into().unwrap()).unwrap();
    // The first process has ended when the second is the only one that registers.
    eventually("the second registration", || {
        (registry.all(registered).len() == 2).then_some(())
    });
    eventually("the second announcement", || {
        (log.all("announced by multicast DNS").len() == 2).then_some(())
    });
    log.find("all complete");
    let deregistered = "PUT /v1/agent/service/deregister";
    assert!(registry.all(deregistered).is_empty());
    assert!(link.rest().iter().all(|said| said.ttl > 0));
    assert!(!peer.rest().iter().any(|kind| kind == "goodbye"));

    kill_process(next, Signal::TERM).unwrap();
    assert_eq!(proxy.wait().code(), 0, "{}", log.text());
    assert_eq!(registry.all(deregistered).len(), 1);
    assert!(link.rest().iter().any(|said| said.ttl == 0));
}
