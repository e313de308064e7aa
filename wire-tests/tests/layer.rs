//! `ShutdownLayer` refuses requests to any tower service once its gate is closed, and counts each request until its body
//! ends.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use lifecycle_runtime::{Gate, ShutdownLayer};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

fn request(version: Version) -> Request<Body> {
    Request::get("/")
        .version(version)
        .body(Body::empty())
        .unwrap()
}

fn router(gate: &Gate) -> Router {
    let layer = ShutdownLayer::new(gate).retry_after(Duration::from_millis(2_500));
    Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(layer)
}

#[tokio::test]
async fn an_open_gate_lets_requests_through_and_counts_them_to_the_end_of_the_body() {
    let gate = Gate::new();
    let answer = router(&gate)
        .oneshot(request(Version::HTTP_11))
        .await
        .unwrap();
    assert_eq!(gate.in_flight(), 1, "its body is not read");
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert_eq!(gate.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_body_and_a_cancelled_call_are_counted_out() {
    let gate = Gate::new();
    let answer = router(&gate)
        .oneshot(request(Version::HTTP_11))
        .await
        .unwrap();
    drop(answer);
    assert_eq!(gate.in_flight(), 0);

    let mut service = ShutdownLayer::new(&gate).layer(service_fn(async |_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    }));
    let call = service
        .ready()
        .await
        .unwrap()
        .call(request(Version::HTTP_11));
    assert_eq!(gate.in_flight(), 1, "from the call on, polled or not");
    drop(call);
    assert_eq!(gate.in_flight(), 0);
}

#[tokio::test]
async fn a_closed_gate_answers_503_with_retry_after() {
    let gate = Gate::new();
    let router = router(&gate);
    gate.close();
    let answer = router
        .clone()
        .oneshot(request(Version::HTTP_11))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "3", "rounded up");
    assert_eq!(answer.headers()["connection"], "close");
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    let answer = router.oneshot(request(Version::HTTP_2)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        !answer.headers().contains_key("connection"),
        "forbidden over h2"
    );
}

#[tokio::test]
async fn grpc_gets_the_status_unavailable() {
    let gate = Gate::new();
    gate.close();
    let (_, health) = tonic_health::server::health_reporter();
    let service = ServiceBuilder::new()
        .layer(ShutdownLayer::new(&gate))
        .service(health);
    let mut client = tonic_health::pb::health_client::HealthClient::new(service);
    let refused = client
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(refused.message(), "shutting down");
}

#[tokio::test]
async fn a_refusal_does_not_need_the_service_to_be_ready() {
    let gate = Gate::new();
    struct Busy;
    impl Service<Request<Body>> for Busy {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it is not ready")
        }
    }
    let mut service = ShutdownLayer::new(&gate).layer(Busy);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending());
    gate.close();
    assert!(service.poll_ready(&mut cx).is_ready());
    let answer = service.call(request(Version::HTTP_11)).await.unwrap();
    assert_eq!(
        answer.into_response().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
}
