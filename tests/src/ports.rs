//! Ports for programs that must be told theirs beforehand.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// How many this process may ask for before the first is given out again.
const PORTS: u16 = 40;

/// One of `ip` that is free at present, and another one each time. It is below those that the system gives out by itself: of
/// those, another program may get the same one before it is listened on.
///
/// # Errors
/// What the system answers to the last one tried: that it is in use, or that `ip` is not of this host.
pub fn free_port(ip: impl Into<IpAddr>) -> io::Result<SocketAddr> {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let ip = ip.into();
    let mine = (std::process::id() % 500) as u16;
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..PORTS {
        let port = 10_000 + mine * PORTS + ASKED.fetch_add(1, Ordering::Relaxed) % PORTS;
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}
