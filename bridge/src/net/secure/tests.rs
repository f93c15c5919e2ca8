#![allow(clippy::unwrap_used)]
use std::{pin::pin, sync::Arc};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use futures_rustls::{TlsAcceptor, rustls::CipherSuite};
use libp2p::{Multiaddr, core::Endpoint, tls as stock};
use tokio::{io::DuplexStream, time::timeout};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;
use crate::net::{agree::agree, transports::CONNECT_DEADLINE};

type Io = Compat<DuplexStream>;

fn pipe() -> (Io, Io) {
    let (near, far) = tokio::io::duplex(1 << 20);
    (near.compat(), far.compat())
}

/// The two roles, ours first.
const ROLES: [(Endpoint, Endpoint); 2] =
    [(Endpoint::Dialer, Endpoint::Listener), (Endpoint::Listener, Endpoint::Dialer)];

/// An identity that secures, and its id.
fn one() -> (Secure, PeerId) {
    let keypair = Keypair::generate_ed25519();
    (Secure::new(&keypair).unwrap(), keypair.public().to_peer_id())
}

fn is_tls<C>(secured: &Secured<C>) -> bool {
    matches!(secured, Either::Left(_))
}

#[tokio::test]
async fn two_ends_of_ours_take_tls_learn_who_the_other_is_and_exchange_bytes() {
    let ((near, near_id), (far, far_id)) = (one(), one());
    let (a, b) = pipe();
    let dialled = agree(a, near.connection(Proposal::Tls), Endpoint::Dialer);
    let accepted = agree(b, far.connection(Proposal::Any), Endpoint::Listener);
    let (dialled, accepted) = join(dialled, accepted).await;
    let ((there, mut a), (here, mut b)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((there, here), (far_id, near_id));
    assert!(is_tls(&a) && is_tls(&b));
    let sent = vec![7; 300_000];
    let (written, read) = join(
        async {
            a.write_all(&sent).await?;
            a.close().await
        },
        async {
            let mut read = Vec::new();
            b.read_to_end(&mut read).await.map(|_| read)
        },
    )
    .await;
    written.unwrap();
    assert_eq!(read.unwrap(), sent);
}

#[tokio::test]
async fn who_has_instructions_for_aes_uses_them() {
    let ((near, _), (far, far_id)) = (one(), one());
    let (a, b) = pipe();
    let theirs = TlsAcceptor::from(far.tls.server().unwrap().0).accept(b);
    let (dialled, theirs) = join(near.tls.connect(ReadAhead::new(a)), theirs).await;
    assert_eq!(dialled.unwrap().0, far_id);
    let suite = theirs.unwrap().get_ref().1.negotiated_cipher_suite().unwrap().suite();
    let wanted = match tls::has_aes() {
        true => CipherSuite::TLS13_AES_128_GCM_SHA256,
        false => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    };
    assert_eq!(suite, wanted);
}

#[tokio::test]
async fn a_peer_that_knows_noise_alone_is_spoken_with_in_noise_in_both_roles_and_asked_first_from_then_on()
 {
    for (ours, theirs) in ROLES {
        let (secure, id) = one();
        let keypair = Keypair::generate_ed25519();
        let (noise, noise_id) = (noise::Config::new(&keypair).unwrap(), keypair.public().to_peer_id());
        let (a, b) = pipe();
        let secured = agree(a, secure.connection(Proposal::Any), ours);
        let stock = agree(b, noise, theirs);
        let (secured, stock) = join(secured, stock).await;
        let (peer, secured) = secured.unwrap();
        assert_eq!((peer, stock.unwrap().0), (noise_id, id));
        assert!(!is_tls(&secured));
        // A hole punch has no time for a second dial.
        let address = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}").parse().unwrap();
        assert_eq!(secure.proposal(&address), Proposal::Any);
    }
}

#[tokio::test]
async fn stock_tls_is_understood_in_both_roles_whatever_is_proposed() {
    let (secure, id) = one();
    let keypair = Keypair::generate_ed25519();
    let (stock, stock_id) = (stock::Config::new(&keypair).unwrap(), keypair.public().to_peer_id());
    for (proposal, (ours, theirs)) in
        [Proposal::Tls, Proposal::Any].into_iter().zip(ROLES).chain([(Proposal::Any, ROLES[0])])
    {
        let (a, b) = pipe();
        let secured = agree(a, secure.connection(proposal), ours);
        let stock = agree(b, stock.clone(), theirs);
        let (secured, stock) = join(secured, stock).await;
        let (peer, secured) = secured.unwrap();
        assert_eq!((peer, stock.unwrap().0), (stock_id, id));
        assert!(is_tls(&secured));
    }
}

