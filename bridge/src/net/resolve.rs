//! Dials by name: what a name stands for is looked up anew for every dial, and tried until one answers. And dials of
//! IPv4 addresses that lead somewhere only through a translator ([`nat64`](super::nat64)).

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportEvent},
    },
    multiaddr::Protocol,
};

use super::{
    direct::Connections,
    guard::Permits,
    names::{NameError, Names},
    nat64::Nat64,
};
use crate::{
    addr::{GlobalScope, ip_of, scope::Scope, web::resolved},
    error::Family,
};

/// Lookups that one dial may take: a `/dnsaddr` may lead to more names.
const LOOKUPS_PER_DIAL_MAX: usize = 8;

/// Addresses that one name may stand for; further ones are left out.
const ADDRESSES_MAX: usize = 8;

/// How long an address has before the next one is tried as well (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

type Output = (PeerId, StreamMuxerBox);

/// A transport that may be given names.
pub(crate) struct Resolve {
    // A dial goes on when its name is resolved, long after it was asked for.
    inner: Arc<Mutex<Connections>>,
    names: Names,
    nat64: Nat64,
    permits: Permits,
}

/// Nothing that a name stands for answers.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(failures))]
struct Unreachable {
    failures: Vec<(Multiaddr, io::Error)>,
}

fn list(failures: &[(Multiaddr, io::Error)]) -> String {
    failures.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join(", ")
}

impl Resolve {
    /// `permits` is told what names stand for.
    pub(crate) fn new(inner: Connections, permits: Permits) -> Self {
        let names = Names::default();
        let nat64 = Nat64::new(names.clone(), permits.clone());
        Self { inner: Arc::new(Mutex::new(inner)), names, nat64, permits }
    }

    fn inner(&self) -> MutexGuard<'_, Connections> {
        lock(&self.inner)
    }
}

fn lock(inner: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for Resolve {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Connections as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let is_named = name_in(&address).is_some();
        if !is_named && !self.nat64.is_wanted(&address) {
            return self.inner().dial(address, opts);
        }
        let (inner, names, permits) = (self.inner.clone(), self.names.clone(), self.permits.clone());
        let nat64 = self.nat64.clone();
        let dial = async move {
            let mut addresses = vec![address.clone()];
            if is_named {
                addresses = resolve(&names, address.clone()).await.map_err(io::Error::other)?;
                permits.looked_up(&address, &addresses);
            }
            first_to_answer(&inner, nat64.translate(addresses).await, opts).await
        };
        Ok(dial.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner()).poll(cx)
    }
}

/// Where the first name stands in an address, and what it is.
fn name_in(address: &Multiaddr) -> Option<(usize, Protocol<'_>)> {
    let is_name = |part: &Protocol<'_>| {
        matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    };
    address.iter().enumerate().find(|(_, part)| is_name(part))
}

/// The addresses that an address with names stands for; at least one.
async fn resolve(names: &Names, address: Multiaddr) -> Result<Vec<Multiaddr>, NameError> {
    let (mut found, mut failure, mut lookups) = (Vec::new(), None, 0);
    let mut open = VecDeque::from([address.clone()]);
    while let Some(next) = open.pop_front() {
        let Some((at, name)) = name_in(&next) else {
            if is_forbidden(&next) {
                failure = Some(NameError::Forbidden { address: next });
            } else if found.len() < ADDRESSES_MAX {
                found.push(next);
            }
            continue;
        };
        if lookups == LOOKUPS_PER_DIAL_MAX {
            failure = Some(NameError::TooManyLookups { address, limit: LOOKUPS_PER_DIAL_MAX });
            break;
        }
        lookups += 1;
        match look_up(names, &next, at, &name).await {
            Ok(addresses) => open.extend(interleaved(addresses).take(ADDRESSES_MAX)),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// One of each family after the other, beginning with the one that the system put first (RFC 8305, section 4): a family
/// that keeps silent costs one head start, however many addresses it has.
fn interleaved(addresses: Vec<Multiaddr>) -> impl Iterator<Item = Multiaddr> {
    let is_v6 = |address: &Multiaddr| ip_of(address).is_some_and(|ip| ip.is_ipv6());
    let first = addresses.first().is_some_and(is_v6);
    let (mut same, mut other) = (0, 0);
    let place = |address: Multiaddr| {
        let other_family = is_v6(&address) != first;
        let count = if other_family { &mut other } else { &mut same };
        *count += 1;
        (*count, other_family, address)
    };
    let mut placed: Vec<_> = addresses.into_iter().map(place).collect();
    placed.sort_by_key(|(count, other_family, _)| (*count, *other_family));
    placed.into_iter().map(|(.., address)| address)
}

/// Whoever runs a name server must not send us where nobody else may: to a cloud's credentials, for instance.
fn is_forbidden(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| GlobalScope::default().scope(ip) == Scope::Forbidden)
}

/// `address` once for each thing that its name `part` stands for.
async fn look_up(
    names: &Names,
    address: &Multiaddr,
    at: usize,
    part: &Protocol<'_>,
) -> Result<Vec<Multiaddr>, NameError> {
    let (name, family) = match part {
        Protocol::Dns4(name) => (name, Some(Family::V4)),
        Protocol::Dns6(name) => (name, Some(Family::V6)),
        Protocol::Dnsaddr(name) => {
            let suffix: Multiaddr = address.iter().skip(at + 1).collect();
            let records = names.records(name).await?.into_iter();
            let fitting: Vec<_> = records.filter(|record| record.ends_with(&suffix)).collect();
            let none = || NameError::NoRecord { name: name.to_string() };
            return if fitting.is_empty() { Err(none()) } else { Ok(fitting) };
        }
        Protocol::Dns(name) => (name, None),
        _ => return Ok(Vec::new()),
    };
    let ips = names.addresses(name, family).await?;
    let found = |ip: IpAddr| resolved(address, ip).or_else(|| address.replace(at, |_| Some(ip.into())));
    Ok(ips.into_iter().filter_map(found).collect())
}

/// Dials one address after another, and the next one already while one keeps silent.
async fn first_to_answer(
    inner: &Mutex<Connections>,
    addresses: Vec<Multiaddr>,
    opts: DialOpts,
) -> io::Result<Output> {
    let (mut waiting, mut under_way) = (addresses.into_iter(), FuturesUnordered::new());
    let mut failures = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => match lock(inner).dial(address.clone(), opts) {
                Ok(dial) => under_way.push(dial.map(|result| result.map_err(|error| (address, error)))),
                Err(error) => {
                    failures.push((address, refused(error)));
                    continue;
                }
            },
            None if under_way.is_empty() => return Err(io::Error::other(Unreachable { failures })),
            None => {}
        }
        tokio::select! {
            Some(result) = under_way.next() => match result {
                Ok(output) => return Ok(output),
                Err(failure) => failures.push(failure),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
            else => {}
        }
    }
}

fn refused(error: TransportError<io::Error>) -> io::Error {
    match error {
        TransportError::Other(error) => error,
        TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
    }
}

#[cfg(test)]
mod tests;
