//! TCP options (RFC 9293 3.2, RFC 7323, RFC 2018), written as given: also ones that no sender would make.

/// One option of a TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// End of the list.
    End,
    /// A byte of padding.
    Nop,
    /// The largest segment.
    Mss(u16),
    /// The window scale.
    WindowScale(u8),
    /// SACK is understood.
    SackPermitted,
    /// What arrived beyond a hole; a first block below the acknowledgment is a D-SACK.
    Sack(Vec<(u32, u32)>),
    /// Timestamp: value and echo.
    Timestamps(u32, u32),
    /// Any bytes at all, kind and length included.
    Bytes(Vec<u8>),
}

/// All options, filled up with zeros to a multiple of four.
pub(super) fn encode(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        match option {
            TcpOption::End => bytes.push(0),
            TcpOption::Nop => bytes.push(1),
            TcpOption::Mss(mss) => {
                bytes.extend([2, 4]);
                bytes.extend(mss.to_be_bytes());
            }
            TcpOption::WindowScale(scale) => bytes.extend([3, 3, *scale]),
            TcpOption::SackPermitted => bytes.extend([4, 2]),
            TcpOption::Sack(blocks) => {
                bytes.extend([5, (2 + 8 * blocks.len()) as u8]);
                for (left, right) in blocks {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
            }
            TcpOption::Timestamps(value, echo) => {
                bytes.extend([8, 10]);
                bytes.extend(value.to_be_bytes());
                bytes.extend(echo.to_be_bytes());
            }
            TcpOption::Bytes(raw) => bytes.extend(raw),
        }
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    assert!(bytes.len() <= 40, "a TCP header holds 40 bytes of options, these are {}", bytes.len());
    bytes
}
