//! Trust in upstreams: the system's certificates with Mozilla's as a fallback, those of the operator, or, where he says so, none.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities, and these.
    Authorities(Vec<CertificateDer<'static>>),
    /// Anyone.
    Anyone,
}

impl Trust {
    /// What the configuration asks for. The file of a provider that checks nothing is not read.
    pub fn new(verify_ssl: bool, ca_file: Option<&Path>) -> Result<Self, String> {
        match ca_file {
            _ if !verify_ssl => Ok(Self::Anyone),
            None => Ok(Self::Authorities(vec![])),
            Some(path) => read(path).map(Self::Authorities),
        }
    }
}

/// Trust as TLS wants it, made once for all who trust alike: making it reads the system's certificates.
#[derive(Clone, Debug, Default)]
pub struct Profiles(Vec<(Trust, Arc<ClientConfig>)>);

impl Profiles {
    /// The one that this trust has, here or in the configuration of before.
    pub fn get(
        &mut self,
        trust: Trust,
        before: Option<&Self>,
    ) -> Result<Arc<ClientConfig>, String> {
        let known = |profiles: &Self| {
            let found = profiles.0.iter().find(|(known, _)| *known == trust);
            found.map(|(_, profile)| profile.clone())
        };
        if let Some(profile) = known(self) {
            return Ok(profile);
        }
        let profile = match before.and_then(known) {
            Some(profile) => profile,
            None => Arc::new(client_config(&trust)?),
        };
        self.0.push((trust, profile.clone()));
        Ok(profile)
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |what: String| format!("ca_file '{}' {what}", path.display());
    let pem = std::fs::read(path).map_err(|error| told(format!("cannot be read: {error}")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates =
        certificates.map_err(|_| told("is no PEM file of certificates".to_owned()))?;
    if certificates.is_empty() {
        return Err(told("has no certificate in it (PEM)".to_owned()));
    }
    Ok(certificates)
}

fn client_config(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the crypto provider supports the protocol versions it ships with");
    let Trust::Authorities(own) = trust else {
        tracing::warn!("verify_ssl is off: certificates of providers are not checked");
        let verifier = Arc::new(TrustAnyone { provider });
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    };
    // Bare images have no certificate bundle.
    if Verifier::new(provider.clone()).is_err() {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        roots.add_parsable_certificates(own.iter().cloned());
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let verifier = Verifier::new_with_extra_roots(own.iter().cloned(), provider)
        .map_err(|error| format!("ca_file: {error}"))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
struct TrustAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
