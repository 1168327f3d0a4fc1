//! TLS with an engine, or with the proxy before it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::guest::Duplex;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The system's trust store when absent.
    pub ca: Option<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    pub skip_verify: bool,
}

impl Tls {
    /// The files the docker CLI looks for, as far as they exist.
    pub(super) fn of_dir(dir: &Path, skip_verify: bool) -> Self {
        let file = |name: &str| Some(dir.join(name)).filter(|p| p.is_file());
        Self { ca: file("ca.pem"), client: file("cert.pem").zip(file("key.pem")), skip_verify }
    }
}

/// TLS with `host` at the other end of `io`. Files are read each time: certificates may be renewed while we run.
pub(super) async fn secured(host: &str, tls: &Tls, io: Box<dyn Duplex>) -> io::Result<Box<dyn Duplex>> {
    let config = Arc::new(client_config(tls).map_err(io::Error::other)?);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(config).connect(name, io).await?))
}

fn client_config(tls: &Tls) -> Result<rustls::ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    use rustls_platform_verifier::BuilderVerifierExt;

    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(no_verify::NoVerify))
    } else if let Some(ca) = &tls.ca {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(ca).map_err(|e| format!("{}: {e}", ca.display()))? {
            roots.add(cert?)?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_platform_verifier()?
    };
    let Some((cert, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

mod no_verify {
    //! For a docker context that says `SkipTLSVerify`: its author decided.
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug)]
    pub(super) struct NoVerify;

    impl ServerCertVerifier for NoVerify {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
