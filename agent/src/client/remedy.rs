//! What to do when a request fails for TLS or a password.

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use std::io::ErrorKind;
use ureq::{Error, http::StatusCode};

/// What to write, where it is known.
pub fn of(error: &Error, url: &str) -> Option<&'static str> {
    let tls = match error {
        Error::Rustls(e) => Some(e),
        Error::Io(e) => e.get_ref().and_then(|e| e.downcast_ref()),
        _ => None,
    };
    match tls {
        Some(TlsError::InvalidCertificate(e)) => of_certificate(e),
        Some(TlsError::AlertReceived(alert)) => of_alert(*alert),
        Some(TlsError::InvalidMessage(_)) => Some("it does not speak TLS: write http:// before its address"),
        Some(_) => None,
        None => in_clear(error, url).then_some("if it speaks TLS, write https:// before its address"),
    }
}

/// The certificate that a server may want of us.
const SHOW: &str = "show a certificate that it accepts: tls_config: {cert_file: ..., key_file: ...}";

/// Whether an answer is about our certificate, and not about what was asked: nginx judges that only after the handshake,
/// and says so in a page with this status.
pub fn is_about_certificate(status: StatusCode, said: &str) -> bool {
    status == StatusCode::BAD_REQUEST && said.contains("SSL certificate")
}

/// The same, of an answer.
pub fn of_answer(status: StatusCode, said: &str) -> Option<&'static str> {
    if is_about_certificate(status, said) {
        return Some(SHOW);
    }
    (status == StatusCode::UNAUTHORIZED)
        .then_some("it asks for a name and a password: write basic_auth: {username: ..., password_file: ...}")
}

fn of_certificate(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::UnknownIssuer => {
            Some("name the certificate of the authority that signed it: tls_config: {ca_file: ...}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("ask by a name of its certificate, or write that name: tls_config: {server_name: ...}")
        }
        _ => None,
    }
}

fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
    )
    .then_some(SHOW)
}

/// Whether somebody was there and said nothing of HTTP to a question in clear.
fn in_clear(error: &Error, url: &str) -> bool {
    let broken = match error {
        Error::Protocol(_) => true,
        Error::Io(e) => matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
        _ => false,
    };
    broken && url.starts_with("http://")
}
