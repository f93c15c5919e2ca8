//! Has the firewall of a router let everybody in at a port of ours, over IPv6.
//!
//! A router opens for nobody but the address that asks, and hosts know it by a link-local address. The system sends to
//! such a one from a link-local address of ours, so the socket is bound to the address that is to be reached: crab_nat
//! has no way to say so.

use std::net::{SocketAddr, SocketAddrV6};

use tokio::{net::UdpSocket, time::timeout};

use super::{
    pcp::{Answer, MESSAGE_MAX, Map},
    router::{Failed, Granted, LEASE_SECONDS, PATIENCE},
};

/// A port at which a router lets everybody in.
#[derive(Debug)]
pub(super) struct Pinhole {
    map: Map,
    router: SocketAddrV6,
}

impl Pinhole {
    /// Asks for one.
    pub(super) async fn ask(map: Map, router: SocketAddrV6) -> Result<(Self, Granted), Failed> {
        let pinhole = Self { map, router };
        let granted = pinhole.renew().await?;
        Ok((pinhole, granted))
    }

    /// Asks for more time.
    pub(super) async fn renew(&self) -> Result<Granted, Failed> {
        let Answer { lasts, external, .. } = self.exchange(LEASE_SECONDS).await?;
        // Nobody is led from another address to our port: this router only opens.
        match external == SocketAddrV6::new(self.map.ours, self.map.port, 0, 0) {
            true => Ok(Granted { external: external.into(), lasts }),
            false => Err(Failed::Elsewhere(external)),
        }
    }

    /// Has it closed.
    pub(super) async fn release(self) -> Result<(), Failed> {
        match self.exchange(0).await {
            // miniupnpd 2.3.1 forgets at a renewal whose the pinhole is, and then only cuts its time short.
            Err(Failed::Refused(_)) => self.exchange(SHORT_SECONDS).await.map(drop),
            closed => closed.map(drop),
        }
    }

    async fn exchange(&self, seconds: u32) -> Result<Answer, Failed> {
        let socket = UdpSocket::bind(SocketAddrV6::new(self.map.ours, 0, 0, 0)).await?;
        socket.connect(SocketAddr::from(self.router)).await?;
        let (request, mut wait) = (self.map.request(seconds), PATIENCE.initial_timeout);
        for _ in 0..=PATIENCE.max_retries {
            socket.send(&request).await?;
            if let Ok(answered) = timeout(wait, self.answer(&socket)).await {
                return answered;
            }
            wait *= 2;
        }
        Err(Failed::Silent)
    }

    /// The first answer; whatever else comes does not count.
    async fn answer(&self, socket: &UdpSocket) -> Result<Answer, Failed> {
        let mut datagram = [0; MESSAGE_MAX];
        loop {
            let length = socket.recv(&mut datagram).await?;
            match self.map.answer(&datagram[..length]) {
                Some(answer) if answer.result == 0 => return Ok(answer),
                Some(Answer { result, .. }) => return Err(Failed::Refused(result)),
                None => {}
            }
        }
    }
}

/// The time that a pinhole gets which is not wanted any more. Routers have a least one, of minutes.
const SHORT_SECONDS: u32 = 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::Ipv6Addr, time::Duration};

    use super::*;

    const NOT_AUTHORIZED: u8 = 2;

    fn map() -> Map {
        Map { ours: Ipv6Addr::LOCALHOST, port: 4001, protocol: 6, nonce: *b"0123456789ab" }
    }

    /// What a router answers to a request: the same with its result and time.
    fn answer(request: &[u8], result: u8, seconds: u32) -> Vec<u8> {
        let mut answer = request.to_vec();
        (answer[1], answer[3]) = (answer[1] | 0x80, result);
        answer[4..8].copy_from_slice(&seconds.to_be_bytes());
        answer
    }

    fn seconds(request: &[u8]) -> u32 {
        u32::from_be_bytes(request[4..8].try_into().unwrap())
    }

    /// A router that answers each request with the datagrams that `answers` names; returns where it is and how often it
    /// was asked.
    async fn router(
        answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> (SocketAddrV6, tokio::sync::watch::Receiver<u32>) {
        let socket = UdpSocket::bind("[::1]:0").await.unwrap();
        let SocketAddr::V6(at) = socket.local_addr().unwrap() else { panic!("IPv6") };
        let (tell, asked) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            let mut request = [0; MESSAGE_MAX];
            while let Ok((length, from)) = socket.recv_from(&mut request).await {
                tell.send_modify(|asked| *asked += 1);
                for answer in answers(&request[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        (at, asked)
    }

    #[tokio::test]
    async fn a_router_opens_for_as_long_as_it_says_and_closes() {
        let (at, _) = router(|request| {
            let granted = seconds(request).min(120);
            vec![answer(request, 0, granted)]
        })
        .await;
        let (pinhole, granted) = Pinhole::ask(map(), at).await.unwrap();
        assert_eq!(granted.external, "[::1]:4001".parse().unwrap());
        assert_eq!(granted.lasts, Duration::from_secs(120));
        pinhole.release().await.unwrap();
    }

    #[tokio::test]
    async fn what_answers_nothing_that_was_asked_does_not_count() {
        let (at, _) = router(|request| {
            let mut other = answer(request, NOT_AUTHORIZED, 0);
            other[24] ^= 1;
            vec![other, vec![0; 8], vec![0; MESSAGE_MAX + 1], answer(request, 0, 120)]
        })
        .await;
        Pinhole::ask(map(), at).await.unwrap();
    }

    #[tokio::test]
    async fn a_router_that_lets_in_elsewhere_or_refuses_opens_nothing() {
        let (at, _) = router(|request| {
            let mut answer = answer(request, 0, 120);
            answer[59] ^= 4;
            vec![answer]
        })
        .await;
        assert!(matches!(Pinhole::ask(map(), at).await, Err(Failed::Elsewhere(_))));
        let (at, _) = router(|request| vec![answer(request, NOT_AUTHORIZED, 1800)]).await;
        assert!(matches!(Pinhole::ask(map(), at).await, Err(Failed::Refused(NOT_AUTHORIZED))));
    }

    #[tokio::test]
    async fn a_silent_router_is_sent_two_packets() {
        let (at, asked) = router(|_| Vec::new()).await;
        assert!(matches!(Pinhole::ask(map(), at).await, Err(Failed::Silent)));
        assert_eq!(*asked.borrow(), 2);
    }

    #[tokio::test]
    async fn where_a_pinhole_cannot_be_closed_its_time_is_cut_short() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (at, _) = router(move |request| {
            tell.send(seconds(request)).unwrap();
            let result = if seconds(request) == 0 { NOT_AUTHORIZED } else { 0 };
            vec![answer(request, result, 120)]
        })
        .await;
        let (pinhole, _) = Pinhole::ask(map(), at).await.unwrap();
        pinhole.release().await.unwrap();
        let mut said = Vec::new();
        told.recv_many(&mut said, 9).await;
        assert_eq!(said, [LEASE_SECONDS, 0, SHORT_SECONDS]);
    }
}
