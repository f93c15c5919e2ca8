//! TLS 1.3 as libp2p speaks it (`/tls/1.0.0`): each end shows one certificate, which it signed itself, and which holds its
//! libp2p key and that key's signature over the certificate's. See
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>.
//!
//! libp2p's own upgrade proposes ChaCha20-Poly1305 first; where the CPU has instructions for AES, AES-GCM takes a third of
//! the time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Once},
    thread,
};

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::{
    self, ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            self,
            cipher_suite::{
                TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
            },
        },
    },
    pki_types::ServerName,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use libp2p::{PeerId, identity::Keypair, tls::certificate};

use super::{handshake, records::Records, verifier::Verifier};
use crate::net::lent::ReadAhead;

/// What a TLS 1.3 connection of libp2p calls itself within TLS.
const ALPN: &[u8] = b"libp2p";

/// Both roles, as one identity.
#[derive(Clone)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    shown: Arc<SingleCertAndKey>,
}

/// Why an identity cannot be shown by TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] certificate::GenError),
    #[error("TLS cannot be configured: {0}")]
    Config(#[from] rustls::Error),
}

impl Tls {
    pub(super) fn new(keypair: &Keypair) -> Result<Self, TlsError> {
        let (certificate, key) = certificate::generate(keypair)?;
        let provider = Arc::new(provider(has_aes()));
        // rustls would look into the certificate otherwise, and not know libp2p's extension.
        let shown = CertifiedKey::new(vec![certificate], provider.key_provider.load_private_key(key)?);
        warm_up(&provider);
        let tls = Self { provider, shown: Arc::new(SingleCertAndKey::from(shown)) };
        // What is wrong with a configuration is said at the start, not with each connection.
        tls.server()?;
        tls.client()?;
        Ok(tls)
    }

    /// For one connection, as the certificate that is shown there is remembered in the verifier.
    pub(super) fn server(&self) -> Result<(Arc<ServerConfig>, Arc<Verifier>), rustls::Error> {
        let verifier = Verifier::new(&self.provider);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A client that has AES proposes it first; without it here, ChaCha20 is the better choice for both.
        config.ignore_client_order = !has_aes();
        // Records are ours.
        config.enable_secret_extraction = true;
        // Nobody comes back with a ticket: each connection proves anew who is there.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok((Arc::new(config), verifier))
    }

    /// Likewise.
    pub(super) fn client(&self) -> Result<(Arc<ClientConfig>, Arc<Verifier>), rustls::Error> {
        let verifier = Verifier::new(&self.provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_secret_extraction = true;
        config.resumption = Resumption::disabled();
        Ok((Arc::new(config), verifier))
    }

    pub(super) async fn accept<C>(&self, socket: ReadAhead<C>) -> io::Result<(PeerId, Records<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (server, verifier) = self.server().map_err(io::Error::other)?;
        let records = handshake::accept(server, socket).await?;
        Ok((verifier.peer()?, records))
    }

    pub(super) async fn connect<C>(&self, socket: ReadAhead<C>) -> io::Result<(PeerId, Records<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (client, verifier) = self.client().map_err(io::Error::other)?;
        // The specification has no name of a server be sent; for an address, none is.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
        let records = handshake::connect(client, nobody, socket).await?;
        Ok((verifier.peer()?, records))
    }
}

/// The library measures the timing of the CPU for its random numbers when it is first asked for one, for 45 to 160 ms: once
/// in a process, and here beside whatever else a start takes, not in the first handshake.
fn warm_up(provider: &CryptoProvider) {
    static WARMED: Once = Once::new();
    let random = provider.secure_random;
    WARMED.call_once(|| {
        let asks = move || drop(random.fill(&mut [0]));
        if let Err(error) = thread::Builder::new().name("warm-up".to_owned()).spawn(asks) {
            tracing::debug!(%error, "the first connection waits for random numbers");
        }
    });
}

/// Whether the CPU has instructions for AES.
pub(super) fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

fn provider(aes_first: bool) -> CryptoProvider {
    let cipher_suites = if aes_first {
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
    } else {
        vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384]
    };
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}
