//! Which connections a reader asks for.

use super::{Names, shown::Shown};
use crate::{
    api::{ConnectionFilter, EventFilter, FlowFilter},
    config::{nearest::nearest, value},
};
use agent_ebpf::{
    anomaly::{Anomaly, AnomalySet},
    wire::Addr,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// A filter whose words are understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    svc: Option<u16>,
    network: Option<IpNet>,
    port: Option<u16>,
    anomaly: Option<Anomaly>,
    /// Who may not see an address may not find it out by asking, either.
    shown: Shown,
}

impl Filter {
    /// Understand a filter of flows, or say what can be asked instead.
    pub fn of_flows(asked: &FlowFilter, names: &Names) -> Result<Self, String> {
        Self::new(names, asked.svc.as_deref(), asked.address.as_deref(), asked.port, asked.anomaly.as_deref())
    }

    /// Understand a filter of events, or say what can be asked instead.
    pub fn of_events(asked: &EventFilter, names: &Names) -> Result<Self, String> {
        Self::new(names, asked.svc.as_deref(), asked.address.as_deref(), asked.port, asked.anomaly.as_deref())
    }

    /// Understand a filter of connections, or say what can be asked instead.
    pub fn of_connections(asked: &ConnectionFilter, names: &Names) -> Result<Self, String> {
        Self::new(names, asked.svc.as_deref(), asked.address.as_deref(), asked.port, None)
    }

    fn new(
        names: &Names,
        svc: Option<&str>,
        address: Option<&str>,
        port: Option<u16>,
        anomaly: Option<&str>,
    ) -> Result<Self, String> {
        let svc = svc.map(|name| match names.services.iter().position(|s| s == name) {
            Some(number) => Ok(number as u16),
            None => Err(unknown("svc", name, names.services.iter().map(String::as_str))),
        });
        let anomaly = anomaly.map(|name| {
            let known = Anomaly::ALL.iter().find(|a| a.name() == name).copied();
            known.ok_or_else(|| unknown("anomaly", name, Anomaly::ALL.iter().map(|a| a.name())))
        });
        let network = address.map(|text| value::prefix(text).map_err(|e| format!("address: {e}")));
        let (svc, network, anomaly) = (svc.transpose()?, network.transpose()?, anomaly.transpose()?);
        Ok(Self { svc, network, port, anomaly, shown: names.shown })
    }

    /// Whether a connection is asked for, by its ends, its service and its anomalies.
    pub fn matches(&self, ends: &[(Addr, u16); 2], svc: u16, anomalies: AnomalySet) -> bool {
        self.svc.is_none_or(|asked| asked == svc)
            && self
                .network
                .is_none_or(|net| ends.iter().any(|(addr, _)| net.contains(&self.shown.address(ip(*addr)))))
            && self.port.is_none_or(|port| ends.iter().any(|(_, p)| *p == port))
            && self.anomaly.is_none_or(|anomaly| anomalies.has(anomaly))
    }
}

/// An address as people write it.
pub fn ip(addr: Addr) -> IpAddr {
    Ipv6Addr::from(addr.octets()).to_canonical()
}

/// Says that there is no such thing, and what there is.
pub fn unknown<'a>(key: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = nearest(name, known.clone()).map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("{key}: there is no {name:?}{hint} (there are: {})", known.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            points: vec!["outside".into()],
            services: vec!["other".into(), "card".into()],
            ..Names::default()
        }
    }

    fn filter(asked: FlowFilter) -> Filter {
        Filter::of_flows(&asked, &names()).unwrap()
    }

    const ENDS: [(Addr, u16); 2] = [(Addr::v4([192, 0, 2, 1]), 40_000), (Addr::v4([198, 51, 100, 7]), 443)];

    #[test]
    fn each_word_narrows() {
        let set = AnomalySet(1 << Anomaly::Reset as u32);
        let matches = |asked| filter(asked).matches(&ENDS, 1, set);
        assert!(matches(FlowFilter::default()));
        for (asked, want) in [
            (FlowFilter { svc: Some("card".into()), ..FlowFilter::default() }, true),
            (FlowFilter { svc: Some("other".into()), ..FlowFilter::default() }, false),
            (FlowFilter { address: Some("198.51.100.0/24".into()), ..FlowFilter::default() }, true),
            (FlowFilter { address: Some("192.0.2.1".into()), ..FlowFilter::default() }, true),
            (FlowFilter { address: Some("192.0.2.2".into()), ..FlowFilter::default() }, false),
            (FlowFilter { address: Some("::/0".into()), ..FlowFilter::default() }, false),
            (FlowFilter { port: Some(40_000), ..FlowFilter::default() }, true),
            (FlowFilter { port: Some(80), ..FlowFilter::default() }, false),
            (FlowFilter { anomaly: Some("reset".into()), ..FlowFilter::default() }, true),
            (FlowFilter { anomaly: Some("gap".into()), ..FlowFilter::default() }, false),
        ] {
            assert_eq!(matches(asked.clone()), want, "{asked:?}");
        }
    }

    #[test]
    fn unknown_words_name_the_known_ones() {
        let refusal = |asked| Filter::of_flows(&asked, &names()).unwrap_err();
        let text = refusal(FlowFilter { svc: Some("crad".into()), ..FlowFilter::default() });
        assert_eq!(text, "svc: there is no \"crad\"; did you mean card? (there are: other, card)");
        assert!(
            refusal(FlowFilter { anomaly: Some("rst".into()), ..FlowFilter::default() }).contains("reset")
        );
        assert!(
            refusal(FlowFilter { address: Some("10.0.0.1/8".into()), ..FlowFilter::default() })
                .contains("10.0.0.0/8")
        );
    }
}
