//! From the file's words to a TLS configuration: reads the certificates, and tells what is wrong with them.

use super::{client, file::Tls};
use crate::config::{content::Content, file::Problem};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
};
use std::{path::Path, sync::Arc};

/// All files that a TLS configuration is made of.
pub fn paths(tls: &Tls) -> impl Iterator<Item = &Path> {
    [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()].into_iter().flatten().filter_map(Content::path)
}

/// Read the certificates and put it all together.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, Problem> {
    let mut provider = CryptoProvider { cipher_suites: tls.suites.clone(), ..ring::default_provider() };
    if !tls.curves.is_empty() {
        provider.kx_groups = tls.curves.clone();
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&tls.versions)
        .map_err(|e| tls.cert.problem(format!("no handshake is possible: {e}")))?;
    let authorities = match &tls.client_ca {
        Some(pem) => pem.certificates()?,
        None if tls.client_auth.verifies() => rustls_native_certs::load_native_certs().certs,
        None => Vec::new(),
    };
    let builder = match client::verifier(tls, authorities, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(tls.cert.certificates()?, tls.key.private_key()?)
        .map_err(|e| tls.key.problem(format!("the key cannot be used with the certificate: {e}")))?;
    config.ignore_client_order = tls.server_order;
    config.alpn_protocols = if tls.http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}
