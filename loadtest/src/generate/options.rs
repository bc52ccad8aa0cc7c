//! What a generator is told: each option with its default, its bounds and its
//! explanation in one place.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::dialogue::{Dialogue, MessageClock, Pipelining};
use crate::message::{Template, TemplateOptions, Transfer};
use crate::process::Watch;
use crate::sizes::{Sizes, parse_bytes, parse_duration};
use crate::tls::{Handshakes, Tls};

/// Load an SMTP server and measure it.
///
/// Every message carries an id and a checksum, so that `loadtest sink` behind a
/// relay can tell whether each came, whole, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The server, host:port.
    #[arg(value_parser = parse_server)]
    pub server: SocketAddr,
    /// Besides, hold so many connections that say EHLO and then nothing. With
    /// --pid, the server's memory for each is reported.
    #[arg(long, default_value_t = 0)]
    pub hold: usize,
    /// Measure this generator alone too, with the same work against the
    /// built-in sink, and report it beside the result.
    #[arg(long)]
    pub ceiling: bool,
    /// Report as JSON to this file ("-": standard output, instead of text).
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Plot to this SVG file.
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// The server to watch.
    #[command(flatten)]
    pub watch: Watch,
    /// What to do.
    #[command(flatten)]
    pub work: Work,
}

/// The work of a generator, whatever the server.
#[derive(Clone, Debug, clap::Args)]
pub struct Work {
    /// Sessions at a time, over all threads.
    #[arg(long, default_value_t = 20)]
    pub sessions: usize,
    /// Messages in all. Without this and --duration: ten seconds.
    #[arg(long)]
    pub messages: Option<u32>,
    /// Begin no message after this long (10s, 500ms, 2m).
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// QUIT and connect anew after so many messages. Without this a session
    /// lasts to the end.
    #[arg(long)]
    pub messages_per_session: Option<u64>,
    /// Octets of a message, header included: 4096, 4k:70,64k:25,1m:5 or 1k-64k.
    #[arg(long, default_value = "4096")]
    pub size: Sizes,
    /// Recipients of each message.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub recipients: u16,
    /// Recipient; {} becomes a number from 0 up to --to-count.
    #[arg(long, default_value = "to{}@dest.test")]
    pub to: String,
    /// How many different recipients there are.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub to_count: u32,
    /// Reverse-path.
    #[arg(long, default_value = "from@src.test")]
    pub from: String,
    /// Name given in EHLO.
    #[arg(long, default_value = "load.test")]
    pub ehlo: String,
    /// ESMTP parameters of MAIL, as "BODY=8BITMIME RET=HDRS".
    #[arg(long, default_value = "")]
    pub mail_parameters: String,
    /// Give SIZE= with MAIL.
    #[arg(long)]
    pub declare_size: bool,
    /// none, transaction (MAIL RCPT DATA together), group (content and the next
    /// MAIL RCPT DATA together), or messages ahead (with bdat only).
    #[arg(long, default_value = "none")]
    pub pipelining: Pipelining,
    /// How the content is sent.
    #[arg(long, value_enum, default_value = "data")]
    pub transfer: Transfer,
    /// Begin every n-th line of a body with a dot.
    #[arg(long, default_value_t = 0)]
    pub dots_every: usize,
    /// TLS: none, starttls, or implicit. Any certificate is taken.
    #[arg(long, default_value_t)]
    pub tls: Tls,
    /// Make each handshake a full one; otherwise sessions are resumed by ticket.
    #[arg(long)]
    pub tls_full: bool,
    /// Use PIPELINING, CHUNKING and ETRN even where they are not offered.
    #[arg(long)]
    pub force: bool,
    /// Messages a second that become due, over all sessions. Latency "whole"
    /// counts from then, so that a server that stalls cannot hide it.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// So many of the sessions send slowly.
    #[arg(long, default_value_t = 0)]
    pub slow: usize,
    /// Octets a second of a slow session.
    #[arg(long, default_value = "1k", value_parser = parse_bytes)]
    pub slow_rate: u64,
    /// Instead of messages send ETRN for this node name; {} becomes a number.
    #[arg(long)]
    pub etrn: Option<String>,
    /// How many different node names there are.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub etrn_count: u32,
    /// Threads, each with a ring and its share of the sessions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// CPUs to pin the threads to, in turn: 0,1.
    #[arg(long, value_delimiter = ',')]
    pub cpu: Vec<usize>,
    /// Give a session up that waits longer for a reply.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Give up after so many connections failed in a row.
    #[arg(long, default_value_t = 100)]
    pub failures_max: u32,
    /// Seed of all that is random; without it, drawn and reported.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Options {
    /// This work for that server, and nothing besides.
    #[must_use]
    pub fn new(server: SocketAddr, work: Work) -> Self {
        Self {
            server,
            hold: 0,
            ceiling: false,
            json: None,
            svg: None,
            watch: Watch::default(),
            work,
        }
    }
}

