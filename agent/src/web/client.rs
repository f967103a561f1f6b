//! Clients' certificates: whether one is asked for, whether it is verified, and whose it must be.

use super::file::{ClientAuth, Tls};
use crate::config::file::Problem;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{fmt, net::IpAddr, sync::Arc};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
};

/// Judges clients' certificates as Go's server does.
#[derive(Debug)]
struct Clients {
    /// Whether a client without a certificate is turned away.
    mandatory: bool,
    /// Who verifies; nobody where certificates are only asked for, or no authority is known.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Whether a certificate must be valid.
    verifies: bool,
    /// Authorities. A client's own certificate may stand among them.
    trusted: Vec<CertificateDer<'static>>,
    /// Names of which one must be the client's; empty for any.
    sans: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Who judges clients, where certificates are asked for.
pub fn verifier(
    tls: &Tls,
    authorities: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Problem> {
    if tls.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        // Of the host's own some may be odd; those of the file were looked at.
        if let (Err(e), Some(pem)) = (roots.add(authority.clone()), &tls.client_ca) {
            return Err(pem.problem(format!("a certificate cannot be an authority: {e}")));
        }
    }
    let chain = if tls.client_auth.verifies() && !roots.is_empty() {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let built = builder.build();
        Some(built.map_err(|e| tls.cert.problem(format!("clients cannot be verified: {e}")))?)
    } else {
        None
    };
    // A client without a certificate has no name at all.
    let named = !tls.sans.is_empty();
    let mandatory = named || matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    Ok(Some(Arc::new(Clients {
        mandatory,
        chain,
        verifies: tls.client_auth.verifies(),
        trusted: authorities,
        sans: tls.sans.iter().map(|san| canonical(san)).collect(),
        algorithms: provider.signature_verification_algorithms,
    })))
}

/// Addresses are compared as addresses.
fn canonical(san: &str) -> String {
    san.parse::<IpAddr>().map_or_else(|_| san.to_owned(), |address| address.to_string())
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.chain {
            _ if !self.verifies => {}
            _ if self.trusted.contains(end_entity) => in_time(&parsed(end_entity)?, now)?,
            Some(chain) => {
                chain.verify_client_cert(end_entity, intermediates, now)?;
            }
            None => return Err(CertificateError::UnknownIssuer.into()),
        }
        if !self.sans.is_empty() {
            let names = names(&parsed(end_entity)?);
            if !names.iter().any(|name| self.sans.contains(name)) {
                return Err(CertificateError::Other(OtherError(Arc::new(NotAllowed(names)))).into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A client's certificate has none of the allowed names.
#[derive(Debug)]
struct NotAllowed(Vec<String>);

impl std::error::Error for NotAllowed {}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of the client's names ({}) is among client_allowed_sans", self.0.join(", "))
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(parsed.1)
}

fn in_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    match now {
        Some(now) if certificate.validity().is_valid_at(now) => Ok(()),
        _ => Err(CertificateError::Expired.into()),
    }
}

/// Its subject alternative names: DNS, mail, IP and URI.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok()
            .map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
