//! The answers to `/livez` and `/readyz` over sockets, from before the shutdown to its end.

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use lifecycle_http::{HttpServer, Limits, Probes, RequestBody};
use lifecycle_runtime::{
    GracefulShutdown, Readiness, ReadyState, Reason, Runner, ShutdownHandle, ShutdownState,
};
use support::{Body, Client};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const LAME_DUCK: Duration = Duration::from_secs(1);

#[derive(GracefulShutdown)]
#[shutdown(timeout = "25s")]
struct Server {
    #[shutdown(priority = 10, timeout = "20s")]
    http: HttpServer,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a server that answers `/livez`, `/readyz` and `/hold`. It answers `/hold` once `release` has a permit.
async fn server(readiness: &Readiness, release: &Arc<Semaphore>) -> Server {
    let (probes, release) = (Probes::new(readiness), Arc::clone(release));
    let answer = move |request: Request<RequestBody>| {
        let (probes, release) = (probes.clone(), Arc::clone(&release));
        async move {
            let answer: Response<Body> = match probes.answer(request.uri().path()) {
                Some(answer) => {
                    answer.map(|text| text.map_err(|never| match never {}).boxed_unsync())
                }
                None => {
                    release.acquire().await.unwrap().forget();
                    Response::new(
                        Full::from("held")
                            .map_err(|never| match never {})
                            .boxed_unsync(),
                    )
                }
            };
            Ok::<_, Infallible>(answer)
        }
    };
    // The time is long, so that the test can send the next probe in time on a busy machine.
    let mut limits = Limits::default();
    limits.keep_alive_after_drain = Duration::from_secs(10);
    let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
    Server {
        http: builder.limits(limits).serve_hyper(service_fn(answer)),
        state: ShutdownState::new(),
    }
}

async fn client(http: &HttpServer) -> Client<TcpStream> {
    Client::of(&http.addresses()[0]).await
}

/// Sends `/readyz` and `/livez`. Returns the response to `/readyz`, and whether the connection stays open.
async fn probed(client: &mut Client<TcpStream>) -> (String, bool) {
    client.gets("/readyz").await;
    let ready = client.hears().await;
    if ready.contains("connection: close") {
        return (ready, false);
    }
    client.gets("/livez").await;
    let live = client.hears().await;
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
    assert!(live.ends_with("\r\n\r\nlive"), "{live}");
    let goes_on = !live.contains("connection: close");
    (ready, goes_on)
}

#[tokio::test]
async fn a_server_is_live_to_its_end_and_not_ready_from_the_first_moment_of_the_lame_duck() {
    let (readiness, release) = (Readiness::new(), Arc::new(Semaphore::new(0)));
    let server = server(&readiness, &release).await;
    let mut probe = client(&server.http).await;
    let mut held = client(&server.http).await;

    let (ready, _) = probed(&mut probe).await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("starting"),
        "{ready}"
    );
    readiness.set_ready();
    let (ready, _) = probed(&mut probe).await;
    assert!(
        ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("ready"),
        "{ready}"
    );
    held.gets("/hold").await;

    let handle = ShutdownHandle::new();
    let runner = Runner::new(server)
        .handle(&handle)
        .readiness(&readiness)
        .lame_duck(LAME_DUCK);
    let probing = async {
        handle.request(Reason::Requested);
        assert_eq!(readiness.changed().await, ReadyState::Draining);
        let mut served_as_before = 0;
        loop {
            let (ready, goes_on) = probed(&mut probe).await;
            assert!(
                ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("draining"),
                "{ready}"
            );
            if !goes_on {
                break;
            }
            served_as_before += 1;
            sleep(Duration::from_millis(20)).await;
        }
        // The probe was answered as before during the lame duck, and then once more during the drain, with
        // `connection: close`.
        assert!(served_as_before > 0);
        assert!(probe.is_closed().await);
        release.add_permits(1);
        assert!(held.hears().await.ends_with("held"));
    };
    let (report, ()) = tokio::join!(runner.run_until_signal(), probing);
    assert!(report.is_clean(), "{report}");
    assert_eq!(readiness.state(), ReadyState::Stopped);
}

#[tokio::test]
async fn as_a_service_they_answer_nothing_else() {
    let readiness = Readiness::new();
    readiness.set_ready();
    let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let http = builder.serve(Probes::new(&readiness));
    let mut client = client(&http).await;
    for (request, status) in [
        ("GET /livez", 200),
        ("GET /readyz", 200),
        ("GET /", 404),
        ("POST /livez", 405),
    ] {
        let ask = format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.says(&ask).await;
        let answer = client.hears().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
}
