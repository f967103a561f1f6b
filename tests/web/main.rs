//! The web interface, asked by strangers: curl, openssl's client, and a real Prometheus. What they say is the truth here;
//! the agent is the program that a user gets.

mod activation;
mod client;
mod exposition;
mod folder;
mod prometheus;
mod refused;
mod tls;
