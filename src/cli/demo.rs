//! `turnspool demo`: a provider, a site and a slow line between them, on this machine.
//!
//! Both are servers of this very program, each with a directory of its own; the line is
//! simulated ([`line`]). Mail for the site waits at the provider. Mail from the site is
//! reason enough to dial: it goes, the provider is asked for what it holds, that comes,
//! and the line is hung up.
//!
//! What is shown is true: messages are counted where they arrive, octets and round trips
//! on the line, seconds by the site's own history. It needs no rights, no terminal and no
//! network, and leaves nothing behind unless it fails.

mod certificate;
mod host;
mod line;
mod sender;
mod sign;
mod stage;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use self::certificate::Certificate;
use self::host::Host;
use self::line::{Caller, Line, Quality, Traffic};
pub(super) use self::sign::Sign;
use self::stage::Stage;
use super::text::{escaped, size};
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{Command, LinkCommand, LinkStatus, Response};

/// Between two looks at the site.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What dialling, waiting and hanging up take beside the mail itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the site stays on line without work: short, as at a line that costs.
const IDLE: &str = "2s";
const FOR_SITE: &str = "captain@ship.example";
const FOR_SHORE: &str = "office@shore.example";

/// Shows a provider, a site and a slow line at work.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Messages that wait for the site
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    messages: u16,
    /// Messages that the site sends
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    sent: u16,
    /// Octets of each message
    #[arg(long, default_value_t = 4096, value_name = "OCTETS", value_parser = clap::value_parser!(u32).range(256..=10_000_000))]
    size: u32,
    /// Bits a second of the line, in each direction
    #[arg(long, default_value_t = 128_000, value_name = "BITS", value_parser = clap::value_parser!(u64).range(1_000..=10_000_000_000))]
    bandwidth: u64,
    /// There and back over the line, such as 600ms
    #[arg(long, default_value = "600ms", value_name = "TIME", value_parser = round_trip)]
    round_trip: Duration,
    /// How the site asks for its mail
    #[arg(long, value_enum, default_value_t = By::Etrn)]
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum By {
    /// The provider calls back (RFC 1985)
    Etrn,
    /// The mail comes over the connection that asked, under TLS (RFC 2645)
    Atrn,
}

fn round_trip(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(parsed)
        .ok()
        .filter(|time| *time <= Duration::from_secs(10))
        .ok_or_else(|| "a time from 0s to 10s".to_owned())
}

/// What it came to.
#[derive(Debug, serde::Serialize)]
struct Summary {
    messages_received: usize,
    messages_sent: usize,
    message_octets: u64,
    seconds_on_line: f64,
    #[serde(flatten)]
    traffic: Traffic,
    /// Of what the line could have carried in the busier direction while it was up.
    utilisation: f64,
}

