//! Values as an operator writes them: durations, sizes, ports, networks, names.
//! Each refusal says what was wrong and what to write instead.

use ipnet::IpNet;
use std::{net::IpAddr, ops::RangeInclusive, time::Duration};
use ureq::http::Uri;

/// `60s`, `1m 30s`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(format!("{text} has no unit; write {text}s for seconds, or ms, m, h"));
    }
    let value = humantime::parse_duration(text)
        .map_err(|e| format!("{text:?} is not a duration ({e}); write for example 60s, 500ms or 5m"))?;
    if value.is_zero() {
        Err(format!("{text} is no time at all; write a duration above 0"))
    } else {
        Ok(value)
    }
}

/// Bytes: `4MiB`, `512KiB`, `4194304`. Only binary units, as memory comes in them.
pub fn bytes(text: &str) -> Result<u64, String> {
    let refusal = || format!("{text:?} is not a size; write for example 4MiB, 512KiB or 4194304 (bytes)");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refusal())?;
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(refusal()),
    };
    number.checked_mul(1 << shift).ok_or_else(refusal)
}

/// `443` or `8000-8010`, both ends included.
pub fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |part: &str| match part.trim().parse::<u16>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{text:?} is not a port; write 1 to 65535, or a range like \"8000-8010\"")),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("{text} is empty: its first port is above its last; write {last}-{first}"));
    }
    Ok(first..=last)
}

/// A network in CIDR, or one address.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is not a network; write for example 192.0.2.0/24 or 2001:db8::/32"))?;
    if net.addr() != net.network() {
        return Err(format!("{text} has bits set behind its prefix length; write {}", net.trunc()));
    }
    Ok(net)
}

/// The address of an HTTP receiver, and the host and port in it as a name.
pub fn url(text: &str) -> Result<(String, String), String> {
    let refusal = |why: &str| format!("{text:?} {why}; write for example http://127.0.0.1:9093");
    let uri: Uri = text.parse().map_err(|_| refusal("is not an address"))?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(refusal("does not begin with http:// or https://")),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refusal("names no host"))?;
    let port = uri.port_u16().unwrap_or(port);
    Ok((text.to_owned(), format!("{}:{port}", host.trim_matches(['[', ']']))))
}

/// A name that is safe as a Prometheus label value and in a URL: 1 to 63 of `A-Z a-z 0-9 _ . : @ + -`.
pub fn name(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"_.:@+-".contains(&b);
    if text.is_empty() || text.len() > 63 || !text.bytes().all(ok) {
        return Err(format!("{text:?} cannot be a name; use 1 to 63 of A-Z a-z 0-9 _ . : @ + -"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_length() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("60").unwrap_err().contains("write 60s"));
        assert!(duration("0s").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("512 KiB"), Ok(512 << 10));
        assert_eq!(bytes("4096"), Ok(4096));
        for bad in ["4MB", "", "MiB", "-1", "1.5MiB", "99999999999999999999", "18446744073709551615KiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_single_or_ranges() {
        assert_eq!(ports("443"), Ok(443..=443));
        assert_eq!(ports("8000-8010"), Ok(8000..=8010));
        for bad in ["0", "65536", "http", "10-", "-10", "20-10"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert!(ports("20-10").unwrap_err().contains("write 10-20"));
    }

    #[test]
    fn a_network_with_host_bits_is_refused_with_the_one_meant() {
        assert_eq!(prefix("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(prefix("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert!(prefix("192.0.2.7/24").unwrap_err().contains("write 192.0.2.0/24"));
        assert!(prefix("192.0.2.0/33").is_err());
    }

    #[test]
    fn receivers_are_named_by_their_place() {
        let name = |text: &str| url(text).map(|(_, name)| name);
        assert_eq!(name("http://am.example.net:9093/alerts").unwrap(), "am.example.net:9093");
        assert_eq!(name("http://[::1]").unwrap(), "::1:80");
        assert_eq!(name("https://pager/hook").unwrap(), "pager:443");
        for (bad, part) in [
            ("am:9093", "http://"),
            ("ftp://am", "does not begin with http://"),
            ("http://", "\"http://\""),
            ("http://a b", "is not an address"),
        ] {
            assert!(name(bad).unwrap_err().contains(part), "{bad}: {:?}", name(bad));
        }
    }

    #[test]
    fn names_are_label_safe() {
        for good in ["outside", "eth0.100", "br-lan", "veth@if3"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a/b", "dmz\n", &"x".repeat(64)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
