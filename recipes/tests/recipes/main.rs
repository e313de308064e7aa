//! Recipes: each module here is about one crate or a few. The head of a module tells how the crate's types are shut
//! down, and its tests prove that.

mod actix_server;
mod actors;
mod apalis_workers;
mod appender;
mod axum_serve;
mod bb8_pool;
mod channels;
mod diesel_pool;
mod embedded;
mod fred_client;
mod hyper_connections;
mod kafka;
mod mqtt;
mod nats;
mod object_upload;
mod postgres;
mod quinn_endpoint;
mod rabbitmq;
mod real_server;
mod redis;
mod reqwest_client;
mod scheduler;
mod sentry_client;
mod sled_tree;
mod sqlx_pool;
mod sqs;
mod steps;
mod table;
mod tantivy_index;
mod threads;
mod tonic_server;
mod warp_server;
mod watcher;
