//! Functions that clean up the types of other crates, for the keys `with = …` and `abort = …` of `#[shutdown]`.
//!
//! Each module needs the feature that is named after its crate (`nats` needs `async-nats`), except [`thread`], which
//! needs none. This crate implements no trait,
//! so turning a feature on changes no other code. Every function may be called again after it has ended. The future of
//! an `async` function may be dropped before it has ended.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "async-nats")]
pub mod nats;
#[cfg(any(feature = "bb8", feature = "deadpool-postgres", feature = "sqlx"))]
mod poll;
#[cfg(feature = "redis")]
pub mod redis;
pub mod thread;

/// Cleans up pools of `bb8`, with any connection manager.
#[cfg(feature = "bb8")]
pub mod bb8 {
    use bb8::{ManageConnection, Pool};

    /// Waits until tasks have returned all connections of a pool.
    ///
    /// The pool stays open, since bb8 has no call to close it. Tasks can still take connections. Dropping the last
    /// clone of the pool closes the connections in it.
    pub async fn settle<M: ManageConnection>(pool: &mut Pool<M>) {
        let returned = || {
            let state = pool.state();
            state.connections == state.idle_connections
        };
        crate::poll::until(returned).await;
    }
}

/// Cleans up pools of `deadpool-postgres`.
#[cfg(feature = "deadpool-postgres")]
pub mod deadpool_postgres {
    use deadpool_postgres::Pool;

    /// Closes a pool, and waits until tasks have returned all its connections and each is closed.
    ///
    /// `Pool::close` alone does not wait for connections that tasks still hold.
    pub async fn close(pool: &mut Pool) {
        pool.close();
        crate::poll::until(|| pool.status().size == 0).await;
    }
}

/// Closes connections of `lapin` to RabbitMQ.
#[cfg(feature = "lapin")]
pub mod lapin {
    use lapin::{Connection, Error};

    /// Closes a connection with all its channels, and waits until the broker has confirmed the close.
    ///
    /// Does nothing if the connection is not open.
    ///
    /// # Errors
    /// An error if the connection broke before the broker confirmed the close.
    pub async fn close(connection: &mut Connection) -> Result<(), Error> {
        if !connection.status().connected() {
            return Ok(());
        }
        connection.close(200, "OK".into()).await
    }
}

/// Closes pools of `sqlx`, for any database.
#[cfg(feature = "sqlx")]
pub mod sqlx {
    use sqlx::{Database, Pool};

    /// Closes a pool, and waits until tasks have returned all its connections and each is closed.
    pub async fn close<DB: Database>(pool: &mut Pool<DB>) {
        pool.close().await;
        // A connection that was being opened during the close may have joined the pool after the close.
        crate::poll::until(|| pool.size() == 0).await;
    }
}
