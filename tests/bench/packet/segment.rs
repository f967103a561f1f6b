//! The packets: what a segment says, where its numbers stand, and how they grow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_ebpf::drive::{Add, PORTS};
use harness::impair::flags;
use harness::raw::{Frame, TcpOption};

/// Who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Whose address and port make the flows.
    Client,
    /// 192.0.2.1 or 2001:db8::1, port 443.
    Server,
}

/// Around the segment, and whose it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// In an 802.1Q tag.
    pub tagged: bool,
    /// Each case has its own clients: 10.NUMBER.0.0 and up.
    pub number: u8,
}

impl Line {
    /// The last four bytes of flow 0's client.
    pub fn address(self) -> u32 {
        u32::from_be_bytes([10, self.number, 0, 0])
    }

    /// Where the IP header begins.
    fn ip(self) -> u32 {
        if self.tagged { 18 } else { 14 }
    }

    fn tcp(self) -> u32 {
        self.ip() + if self.v6 { 40 } else { 20 }
    }

    /// Where the client's address (its last four bytes) and port stand in a packet.
    pub fn end_point_at(self, from: From) -> (u32, u32) {
        let (source, port) = (self.ip() + if self.v6 { 20 } else { 12 }, self.tcp());
        let address = if self.v6 { 16 } else { 4 };
        if from == From::Client { (source, port) } else { (source + address, port + 2) }
    }
}

/// A number that may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Sequence number.
    Seq,
    /// TSval.
    Clock,
    /// IPv4 identification.
    Id,
}

/// What a segment says.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its sender.
    pub from: From,
    /// TCP flags.
    pub flags: u8,
    /// Sequence number, from the sender's initial one.
    pub seq: u32,
    /// Acknowledgement number, from the other side's initial one.
    pub ack: u32,
    /// Payload bytes.
    pub payload: u32,
    /// TSval, if there are timestamps.
    pub clock: Option<u32>,
    /// A SACK block, from the other side's initial number.
    pub sack: Option<(u32, u32)>,
    /// IPv4 identification.
    pub id: u16,
}

impl Segment {
    /// An acknowledgement, and nothing else.
    pub const fn new(from: From) -> Self {
        Self { from, flags: flags::ACK, seq: 1, ack: 1, payload: 0, clock: None, sack: None, id: 1 }
    }

    /// The initial sequence number of a side in a connection of this age.
    fn initial(from: From, epoch: u32) -> u32 {
        let side = if from == From::Client { 1_000 } else { 0x4000_0000 };
        epoch.wrapping_mul(1_000_003).wrapping_add(side)
    }

    /// Its bytes for flow 0; connections of another `epoch` have other initial sequence numbers. `as_client`: from the
    /// client's end point, whoever sends it.
    pub fn bytes(&self, line: Line, epoch: u32, as_client: bool) -> Vec<u8> {
        let other = if self.from == From::Client { From::Server } else { From::Client };
        let (own, theirs) = (Self::initial(self.from, epoch), Self::initial(other, epoch));
        let [a, b, c, d] = line.address().to_be_bytes();
        let (client, server): (IpAddr, IpAddr) = if line.v6 {
            let low = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            let client = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, low[0], low[1]);
            (client.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
        } else {
            (Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(192, 0, 2, 1).into())
        };
        let (client, server) = ((client, PORTS as u16), (server, 443));
        let (source, destination) =
            if as_client || self.from == From::Client { (client, server) } else { (server, client) };
        let mut frame = Frame::new(source, destination)
            .flags(self.flags)
            .seq(own.wrapping_add(self.seq))
            .ack(if self.flags & flags::ACK == 0 { 0 } else { theirs.wrapping_add(self.ack) })
            .payload(vec![b'x'; self.payload as usize])
            .ip_id(self.id);
        if line.tagged {
            frame = frame.vlan(0x8100, 100);
        }
        if self.flags & flags::SYN != 0 {
            frame = frame
                .option(TcpOption::Mss(1_460))
                .option(TcpOption::SackPermitted)
                .option(TcpOption::Timestamps(self.clock.unwrap_or(1), 0))
                .option(TcpOption::Nop)
                .option(TcpOption::WindowScale(7));
        } else if let Some(clock) = self.clock {
            frame =
                frame.option(TcpOption::Nop).option(TcpOption::Nop).option(TcpOption::Timestamps(clock, 1));
        }
        if let Some((left, right)) = self.sack {
            let block = (theirs.wrapping_add(left), theirs.wrapping_add(right));
            frame = frame.option(TcpOption::Nop).option(TcpOption::Nop).option(TcpOption::Sack(vec![block]));
        }
        frame.build()
    }

