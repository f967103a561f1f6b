//! TLS under another name than the address has: `server_name`.

use std::net::IpAddr;
use ureq::{
    Error,
    http::Uri,
    unversioned::transport::{ConnectionDetails, Connector, RustlsConnector, Transport},
};

/// Speaks TLS where the address asks for it.
#[derive(Debug)]
pub struct Named {
    tls: RustlsConnector,
    /// An address with the name that the server's certificate must have.
    name: Option<Uri>,
}

impl Named {
    /// The certificate must have this name; without it the one of the address.
    pub fn new(name: Option<&str>) -> Self {
        let uri = |name: &str| match name.parse() {
            Ok(IpAddr::V6(address)) => format!("https://[{address}]").parse().ok(),
            _ => format!("https://{name}").parse().ok(),
        };
        Self { tls: RustlsConnector::default(), name: name.and_then(uri) }
    }
}

impl<In: Transport> Connector<In> for Named {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(uri) = self.name.as_ref().filter(|_| details.needs_tls()) else {
            return self.tls.connect(details, chained);
        };
        let renamed = ConnectionDetails {
            uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.tls.connect(&renamed, chained)
    }
}
