//! Whose certificate the other end of a connection shows.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use futures_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use libp2p::{PeerId, tls::certificate};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Takes exactly one certificate that a libp2p key signed. It serves one connection, so that the certificate, whose two
/// signatures cost most of a handshake, is looked at once.
#[derive(Debug)]
pub(in crate::net) struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    shown: OnceLock<Shown>,
}

/// A certificate that was taken.
#[derive(Debug)]
struct Shown {
    peer: PeerId,
    /// What signs the handshake.
    key: SubjectPublicKeyInfoDer<'static>,
}

impl Verifier {
    pub(super) fn new(provider: &CryptoProvider) -> Arc<Self> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(Self { algorithms, shown: OnceLock::new() })
    }

    /// Who is at the other end, once its handshake is over.
    ///
    /// # Errors
    /// If no certificate was shown.
    pub(in crate::net) fn peer(&self) -> io::Result<PeerId> {
        let shown = self.shown.get().map(|shown| shown.peer);
        shown.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no certificate was shown"))
    }

    fn take(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General("more than one certificate was shown".into()));
        }
        let peer = certificate::parse(shown).map_err(refused)?.peer_id();
        let (_, parsed) = X509Certificate::from_der(shown).map_err(refused)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec());
        self.shown.set(Shown { peer, key }).map_err(|_| twice())
    }

    /// The other end has the key of what it showed.
    fn verify(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let shown = self.shown.get().ok_or(rustls::Error::NoCertificatesPresented)?;
        verify_tls13_signature_with_raw_key(message, &shown.key, signed, &self.algorithms)
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

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn twice() -> rustls::Error {
    rustls::Error::General("a certificate was shown twice".into())
}

/// TLS 1.2 is not spoken; whoever asks for a signature of it gets none.
fn not_spoken() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.take(shown, others)?;
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
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.take(shown, others)?;
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
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
