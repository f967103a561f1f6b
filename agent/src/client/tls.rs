//! From the settings to ureq's TLS: reads the certificates, and tells what is wrong with them.

use super::settings::Settings;
use crate::config::file::Problem;
use rustls::{RootCertStore, crypto::ring, pki_types::CertificateDer, sign::CertifiedKey};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// How TLS is spoken.
pub fn config(settings: &Settings) -> Result<TlsConfig, Problem> {
    let authorities = match &settings.ca {
        None => rustls_native_certs::load_native_certs().certs,
        Some(ca) => {
            let listed = ca.certificates()?;
            let mut roots = RootCertStore::empty();
            for authority in &listed {
                let added = roots.add(authority.clone());
                added.map_err(|e| ca.problem(format!("a certificate cannot be an authority: {e}")))?;
            }
            listed
        }
    };
    let authorities: Vec<_> = authorities.iter().map(owned).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(identity(settings)?)
        .disable_verification(settings.insecure_skip_verify)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn identity(settings: &Settings) -> Result<Option<ClientCert>, Problem> {
    let Some((cert, key)) = &settings.identity else { return Ok(None) };
    let chain = cert.certificates()?;
    CertifiedKey::from_der(chain.clone(), key.private_key()?, &ring::default_provider())
        .map_err(|e| key.problem(format!("the key cannot be used with the certificate: {e}")))?;
    let secret =
        PrivateKey::from_pem(&key.read()?).map_err(|e| key.problem(format!("is not in PEM: {e}")))?;
    let chain: Vec<_> = chain.iter().map(owned).collect();
    Ok(Some(ClientCert::new_with_certs(&chain, secret)))
}

fn owned(certificate: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}
