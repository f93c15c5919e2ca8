//! `bridge::grpc` is a true tonic transport: everything gRPC promises holds over streams to a peer, over
//! TCP, over QUIC and through a relay. Real swarms on loopback.
//!
//! In reading order: [`service`] is what is called, [`world`] where it runs; then one file per claim.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod connect_info;
mod crowd;
mod deadlines;
mod endings;
mod messages;
mod service;
mod settings;
mod shapes;
mod standard;
mod world;

/// Generated from `proto/test.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod proto {
    tonic::include_proto!("punchline.test");
}
