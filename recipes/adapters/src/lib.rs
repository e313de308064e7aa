//! Cleanups of other crates' types, as plain functions for `#[shutdown(with = …)]` and `abort = …`.
//!
//! Each module needs the feature of its name ([`thread`] needs none). Nothing here implements a trait, so turning a feature on
//! changes no other code. All functions may be called again, and those that are `async` may be dropped half-way.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "async-nats")]
pub mod nats;
#[cfg(any(feature = "bb8", feature = "deadpool-postgres", feature = "sqlx"))]
mod poll;
#[cfg(feature = "redis")]
pub mod redis;
pub mod thread;

/// Pools of `bb8`, for any manager.
#[cfg(feature = "bb8")]
pub mod bb8 {
    use bb8::{ManageConnection, Pool};

    /// Waits until all connections of a pool have been returned.
    ///
    /// The pool is not closed, since bb8 has no call for that: tasks can still take connections, and dropping the last clone of
    /// the pool closes those in it.
    pub async fn settle<M: ManageConnection>(pool: &mut Pool<M>) {
        let returned = || {
            let state = pool.state();
            state.connections == state.idle_connections
        };
        crate::poll::until(returned).await;
    }
}

/// Pools of `deadpool-postgres`.
#[cfg(feature = "deadpool-postgres")]
pub mod deadpool_postgres {
    use deadpool_postgres::Pool;

    /// Closes a pool and waits until all its connections have been returned and closed.
    ///
    /// `Pool::close` alone waits for no connection.
    pub async fn close(pool: &mut Pool) {
        pool.close();
        crate::poll::until(|| pool.status().size == 0).await;
    }
}

/// Connections of `lapin` to RabbitMQ.
#[cfg(feature = "lapin")]
pub mod lapin {
    use lapin::{Connection, Error};

    /// Closes a connection with all its channels, and waits until the broker has confirmed that.
    ///
    /// Does nothing if the connection is not open.
    ///
    /// # Errors
    /// The connection broke before the broker confirmed.
    pub async fn close(connection: &mut Connection) -> Result<(), Error> {
        if !connection.status().connected() {
            return Ok(());
        }
        connection.close(200, "OK".into()).await
    }
}

/// Pools of `sqlx`, for any database.
#[cfg(feature = "sqlx")]
pub mod sqlx {
    use sqlx::{Database, Pool};

    /// Closes a pool and waits until all its connections have been returned and closed.
    pub async fn close<DB: Database>(pool: &mut Pool<DB>) {
        pool.close().await;
        // A connection that was being opened during the close may have joined the pool after it.
        crate::poll::until(|| pool.size() == 0).await;
    }
}
