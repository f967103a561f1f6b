//! IPv6 extension headers (RFC 8200, section 4).

/// An extension header between the IPv6 header and TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options of so many 8-byte units beyond the first, all padding.
    HopByHop(u8),
    /// Destination options of so many 8-byte units beyond the first, all padding.
    Destination(u8),
    /// A routing header of type 0 with no segments left.
    Routing,
    /// A fragment header: offset in 8-byte units, whether more follow, and the identification.
    Fragment(u16, bool, u32),
    /// An authentication header of 12 bytes (RFC 4302).
    Authentication,
}

impl Extension {
    fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Destination(_) => 60,
            Self::Routing => 43,
            Self::Fragment(..) => 44,
            Self::Authentication => 51,
        }
    }

    fn body(&self, next: u8) -> Vec<u8> {
        match *self {
            Self::HopByHop(units) | Self::Destination(units) => {
                let padding = usize::from(units) * 8 + 4;
                let mut bytes = vec![next, units];
                // PadN carries at most 255 bytes; Pad1 does for any number.
                if padding <= 255 {
                    bytes.extend([1, padding as u8]);
                    bytes.resize(4 + padding, 0);
                } else {
                    bytes.resize(4 + padding, 0);
                }
                bytes
            }
            Self::Routing => vec![next, 0, 0, 0, 0, 0, 0, 0],
            Self::Fragment(offset, more, id) => {
                let place = offset << 3 | u16::from(more);
                [&[next, 0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat()
            }
            Self::Authentication => [&[next, 1, 0, 0][..], &[0; 8]].concat(),
        }
    }
}

/// The chain of headers in front of TCP, and the number that stands for the first of them.
pub(super) fn encode(extensions: &[Extension]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for (place, extension) in extensions.iter().enumerate() {
        let next = extensions.get(place + 1).map_or(6, Extension::number);
        bytes.extend(extension.body(next));
    }
    (extensions.first().map_or(6, Extension::number), bytes)
}
