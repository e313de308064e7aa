//! A tower layer that refuses requests while the server drains, for servers other than `lifecycle-http`'s.

mod body;
mod future;
mod layer;
mod service;

pub use body::ShutdownBody;
pub use future::ShutdownFuture;
pub use layer::ShutdownLayer;
pub use service::ShutdownService;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Future as _, Ready, ready};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use http::{Request, Response, Version};
    use http_body::{Body, Frame};
    use tower_layer::Layer;
    use tower_service::Service;

    use super::{ShutdownBody, ShutdownLayer};
    use crate::Gate;

    /// A body of one frame of data.
    struct One(Option<&'static [u8]>);

    impl Body for One {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<&'static [u8]>, Infallible>>> {
            Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
        }
    }

    struct Hello;

    impl Service<Request<()>> for Hello {
        type Response = Response<One>;
        type Error = Infallible;
        type Future = Ready<Result<Response<One>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Ok(Response::new(One(Some(b"hello")))))
        }
    }

    fn answer(gate: &Gate) -> Response<ShutdownBody<One>> {
        answer_over(Version::HTTP_11, gate)
    }

    fn answer_over(version: Version, gate: &Gate) -> Response<ShutdownBody<One>> {
        let mut service = ShutdownLayer::new(gate).layer(Hello);
        let mut request = Request::new(());
        *request.version_mut() = version;
        let call = pin!(service.call(request));
        match call.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(answer)) => answer,
            Poll::Pending => unreachable!("the service is ready at once"),
        }
    }

    /// Returns whether the body yielded a frame.
    fn frame(body: &mut ShutdownBody<One>) -> bool {
        let polled = pin!(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Some(Ok(_))))
    }

    #[test]
    fn a_pass_is_held_until_the_body_ends() {
        let gate = Gate::new();
        let mut body = answer(&gate).into_body();
        assert_eq!(gate.in_flight(), 1);
        assert!(frame(&mut body));
        assert_eq!(gate.in_flight(), 1, "trailers may follow");
        assert!(!frame(&mut body));
        assert_eq!(gate.in_flight(), 0);
        drop(answer(&gate));
        assert_eq!(gate.in_flight(), 0, "or until it is dropped");
    }

    #[test]
    fn once_the_gate_is_closed_the_answer_is_503() {
        let gate = Gate::new();
        gate.close();
        let refused = answer(&gate);
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(refused.headers()["connection"], "close");
        assert!(!frame(&mut refused.into_body()));
    }
    #[cfg(feature = "tower-h2")]
    #[test]
    fn over_h2_the_body_of_a_refusal_asks_for_a_reset() {
        let gate = Gate::new();
        gate.close();
        let mut body = answer_over(Version::HTTP_2, &gate).into_body();
        assert!(!body.is_end_stream(), "or nobody would ask for its frames");
        assert_eq!(body.size_hint().exact(), None);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Err(error))) = pin!(&mut body).poll_frame(&mut cx) else {
            panic!("it does not fail");
        };
        let reason = error
            .downcast_ref::<h2::Error>()
            .and_then(h2::Error::reason);
        assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM));
        assert!(body.is_end_stream(), "once");
    }
}
