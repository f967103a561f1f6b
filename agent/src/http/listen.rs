//! Addresses to listen on, in the forms that Prometheus's own programs take.

use anyhow::{Context as _, Result, anyhow};
use std::{fmt, io, net::SocketAddr, str::FromStr};
use tokio::net::TcpListener;

/// `127.0.0.1:10435`, `[::1]:10435`, `localhost:10435`, or `:10435` for every address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || {
            format!("{text:?} is not an address to listen on; write 127.0.0.1:10435, [::1]:10435 or :10435")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(refusal)?;
        let port = port.parse().map_err(|_| refusal())?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        // A colon outside brackets is an IPv6 address whose last group would be taken for the port.
        if !host.is_empty() && !bracketed && (host.contains([':', '[', ']', '/', ' '])) {
            return Err(refusal());
        }
        if bracketed && text.parse::<SocketAddr>().is_err() {
            return Err(refusal());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl ListenAddress {
    /// Listen there. `:port` means both families where the host has IPv6, and IPv4 where it has not.
    pub async fn bind(&self) -> Result<TcpListener> {
        let tried = if self.host.is_empty() {
            match TcpListener::bind(("::", self.port)).await {
                Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(("0.0.0.0", self.port)).await
                }
                done => done,
            }
        } else {
            TcpListener::bind(self.to_string()).await
        };
        tried.map_err(|e| self.explain(&e)).context("cannot serve")
    }

    fn explain(&self, error: &io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!(
                "{self} is in use by another program, or by an agent that still runs; stop it (`ss -ltnp 'sport = :{}'` names it) or choose another --web.listen-address",
                self.port
            ),
            io::ErrorKind::AddrNotAvailable => {
                anyhow!(
                    "{self} is not an address of this host; choose one of its own with --web.listen-address"
                )
            }
            io::ErrorKind::PermissionDenied => anyhow!(
                "this user may not listen on {self}; choose a port of 1024 or above with --web.listen-address"
            ),
            _ => anyhow!("cannot listen on {self}: {error}; choose another --web.listen-address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_s_forms_are_taken() {
        for text in [":9100", "[::1]:9100", "127.0.0.1:10435", "localhost:0", "[::]:9100"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_right_ones() {
        for text in
            ["", "9100", "127.0.0.1", "::1:9100", "[::1]", "[::g]:1", "host:70000", "http://host:1", "[]:1"]
        {
            assert!(text.parse::<ListenAddress>().unwrap_err().contains(":10435"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_a_sentence_with_a_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: ListenAddress = taken.local_addr().unwrap().to_string().parse().unwrap();
        let text = format!("{:#}", address.bind().await.unwrap_err());
        assert!(text.contains(&address.to_string()) && text.contains("is in use"), "{text}");
        assert!(text.contains("--web.listen-address"), "{text}");
    }

    #[tokio::test]
    async fn an_empty_host_is_every_address() {
        let listener = ":0".parse::<ListenAddress>().unwrap().bind().await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_unspecified());
    }
}
