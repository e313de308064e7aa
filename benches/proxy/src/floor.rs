//! The least that a proxy on hyper costs: a client's connection has an upstream's connection of its own, and nothing is
//! validated, limited, counted or tracked. It shows how near hyper's own code is to the goals.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HeaderValue, VIA};
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{Result, bare};

/// Serves for ever.
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let workers = bare::workers()?;
    for worker in workers.handles().iter().cycle() {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stream = bare::onto(worker, stream)?;
        // A connection that fails is no error of the measurement.
        worker.spawn(async move {
            let _ = connection(stream, peer, upstream).await;
        });
    }
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let to = TcpStream::connect(upstream).await?;
    to.set_nodelay(true)?;
    let (sender, outgoing) = http1::handshake(TokioIo::new(to)).await?;
    let sender = Mutex::new(sender);
    let peer = HeaderValue::from_str(&peer.ip().to_string())?;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.headers_mut().remove(CONNECTION);
        request
            .headers_mut()
            .insert("x-forwarded-for", peer.clone());
        let via = HeaderValue::from_static("1.1 floor");
        request.headers_mut().insert(VIA, via);
        let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        let response = sender.send_request(request);
        async move {
            let mut response = response.await?;
            response.headers_mut().remove(CONNECTION);
            Ok::<_, hyper::Error>(response)
        }
    });
    let incoming =
        server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = incoming => {}
        _ = outgoing => {}
    }
    Ok(())
}