#[tokio::test]
async fn who_answers_a_first_message_of_tls_with_something_else_is_asked_first_until_it_speaks_tls() {
    let (secure, _) = one();
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let address: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}").parse().unwrap();
    assert_eq!(secure.proposal(&address), Proposal::Tls);
    let (a, b) = pipe();
    let noise = noise::Config::new(&keypair).unwrap();
    let secured = agree(a, secure.connection(Proposal::Tls), Endpoint::Dialer);
    let stock = agree(b, noise, Endpoint::Listener);
    let (secured, stock) = join(secured, stock).await;
    assert!(stock.is_err());
    assert!(secure.has_to_ask(&address, Proposal::Tls, &secured.err().unwrap()));
    assert_eq!(secure.proposal(&address), Proposal::Any);

    let (a, b) = pipe();
    let stock = agree(b, stock::Config::new(&keypair).unwrap(), Endpoint::Listener);
    let secured = agree(a, secure.connection(Proposal::Any), Endpoint::Dialer);
    join(secured, stock).await.0.unwrap();
    assert_eq!(secure.proposal(&address), Proposal::Tls);
}

#[test]
fn who_hangs_up_is_not_dialled_again_at_once_but_asked_first_the_next_time() {
    let (secure, peer) = one();
    let address: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}").parse().unwrap();
    let hung_up = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
    assert!(!secure.has_to_ask(&address, Proposal::Tls, &hung_up));
    assert_eq!(secure.proposal(&address), Proposal::Any);
}

#[test]
fn who_is_not_named_is_asked_first() {
    let (secure, _) = one();
    assert_eq!(secure.proposal(&"/ip4/192.0.2.1/tcp/1".parse().unwrap()), Proposal::Any);
}

#[test]
fn a_refusal_that_was_said_in_tls_is_no_reason_to_dial_again() {
    let (secure, peer) = one();
    let address: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}").parse().unwrap();
    let refusal = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
    let refusal = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, refusal));
    assert!(!secure.has_to_ask(&address, Proposal::Tls, &refusal));
    assert_eq!(secure.proposal(&address), Proposal::Tls);
}

#[tokio::test]
async fn who_shows_no_certificate_of_libp2p_is_refused_in_both_roles() {
    use futures_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider,
            pki_types::PrivatePkcs8KeyDer, version::TLS13,
        },
    };
    let provider = Arc::new(default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let (secure, _) = one();
    let (a, b) = pipe();
    let theirs = TlsAcceptor::from(Arc::new(server)).accept(b);
    let (ours, _) = join(secure.tls.connect(ReadAhead::new(a)), theirs).await;
    assert!(ours.is_err());

    // It shows nothing at all, and would take anything.
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_protocol_versions(&[&TLS13]).unwrap();
    let client = client.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let (a, b) = pipe();
    let name = "localhost".try_into().unwrap();
    let theirs = TlsConnector::from(Arc::new(client)).connect(name, b);
    let (ours, _) = join(secure.tls.accept(ReadAhead::new(a)), theirs).await;
    assert!(ours.is_err());
}

/// Passes on what an end says, with one byte of it changed.
async fn passes_on(from: impl AsyncRead, to: impl AsyncWrite, changed: Option<usize>) {
    let (mut from, mut to) = (pin!(from), pin!(to));
    let (mut bytes, mut passed) = ([0; 1 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if let Some(byte) = changed.and_then(|at| bytes[..count].get_mut(at.wrapping_sub(passed))) {
            *byte ^= 0xff;
        }
        passed += count;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_of_which_one_byte_is_changed_on_its_way_fails_without_a_panic() {
    let ((near, _), (far, _)) = (one(), one());
    // Either end says more.
    for changed in (0..1_700).step_by(29) {
        for by_client in [true, false] {
            let ((a, a_far), (b, b_far)) = (pipe(), pipe());
            let ((up_from, down_to), (down_from, up_to)) = (a_far.split(), b_far.split());
            let up = passes_on(up_from, up_to, by_client.then_some(changed));
            let down = passes_on(down_from, down_to, (!by_client).then_some(changed));
            let (connects, accepts) =
                (near.tls.connect(ReadAhead::new(a)), far.tls.accept(ReadAhead::new(b)));
            // Whoever fails hangs up. Where a length was changed, both wait.
            let connects = timeout(CONNECT_DEADLINE, async { connects.await.is_ok() });
            let accepts = timeout(CONNECT_DEADLINE, async { accepts.await.is_ok() });
            let ((connected, accepted), ..) = join(join(connects, accepts), join(up, down)).await;
            assert!(!accepted.unwrap_or(false), "byte {changed}, by the client: {by_client}");
            assert!(by_client || !connected.unwrap_or(false), "byte {changed}");
        }
    }
}
