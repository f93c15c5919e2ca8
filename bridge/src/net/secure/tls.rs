//! TLS 1.3 as libp2p speaks it (`/tls/1.0.0`): each end shows one certificate, which it signed itself, and which holds its
//! libp2p key and that key's signature over the certificate's. See
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>.
//!
//! libp2p's own upgrade proposes ChaCha20-Poly1305 first; where the CPU has instructions for AES, AES-GCM takes a third of
//! the time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::{
    TlsAcceptor, TlsConnector, TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
        ServerConfig, SignatureScheme, SupportedCipherSuite,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{
            CryptoProvider,
            aws_lc_rs::{
                self,
                cipher_suite::{
                    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
                },
            },
        },
        pki_types::{CertificateDer, ServerName, UnixTime},
        server::danger::{ClientCertVerified, ClientCertVerifier},
        sign::{CertifiedKey, SingleCertAndKey},
        version::TLS13,
    },
};
use libp2p::{PeerId, identity::Keypair, tls::certificate};

/// What a TLS 1.3 connection of libp2p calls itself within TLS.
const ALPN: &[u8] = b"libp2p";

pub(crate) type Stream<C> = TlsStream<C>;

/// Both roles, as one identity.
#[derive(Clone)]
pub(super) struct Tls {
    server: TlsAcceptor,
    client: TlsConnector,
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
        let verifier = Arc::new(OneCertificate);
        // rustls would look into the certificate otherwise, and not know libp2p's extension.
        let shown = CertifiedKey::new(vec![certificate], provider.key_provider.load_private_key(key)?);
        let shown = Arc::new(SingleCertAndKey::from(shown));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(shown.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A client that has AES proposes it first; without it here, ChaCha20 is the better choice for both.
        server.ignore_client_order = !has_aes();
        // Nobody comes back with one: each connection proves anew who is there.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(shown);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server).into(), client: Arc::new(client).into() })
    }

    pub(super) async fn accept<C>(&self, socket: C) -> io::Result<(PeerId, Stream<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.server.accept(socket).await?;
        identified(stream.into())
    }

    pub(super) async fn connect<C>(&self, socket: C) -> io::Result<(PeerId, Stream<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        // The specification has no name of a server be sent; for an address, none is.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
        let stream = self.client.connect(nobody, socket).await?;
        identified(stream.into())
    }
}

/// Whose certificate was shown.
fn identified<C>(stream: Stream<C>) -> io::Result<(PeerId, Stream<C>)> {
    let (_, session) = stream.get_ref();
    let Some([certificate]) = session.peer_certificates() else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not one certificate was shown"));
    };
    let certificate = certificate::parse(certificate)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let peer = certificate.peer_id();
    Ok((peer, stream))
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
    let cipher_suites: Vec<SupportedCipherSuite> = cipher_suites;
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

/// Takes whoever shows exactly one certificate that a libp2p key signed; who that is, is looked at afterwards.
#[derive(Debug)]
struct OneCertificate;

impl OneCertificate {
    fn verify(shown: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General("more than one certificate was shown".into()));
        }
        certificate::parse(shown).map(drop).map_err(refused)
    }

    fn verify_signature(
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = certificate::parse(shown).map_err(refused)?;
        certificate
            .verify_signature(signed.scheme, message, signed.signature())
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// In the order of preference. RSA is last: no peer should have it.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

fn refused(error: certificate::ParseError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// TLS 1.2 is not spoken; whoever asks for a signature of it gets none.
fn not_spoken() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken".into())
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::verify(shown, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_spoken())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for OneCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::verify(shown, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_spoken())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