impl Work {
    /// Which handshakes the sessions make.
    pub(crate) const fn handshakes(&self) -> Handshakes {
        if self.tls_full {
            Handshakes::Full
        } else {
            Handshakes::Resumed
        }
    }

    /// What the sessions need to know.
    ///
    /// # Errors
    /// A sentence for the operator where options contradict one another.
    pub(crate) fn dialogue(&self, clock: MessageClock) -> Result<Dialogue, String> {
        if matches!(self.pipelining, Pipelining::Flight(_)) && self.transfer == Transfer::Data {
            return Err("--pipelining N runs ahead of 354, which DATA forbids; \
                        use --transfer bdat, or --pipelining group"
                .to_owned());
        }
        for text in [&self.to, &self.from, &self.ehlo, &self.mail_parameters]
            .into_iter()
            .chain(&self.etrn)
        {
            if text.contains(['\r', '\n']) {
                return Err(format!("{text:?} has a line end in it"));
            }
        }
        let numbered = |pattern: &str, number: u32| pattern.replace("{}", &number.to_string());
        let templates: Vec<_> = self
            .size
            .bytes()
            .map(|bytes| {
                Template::new(&TemplateOptions {
                    bytes,
                    transfer: self.transfer,
                    recipients: self.recipients,
                    dots_every: self.dots_every,
                    from: self.from.clone(),
                    to: numbered(&self.to, 0),
                })
            })
            .collect();
        let mail = templates
            .iter()
            .map(|template| {
                let mut line = format!("MAIL FROM:<{}>", self.from);
                if self.declare_size {
                    line += &format!(" SIZE={}", template.content_bytes());
                }
                if !self.mail_parameters.is_empty() {
                    line += &format!(" {}", self.mail_parameters);
                }
                (line + "\r\n").into_bytes()
            })
            .collect();
        let recipients = self.to_count.max(self.recipients.into());
        let rcpt = (0..recipients)
            .map(|number| format!("RCPT TO:<{}>\r\n", numbered(&self.to, number)).into_bytes())
            .collect();
        let etrn = self.etrn.as_deref().unwrap_or_default();
        Ok(Dialogue {
            pipelining: self.pipelining,
            transfer: self.transfer,
            ehlo: format!("EHLO {}\r\n", self.ehlo).into_bytes(),
            mail,
            rcpt,
            recipients: self.recipients.into(),
            templates,
            etrn: (0..self.etrn_count)
                .map(|number| format!("ETRN {}\r\n", numbered(etrn, number)).into_bytes())
                .collect(),
            messages_per_session: self.messages_per_session,
            force: self.force,
            tls: self.tls,
            clock,
        })
    }
}

/// The first address of host:port.
pub(crate) fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("resolving {text}: {error}"))?;
    addresses
        .next()
        .ok_or_else(|| format!("{text} has no address"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("{text:?} is no rate above 0")),
    }
}