    /// How the driver makes a field grow: before even repeats, and before odd ones.
    pub fn add(&self, line: Line, field: Field, by: [i32; 2]) -> Add {
        let tcp = line.tcp();
        let (at, unit) = match field {
            Field::Seq => (tcp + 4, 1),
            // Behind two no-ops, kind and length.
            Field::Clock => (tcp + 24, 1),
            // The identification is the upper half of that word.
            Field::Id => (line.ip() + 4, 1 << 16),
        };
        Add { at, by: by.map(|n| n.wrapping_mul(unit) as u32) }
    }
}

/// Lets the numbers grow as `repeats` (an even number) of the driver's would.
pub fn grow(bytes: &mut [u8], adds: &[Add], repeats: u32) {
    for Add { at, by } in adds {
        let place = *at as usize..*at as usize + 4;
        let word: [u8; 4] = bytes[place.clone()].try_into().expect("four bytes");
        let each = by[0].wrapping_add(by[1]);
        let number = u32::from_be_bytes(word).wrapping_add(each.wrapping_mul(repeats / 2));
        bytes[place].copy_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::wire;

    fn read(bytes: &[u8]) -> wire::Segment {
        let mut s = wire::Segment::blank();
        s.read(&bytes).expect("a segment");
        s
    }

    /// Every field stands where the driver is told.
    #[test]
    fn fields_are_where_they_are_said_to_be() {
        for line in [
            Line { number: 3, ..Line::default() },
            Line { tagged: true, ..Line::default() },
            Line { v6: true, ..Line::default() },
        ] {
            let segment =
                Segment { clock: Some(50), sack: Some((10, 20)), payload: 5, ..Segment::new(From::Client) };
            let mut bytes = segment.bytes(line, 0, false);
            let before = read(&bytes);
            assert_eq!((before.payload, before.vlans != 0, before.v6), (5, line.tagged, line.v6));
            let mut fields = vec![(Field::Seq, 5), (Field::Clock, 1)];
            if !line.v6 {
                fields.push((Field::Id, 1));
            }
            let adds: Vec<_> = fields.iter().map(|(f, n)| segment.add(line, *f, [*n, *n])).collect();
            grow(&mut bytes, &adds, 4);
            let after = read(&bytes);
            assert_eq!(after.seq.0, before.seq.0 + 20);
            assert_eq!(after.options.ts_val, 54);
            assert_eq!(after.options.sack, before.options.sack);
            assert_eq!(after.ip_id, before.ip_id + if line.v6 { 0 } else { 4 });
        }
    }

    #[test]
    fn the_client_is_found_on_both_ends() {
        for line in [Line { number: 9, ..Line::default() }, Line { v6: true, tagged: true, number: 9 }] {
            for from in [From::Client, From::Server] {
                let bytes = Segment::new(from).bytes(line, 0, false);
                let (address, port) = line.end_point_at(from);
                let (address, port) = (address as usize, port as usize);
                assert_eq!(bytes[address..address + 4], line.address().to_be_bytes());
                assert_eq!(bytes[port..port + 2], (PORTS as u16).to_be_bytes());
            }
        }
    }

    #[test]
    fn two_steps_take_turns() {
        let line = Line::default();
        let segment = Segment::new(From::Client);
        let mut bytes = segment.bytes(line, 0, false);
        let seq = read(&bytes).seq.0;
        grow(&mut bytes, &[segment.add(line, Field::Seq, [30, -10])], 6);
        assert_eq!(read(&bytes).seq.0, seq + 60);
    }
}