/// A directory that goes when it is dropped.
struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Directory {
    fn new() -> io::Result<Self> {
        let name = format!("turnspool-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Nobody else's, and not one that was there.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, kept: false })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.kept {
            // What is left over is in the directory for temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Demo {
    /// Runs it.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut directory = Directory::new().map_err(|error| {
            let text = format!("making a directory for temporary files: {error}");
            Failure::new(Exit::Failed, text)
        })?;
        let result = self.play(&directory.path, global, out);
        match result {
            Ok(summary) if global.json => print_json(out, &summary)?,
            Ok(summary) => self.print(&summary, out)?,
            Err(failure) => {
                directory.kept = failure.exit == Exit::Failed;
                if directory.kept {
                    let path = escaped(&directory.path.to_string_lossy());
                    let text = format!("{failure}\n    logs and spools are kept in {path}");
                    return Err(Failure::new(Exit::Failed, text));
                }
                return Err(failure);
            }
        }
        Ok(Exit::Done)
    }

    fn play(
        &self,
        directory: &Path,
        global: &Global,
        out: &mut dyn Write,
    ) -> Result<Summary, Failure> {
        let failed =
            |what: &str, error: io::Error| Failure::new(Exit::Failed, format!("{what}: {error}"));
        let mut stage = Stage::new(global.json);
        let free = || free_address().map_err(|error| failed("finding a free port", error));
        let (at_provider, for_atrn, at_site) = (free()?, free()?, free()?);
        let sign = directory.join("line-is-up");
        let quality = Quality {
            bits_per_second: self.bandwidth,
            round_trip: self.round_trip,
        };
        let ways = [
            (Caller::Site, at_provider),
            (Caller::Site, for_atrn),
            (Caller::Provider, at_site),
        ];
        let line = Line::start(quality, sign.clone(), &ways)
            .map_err(|error| failed("starting the line", error))?;
        let [to_provider, to_atrn, to_site] = *line.addresses() else {
            unreachable!("one for each way");
        };
        let secret = directory.join("password");
        write_secret(&secret).map_err(|error| failed("writing a password", error))?;
        let certificate = Certificate::make(directory, for_atrn.ip())
            .map_err(|error| failed("making a certificate", error))?;
        let home = directory.join("provider");
        let text = provider(&Host::mailbox(&home), to_site, for_atrn, &secret);
        let text = text + &certificate.section();
        let provider = Host::start("provider", home, at_provider, &text, None)?;
        let home = directory.join("site");
        let this_program =
            std::env::current_exe().map_err(|error| failed("finding this program", error))?;
        let text = self.site(&Host::mailbox(&home), to_provider, &this_program, &sign);
        let text = text + &self.collector(to_provider, to_atrn, &secret);
        let trusted = Some(certificate.authority());
        let site = Host::start("site", home, at_site, &text, trusted)?;
        for host in [&provider, &site] {
            stage.say(
                out,
                &format!("the {} listens on {}", host.name, host.address),
            )?;
        }
        stage.say(
            out,
            &format!(
                "the line: {} bit/s, {} ms there and back; it is down",
                self.bandwidth,
                self.round_trip.as_millis()
            ),
        )?;
        let octets = self.size as usize;
        let give = |host: &Host, from, to, count: u16| {
            sender::send(host.address, from, to, usize::from(count), octets)
                .map_err(|error| failed(&format!("giving mail to the {}", host.name), error))
        };
        give(&provider, FOR_SHORE, FOR_SITE, self.messages)?;
        stage.say(
            out,
            &format!(
                "{} messages for the site wait at the provider",
                self.messages
            ),
        )?;
        give(&site, FOR_SITE, FOR_SHORE, self.sent)?;
        stage.say(
            out,
            &format!("{} messages from the site: a reason to dial", self.sent),
        )?;
        self.watch(&provider, &site, &line, &mut stage, out)
    }

    /// Until everything is where it belongs and the line is down.
    fn watch(
        &self,
        provider: &Host,
        site: &Host,
        line: &Line,
        stage: &mut Stage,
        out: &mut dyn Write,
    ) -> Result<Summary, Failure> {
        let (messages, sent) = (usize::from(self.messages), usize::from(self.sent));
        let octets = (u64::from(self.messages) + u64::from(self.sent)) * u64::from(self.size);
        let sending = Duration::from_secs(octets.saturating_mul(8) / self.bandwidth);
        let turns = self.round_trip * 8 * (u32::from(self.messages) + u32::from(self.sent));
        let patience = PATIENCE + sending * 4 + turns;
        let begun = Instant::now();
        let mut course = Course::new(self.by);
        loop {
            if line.is_interrupted() {
                return Err(Failure::new(Exit::TryLater, "interrupted"));
            }
            let Response::Links(links) = site.ask(Command::Link(LinkCommand::Status))? else {
                return Err(Failure::new(Exit::Failed, "the site did not show its link"));
            };
            let Some(link) = links.links.first() else {
                return Err(Failure::new(Exit::Failed, "the site has no link"));
            };
            let (received, gone) = (site.arrived(), provider.arrived());
            let traffic = line.traffic();
            for text in course.news(link, gone >= sent, received >= messages) {
                stage.say(out, &text)?;
            }
            let state = &link.state;
            stage.progress(
                out,
                &format!(
                    "{}: {received}/{messages} in, {gone}/{sent} out; {} in, {} out, {} round \
                     trips",
                    escaped(state),
                    size(traffic.received_octets),
                    size(traffic.sent_octets),
                    traffic.round_trips
                ),
            )?;
            // It is on line when the first of these has come; down again is the end.
            if received >= messages && gone >= sent && state == "down" {
                return self.summary(site, received, gone, traffic);
            }
            if begun.elapsed() > patience {
                let text = format!(
                    "after {} s the site has received {received} of {messages} messages and sent \
                     {gone} of {sent}, and its link is {state}\n    its log ends:\n{}",
                    begun.elapsed().as_secs(),
                    site.log_end()
                );
                return Err(Failure::new(Exit::Failed, text));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn summary(
        &self,
        site: &Host,
        received: usize,
        sent: usize,
        traffic: Traffic,
    ) -> Result<Summary, Failure> {
        let asked = site.ask(Command::Link(LinkCommand::History { limit: 100 }))?;
        let Response::LinkHistory { histories } = asked else {
            return Err(Failure::new(
                Exit::Failed,
                "the site did not show its history",
            ));
        };
        let outings = histories.iter().flat_map(|history| &history.outings);
        let millis: u64 = outings.map(|outing| outing.millis).sum();
        let seconds_on_line = Duration::from_millis(millis).as_secs_f64();
        let busier = traffic.received_octets.max(traffic.sent_octets);
        let could = seconds_on_line * self.bandwidth as f64 / 8.0;
        Ok(Summary {
            messages_received: received,
            messages_sent: sent,
            message_octets: (received + sent) as u64 * u64::from(self.size),
            seconds_on_line,
            traffic,
            utilisation: if could > 0.0 {
                busier as f64 / could
            } else {
                0.0
            },
        })
    }

    /// How the site asks.
    fn collector(&self, to_provider: SocketAddr, to_atrn: SocketAddr, secret: &Path) -> String {
        let how = match self.by {
            By::Etrn => format!("kind = \"etrn\"\nserver = \"{to_provider}\"\nwait = \"30s\"\n"),
            By::Atrn => format!(
                "kind = \"atrn\"\nserver = \"{to_atrn}\"\ntls = \"implicit\"\n\
                 user = \"ship\"\npassword_file = {secret:?}\n"
            ),
        };
        format!("[[collect]]\n{how}names = [\"ship.example\"]\n")
    }

    fn print(&self, summary: &Summary, out: &mut dyn Write) -> Result<(), Failure> {
        let Summary {
            messages_received,
            messages_sent,
            message_octets,
            seconds_on_line,
            traffic,
            utilisation,
        } = summary;
        let over = traffic.received_octets + traffic.sent_octets;
        writeln!(out)?;
        writeln!(
            out,
            "messages         {messages_received} received, {messages_sent} sent, {} in all",
            size(*message_octets)
        )?;
        writeln!(out, "seconds on line  {seconds_on_line:.1}")?;
        writeln!(
            out,
            "over the line    {}: {} in, {} out",
            size(over),
            size(traffic.received_octets),
            size(traffic.sent_octets)
        )?;
        writeln!(
            out,
            "round trips      {} on {} connections, {} ms each",
            traffic.round_trips,
            traffic.connections,
            self.round_trip.as_millis()
        )?;
        writeln!(
            out,
            "the line was     {:.0} % full in its busier direction",
            utilisation * 100.0
        )?;
        Ok(())
    }

    fn site(
        &self,
        mailbox: &Path,
        to_provider: SocketAddr,
        this_program: &Path,
        sign: &Path,
    ) -> String {
        let mailbox = format!("maildir:{}", mailbox.display());
        let program = |order| format!("[{this_program:?}, \"demo-line\", \"{order}\", {sign:?}]");
        format!(
            "hostname = \"ship.example\"\n\
             [relay]\ndomains = [\"ship.example\"]\n\
             [delivery]\nmode = \"smarthost\"\nroutes_in_smarthost_mode = true\n\
             [[delivery.smarthost]]\nhost = \"{}\"\nport = {}\ntls = \"none\"\n\
             [[route]]\ndomain = \"ship.example\"\nnext_hop = {mailbox:?}\n\
             [[link]]\nname = \"line\"\nkind = \"command\"\n\
             up = {}\ndown = {}\nstatus = {}\n\
             local = [\"192.0.2.0/24\"]\n\
             go_up = {{ messages = {} }}\nhang_up = {{ idle = \"{IDLE}\" }}\n",
            to_provider.ip(),
            to_provider.port(),
            program("up"),
            program("down"),
            program("status"),
            self.sent,
        )
    }
}

fn provider(mailbox: &Path, to_site: SocketAddr, for_atrn: SocketAddr, secret: &Path) -> String {
    let mailbox = format!("maildir:{}", mailbox.display());
    format!(
        "hostname = \"shore.example\"\n\
         [relay]\ndomains = [\"shore.example\"]\n\
         [[listener]]\naddress = \"{for_atrn}\"\nrole = \"odmr\"\ntls = \"implicit\"\n\
         [[route]]\ndomain = \"shore.example\"\nnext_hop = {mailbox:?}\n\
         [[customer]]\nname = \"ship\"\ndomains = [\"ship.example\"]\n\
         deliver_to = \"{to_site}\"\nuser = \"ship\"\npassword_file = {secret:?}\n\
         release = {{ clients = [\"127.0.0.0/8\"] }}\n"
    )
}

/// How far it has come, as was told.
#[derive(Debug)]
struct Course {
    by: By,
    state: String,
    dialled: bool,
    was_up: bool,
    gone: bool,
    received: bool,
    hangs_up: bool,
}

impl Course {
    const fn new(by: By) -> Self {
        Self {
            by,
            state: String::new(),
            dialled: false,
            was_up: false,
            gone: false,
            received: false,
            hangs_up: false,
        }
    }

    /// What has happened since the last look: whether all of the site's mail has gone, and
    /// all of its own has come.
    fn news(&mut self, link: &LinkStatus, gone: bool, received: bool) -> Vec<String> {
        let mut news = Vec::new();
        let before = std::mem::replace(&mut self.state, link.state.clone());
        let changed = before != link.state;
        let is_up = !matches!(&*link.state, "down" | "dialling");
        // Between two looks it may have dialled and be up.
        let has_dialled = link.state == "dialling" || is_up;
        if has_dialled && !std::mem::replace(&mut self.dialled, true) {
            let why = link.why.as_deref().unwrap_or("it is to");
            news.push(format!("the site dials: {}", escaped(why)));
        }
        if is_up && !std::mem::replace(&mut self.was_up, is_up) {
            let asks = match self.by {
                By::Etrn => "asks by ETRN; the provider calls back",
                By::Atrn => "asks by ATRN; its mail comes the same way",
            };
            news.push(format!("the link is up: the site sends, and {asks}"));
        }
        if gone && !std::mem::replace(&mut self.gone, true) {
            news.push("the site's own mail has gone".to_owned());
        }
        if received && !std::mem::replace(&mut self.received, true) {
            news.push("the mail that waited at the provider has come".to_owned());
        }
        let is_down = changed && link.state == "down" && self.was_up;
        // Between two looks it may have hung up.
        if (is_down || changed && link.state == "hanging up")
            && !std::mem::replace(&mut self.hangs_up, true)
        {
            news.push(format!(
                "nothing was left to do for {IDLE}: the site hangs up"
            ));
        }
        if is_down {
            (self.was_up, self.dialled, self.hangs_up) = (false, false, false);
            news.push("the link is down".to_owned());
        }
        news
    }
}

/// For the site to log in with.
fn write_secret(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(b"nobody but this machine sees it\n")
}

/// A port that is free now. Nobody else on this machine takes one by number.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
