//! TLS on the listening port: a pair of certificate and key that can be exchanged while connections live.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// The pair in force. Handshakes take what is there; connections keep what they began with.
#[derive(Clone)]
pub struct Certificates(Arc<Pair>);

struct Pair(ArcSwap<CertifiedKey>);

/// Why a pair cannot be used. Says nothing of the key.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(String);

/// Whether a certificate's days matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// One whose days are over, or have not come, is refused: there is a better one in force.
    Checked,
    /// It is better than none.
    Unchecked,
}

impl Certificates {
    /// A pair from its files.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, Unusable> {
        let pair = read(cert, key, Dates::Unchecked)?;
        Ok(Self(Arc::new(Pair(ArcSwap::from_pointee(pair)))))
    }

    /// Reads the files again. Whether there was something new; what cannot be used changes nothing.
    pub fn renew(&self, cert: &Path, key: &Path) -> Result<bool, Unusable> {
        let pair = read(cert, key, Dates::Checked)?;
        let is_new = pair.cert != self.0.0.load().cert;
        self.0.0.store(Arc::new(pair));
        Ok(is_new)
    }

    /// What is wrong with the days of the pair in force.
    pub fn complaint(&self) -> Option<Unusable> {
        check_dates(&self.0.0.load()).err()
    }

    /// What makes TLS of accepted connections.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read(cert: &Path, key: &Path, dates: Dates) -> Result<CertifiedKey, Unusable> {
    let (cert_name, key_name) = (cert.display(), key.display());
    let unusable = |text: String| Unusable(text);
    // A PEM error may quote what it met: only what is said here is said.
    let chain: Vec<CertificateDer<'static>> = text(cert)
        .and_then(|text| {
            CertificateDer::pem_slice_iter(&text)
                .collect::<Result<_, _>>()
                .map_err(|_| "is no PEM file of certificates".to_owned())
        })
        .map_err(|why| unusable(format!("{cert_name} {why}")))?;
    if chain.is_empty() {
        return Err(unusable(format!("{cert_name} holds no certificate")));
    }
    let key = text(key)
        .and_then(|text| {
            PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
                "holds no private key that can be read (PEM, not encrypted)".to_owned()
            })
        })
        .map_err(|why| unusable(format!("{key_name} {why}")))?;
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        unusable(match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("the key in {key_name} is not that of the certificate in {cert_name}")
            }
            rustls::Error::InvalidCertificate(_) => {
                format!("the certificate in {cert_name} cannot be read")
            }
            _ => format!("the pair {cert_name} and {key_name} cannot be used"),
        })
    })?;
    if dates == Dates::Checked {
        check_dates(&pair).map_err(|Unusable(why)| unusable(format!("{cert_name}: {why}")))?;
    }
    Ok(pair)
}

fn text(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

/// Whether the certificate's days are these. A client's check tells, of which nothing else is of interest here: who signed it is
/// between clients and them.
fn check_dates(pair: &CertifiedKey) -> Result<(), Unusable> {
    let Some((leaf, rest)) = pair.cert.split_first() else {
        return Ok(());
    };
    let mut roots = RootCertStore::empty();
    if roots.add(leaf.clone()).is_err() {
        return Ok(());
    }
    let Ok(verifier) =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
    else {
        return Ok(());
    };
    let Ok(anyone) = ServerName::try_from("localhost") else {
        return Ok(());
    };
    let verdict = verifier.verify_server_cert(leaf, rest, &anyone, &[], UnixTime::now());
    let Err(rustls::Error::InvalidCertificate(error)) = verdict else {
        return Ok(());
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Err(Unusable("the certificate has expired".to_owned()))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Err(Unusable("the certificate is not valid yet".to_owned()))
        }
        _ => Ok(()),
    }
}
