//! TLS around WebSockets: which certificate a relay shows, and that whoever dials takes any.

use std::{fmt, sync::Arc};

use futures_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName, UnixTime,
            pem::{self, PemObject as _},
        },
    },
};

/// What is spoken within: a firewall may ask.
const ALPN: &[u8] = b"http/1.1";

/// A certificate chain with its private key, to listen on `/tls/ws` with.
#[derive(Clone)]
pub struct Certificate(Arc<ServerConfig>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No certificate can be read.
    #[error("there is no certificate in PEM ({cause})")]
    NoCertificate {
        /// What is wrong.
        cause: String,
    },
    /// No key can be read.
    #[error("there is no private key in PEM ({cause})")]
    NoKey {
        /// What is wrong.
        cause: String,
    },
    /// They do not fit each other, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used together: {cause}")]
    Unusable {
        /// What is wrong.
        cause: String,
    },
}

impl Certificate {
    /// Reads both as PEM: the chain begins with the relay's own certificate.
    ///
    /// # Errors
    /// If one of them is missing or they do not fit.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let no_certificate =
            |cause: pem::Error| CertificateError::NoCertificate { cause: cause.to_string() };
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|cause| CertificateError::NoKey { cause: cause.to_string() })?;
        let unusable = |cause: rustls::Error| CertificateError::Unusable { cause: cause.to_string() };
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0).into()
    }
}

/// Nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// The provider that libp2p uses for QUIC.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Dials with TLS, whatever certificate is shown.
pub(crate) fn connector() -> TlsConnector {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("this provider can do the default versions, TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())));
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config).into()
}

/// Takes every certificate: what runs within proves who is there.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
