//! What a link is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::schedule::{Cut, CutManner, Window};
use crate::sizes::{parse_bytes, parse_duration};

/// Simulate a link: bandwidth, round trip, loss, cuts, times of being up.
///
/// Ends at SIGTERM or SIGINT, and reports octets and round trips then.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// LISTEN=TARGET: connections from this side of the link to the other, whose
    /// clients' octets go up. May be given several times.
    #[arg(long = "forward", value_name = "LISTEN=TARGET", value_parser = parse_mapping)]
    pub forwards: Vec<(SocketAddr, SocketAddr)>,
    /// The same for connections from the other side to this one, whose clients'
    /// octets go down.
    #[arg(long = "backward", value_name = "LISTEN=TARGET", value_parser = parse_mapping)]
    pub backwards: Vec<(SocketAddr, SocketAddr)>,
    /// Bits a second of each direction: 128k is 128,000.
    #[arg(long, value_parser = parse_bits)]
    pub bandwidth: Option<f64>,
    /// Bits a second down, where it differs.
    #[arg(long, value_parser = parse_bits)]
    pub bandwidth_down: Option<f64>,
    /// There and back.
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub round_trip: Duration,
    /// Chance of a segment to be lost.
    #[arg(long, default_value_t = 0.0, value_parser = parse_chance)]
    pub loss: f64,
    /// How long a lost segment holds up what follows; without this the greater
    /// of 200 ms and two round trips.
    #[arg(long, value_parser = parse_duration)]
    pub stall: Option<Duration>,
    /// Octets of lower layers that each segment of 1,460 costs besides.
    #[arg(long, default_value_t = 0)]
    pub overhead: usize,
    /// Octets of one direction of a connection that may be under way.
    #[arg(long, default_value = "64k", value_parser = parse_bytes)]
    pub window: u64,
    /// When the link is up, since the start: 10s-30s,60s-90s. Without this always.
    #[arg(long, value_delimiter = ',')]
    pub up: Vec<Window>,
    /// Begin --up again after this long.
    #[arg(long, value_parser = parse_duration)]
    pub cycle: Option<Duration>,
    /// Cut the first connection, the second, … each at its own place: up:5000 or
    /// down:1k (octets arrived), 3s, never. Later connections are not cut.
    #[arg(long, value_delimiter = ',')]
    pub cut: Vec<Cut>,
    /// Cut later connections too, as the last of --cut says.
    #[arg(long)]
    pub cut_all: bool,
    /// What the ends notice of a cut, or of the link going down.
    #[arg(long, value_enum, default_value = "reset")]
    pub cut_manner: CutManner,
    /// Seed of the losses.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after this long.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// `LISTEN=TARGET`.
fn parse_mapping(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let (listen, target) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not LISTEN=TARGET"))?;
    Ok((
        crate::generate::parse_server(listen)?,
        crate::generate::parse_server(target)?,
    ))
}

/// Bits a second: `128k`, `2M`, powers of a thousand as is usual for links.
fn parse_bits(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        unit => return Err(format!("{unit:?} is no unit; k, M and G are")),
    };
    match digits.parse::<f64>() {
        Ok(bits) if bits > 0.0 && bits.is_finite() => Ok(bits * factor),
        _ => Err(format!("{text:?} is no bandwidth")),
    }
}

fn parse_chance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..1.0).contains(&chance) => Ok(chance),
        _ => Err(format!("{text:?} is no chance from 0 up to 1")),
    }
}
