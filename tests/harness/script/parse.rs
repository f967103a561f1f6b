//! One line of a script.

use std::str::FromStr;
use std::time::Duration;

use crate::impair::{Direction, flags};
use crate::raw::TcpOption;

/// What a line says; none where it says nothing.
#[derive(Debug)]
pub(super) struct Line {
    pub time: Duration,
    pub relative: bool,
    pub direction: Direction,
    pub flags: u8,
    pub seq: Option<u32>,
    pub ack: Option<u32>,
    pub len: usize,
    pub window: u16,
    pub ttl: u8,
    pub id: Option<u16>,
    pub options: Vec<TcpOption>,
    pub vlans: Vec<u16>,
}

impl Line {
    /// None for a line that is empty or all comment.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        let mut words = text.split('#').next().unwrap_or_default().split_whitespace();
        let Some(time) = words.next() else { return Ok(None) };
        let (relative, time) = time.strip_prefix('+').map_or((false, time), |time| (true, time));
        let direction = match words.next() {
            Some("C") => Direction::ToServer,
            Some("S") => Direction::ToClient,
            other => return Err(format!("C or S is expected after the time, not {other:?}")),
        };
        let mut line = Self {
            time: duration(time)?,
            relative,
            direction,
            flags: letters(words.next().ok_or("the flags are missing")?)?,
            seq: None,
            ack: None,
            len: 0,
            window: 65535,
            ttl: 64,
            id: None,
            options: Vec::new(),
            vlans: Vec::new(),
        };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            line.set(key, value)?;
        }
        Ok(Some(line))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "seq" => self.seq = Some(relative(value)?),
            "ack" => self.ack = Some(relative(value)?),
            "len" => self.len = number(value)?,
            "win" => self.window = number(value)?,
            "ttl" => self.ttl = number(value)?,
            "id" => self.id = Some(number(value)?),
            "vlan" => self.vlans.push(number(value)?),
            "mss" => self.options.push(TcpOption::Mss(number(value)?)),
            "ws" => self.options.push(TcpOption::WindowScale(number(value)?)),
            "sackok" => self.options.push(TcpOption::SackPermitted),
            "ts" => {
                let (ours, echo) = value.split_once(':').ok_or("ts is value:echo")?;
                self.options.push(TcpOption::Timestamps(number(ours)?, number(echo)?));
            }
            "sack" => {
                let blocks = value.split(',').map(|block| {
                    let (left, right) = block.split_once('-').ok_or("a SACK block is left-right")?;
                    Ok::<_, String>((number(left)?, number(right)?))
                });
                self.options.push(TcpOption::Sack(blocks.collect::<Result<_, _>>()?));
            }
            other => return Err(format!("there is no word {other}")),
        }
        Ok(())
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that fits"))
}

/// A sequence number relative to the initial one; below it for a keepalive of an old kind or a stray.
fn relative(text: &str) -> Result<u32, String> {
    number::<i64>(text).map(|value| value as u32)
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (value, unit) = text.split_at(unit_at);
    let value: f64 = number(value)?;
    let seconds = match unit {
        "ns" => value / 1e9,
        "us" => value / 1e6,
        "ms" => value / 1e3,
        "s" => value,
        "" if value == 0.0 => 0.0,
        other => return Err(format!("{other:?} is no unit of time")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn letters(text: &str) -> Result<u8, String> {
    if text == "-" {
        return Ok(0);
    }
    text.chars().try_fold(0, |all, letter| {
        let flag = match letter {
            'F' => flags::FIN,
            'S' => flags::SYN,
            'R' => flags::RST,
            'P' => flags::PSH,
            '.' => flags::ACK,
            'U' => flags::URG,
            'E' => flags::ECE,
            'W' => flags::CWR,
            other => return Err(format!("{other:?} is no flag")),
        };
        Ok(all | flag)
    })
}
