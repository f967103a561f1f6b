//! Compression of an answer, where the client asks for it.

use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;

/// Whether an `Accept-Encoding` header asks for gzip (RFC 9110 section 12.5.3).
pub fn is_asked_for(accept_encoding: &str) -> bool {
    let mut any = false;
    for choice in accept_encoding.split(',') {
        let mut parts = choice.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let q = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        let wanted = q.is_none_or(|q| q.trim().parse::<f64>().is_ok_and(|q| q > 0.0));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return wanted;
        }
        any |= coding == "*" && wanted;
    }
    any
}

/// The bytes, compressed quickly: names and labels repeat so much that more effort saves little.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    // A vector takes everything.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn gzip_is_sent_only_where_it_is_asked_for() {
        for (header, asked) in [
            ("gzip", true),
            ("", false),
            ("identity", false),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*", true),
            ("*;q=0, gzip", true),
            ("*, gzip;q=0", false),
            ("GZIP", true),
            ("gzip;q=x", false),
        ] {
            assert_eq!(is_asked_for(header), asked, "{header}");
        }
    }

    #[test]
    fn what_is_compressed_can_be_read() {
        let text = "fivetuple_tcp_gaps_total{point=\"outside\"} 0\n".repeat(1000);
        let bytes = compress(text.as_bytes());
        assert!(bytes.len() < text.len() / 20, "{}", bytes.len());
        let mut back = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
    }
}
