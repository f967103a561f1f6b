//! From the file's words to a TLS configuration: reads the certificates, and tells what is wrong with them.

use super::{
    client,
    file::{Pem, PemSource, Tls},
    stamp::Stamp,
};
use crate::config::file::Problem;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{fs, io::Read as _, path::Path, sync::Arc};

/// A file of certificates has kilobytes; a large one was named by mistake.
const MOST_BYTES: u64 = 4 << 20;

/// Stamps of all files that a TLS configuration is made of; none where one cannot be looked at.
pub fn stamps(tls: &Tls) -> Option<Vec<Stamp>> {
    paths(tls).map(|path| Stamp::of(path).ok()).collect()
}

/// Whether all files are still what they were.
pub fn hold(stamps: &[Stamp], tls: &Tls) -> bool {
    stamps.iter().zip(paths(tls)).all(|(stamp, path)| stamp.holds(path))
}

fn paths(tls: &Tls) -> impl Iterator<Item = &Path> {
    [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()].into_iter().flatten().filter_map(|pem| {
        match &pem.source {
            PemSource::File(path) => Some(path.as_path()),
            PemSource::Inline(_) => None,
        }
    })
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
        Some(pem) => certificates(pem)?,
        None if tls.client_auth.verifies() => rustls_native_certs::load_native_certs().certs,
        None => Vec::new(),
    };
    let builder = match client::verifier(tls, authorities, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&tls.cert)?;
    let key = text(&tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| tls.key.problem("holds no private key in PEM (one that is encrypted cannot be used)"))?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| tls.key.problem(format!("the key cannot be used with the certificate: {e}")))?;
    config.ignore_client_order = tls.server_order;
    config.alpn_protocols = if tls.http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = text(pem)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| pem.problem(format!("is not in PEM: {e}")))?;
    if all.is_empty() {
        return Err(pem.problem("holds no certificate in PEM"));
    }
    Ok(all)
}

fn text(pem: &Pem) -> Result<Vec<u8>, Problem> {
    let path = match &pem.source {
        PemSource::Inline(text) => return Ok(text.clone().into_bytes()),
        PemSource::File(path) => path,
    };
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| pem.problem(format!("cannot read {}: {e}", path.display())))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(pem.problem(format!("{} has more than {MOST_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}
