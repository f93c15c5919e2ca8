//! The talk with a client that wants an address tested.

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::{Multiaddr, PeerId, Stream};
use rand::RngExt as _;
use tokio::time::timeout;

use super::{Limited, Shared};
use crate::{
    addr::{ip_of, place::Place, translated::inside},
    net::{
        autonat::wire::{DATA_BYTES, DialRequest, DialResponse, MESSAGE_BYTES_MAX, Status, Words},
        delimited,
    },
};

/// For a client to say what it wants, and to send the data.
const WORDS_DEADLINE: Duration = Duration::from_secs(10);

/// Addresses of a request that are looked at.
const ADDRESSES_MAX: usize = 8;

/// Messages of data: a client that sends them a byte at a time is let go.
const DATA_MESSAGES_MAX: usize = 512;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) peer: PeerId,
    pub(super) ip: IpAddr,
}

/// Serves one request. The limit that refused it, if one did.
pub(super) async fn serve(mut io: Stream, client: Client, shared: Arc<Shared>) -> Option<Limited> {
    io.ignore_for_keep_alive();
    let answered = answer(&mut io, client, &shared).await;
    let (response, limited) = match answered.ok()? {
        Ok(response) => (response, None),
        Err(limited) => (DialResponse::none(Status::Rejected), Some(limited)),
    };
    let telling = async {
        delimited::write(&mut io, &Words::response(response)).await?;
        io.close().await
    };
    let _ = timeout(WORDS_DEADLINE, telling).await;
    limited
}

async fn answer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    client: Client,
    shared: &Shared,
) -> io::Result<Result<DialResponse, Limited>> {
    let DialRequest { addrs, nonce } =
        timeout(WORDS_DEADLINE, read(io)).await??.request.ok_or_else(broken)?;
    // Libraries of others know kinds of addresses that this one does not.
    let named = addrs.into_iter().take(ADDRESSES_MAX).map(|bytes| Multiaddr::try_from(bytes).ok());
    let Some((at, address)) = shared.target(&client, named) else {
        return Ok(Ok(DialResponse::none(Status::DialRefused)));
    };
    let place = Place::of(client.ip);
    if let Err(limited) = shared.limits().take(client.peer, place, Instant::now()) {
        return Ok(Err(limited));
    }
    if ip_of(&address).map(inside) != Some(inside(client.ip)) {
        timeout(WORDS_DEADLINE, take_data(io, at)).await??;
    }
    let under_way = match shared.begin(place) {
        Ok(under_way) => under_way,
        Err(limited) => return Ok(Err(limited)),
    };
    let status = shared.dialer.dial(client.peer, address, nonce, under_way).await;
    Ok(Ok(DialResponse::dialled(at, status)))
}

async fn take_data(io: &mut (impl AsyncRead + AsyncWrite + Unpin), at: u32) -> io::Result<()> {
    let mut left = rand::rng().random_range(DATA_BYTES);
    delimited::write(io, &Words::data_request(at, left)).await?;
    for _ in 0..DATA_MESSAGES_MAX {
        let data = read(io).await?.data.ok_or_else(broken)?.data;
        left = left.saturating_sub(data.len() as u64);
        if left == 0 {
            return Ok(());
        }
    }
    Err(broken())
}

async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Words> {
    delimited::read_up_to(io, MESSAGE_BYTES_MAX).await
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the client broke the protocol")
}
