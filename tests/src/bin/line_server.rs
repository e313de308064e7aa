//! A TCP server whose requests are two lines each. A request begins with its first line, and the server answers it
//! after its second.

use std::io;

use lifecycle_runtime::{BoxError, GracefulShutdown, Report, ShutdownState, run};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

#[derive(GracefulShutdown)]
#[shutdown(strict)]
struct Server {
    #[shutdown(timeout = "20s")]
    requests: TaskTracker,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::main]
async fn main() -> Report {
    let server = Server {
        requests: TaskTracker::new(),
        state: ShutdownState::new(),
    };
    run(server, async |server, stop| {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (socket, _) = accepted?;
                    server.requests.spawn(async { drop(serve(socket).await) });
                }
                () = stop.cancelled() => break,
            }
        }
        drop(listener);
        println!("refusing");
        Ok::<_, BoxError>(())
    })
    .await
}

async fn serve(socket: TcpStream) -> io::Result<()> {
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    socket.read_line(&mut line).await?;
    socket.get_mut().write_all(b"begun\n").await?;
    socket.read_line(&mut line).await?;
    socket.get_mut().write_all(b"finished\n").await
}
