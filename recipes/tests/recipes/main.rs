//! One module for each crate: its head says how what servers hold of it is shut down, its tests prove that.

mod actors;
mod appender;
mod axum_serve;
mod bb8_pool;
mod channels;
mod embedded;
mod fred_client;
mod hyper_connections;
mod mqtt;
mod nats;
mod postgres;
mod rabbitmq;
mod real_server;
mod redis;
mod reqwest_client;
mod scheduler;
mod sled_tree;
mod sqlx_pool;
mod steps;
mod table;
mod threads;
mod tonic_server;
mod watcher;
