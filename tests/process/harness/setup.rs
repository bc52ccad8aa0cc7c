//! The configuration of a relay under test.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::place;
use super::relay::Relay;

/// What a test says about its relay; the rest is small and quick: one data core,
/// not pinned, segments of 4 MiB, a retry each second.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) address: SocketAddr,
    top: String,
    spool: String,
    spool_directory: Option<PathBuf>,
    cores: u8,
    limits: String,
    relay: Option<String>,
    listener: String,
    smarthost_lines: String,
    sections: String,
    dns: Vec<SocketAddr>,
    mode: Option<&'static str>,
    smarthosts: Vec<SocketAddr>,
    delivery: String,
    routes: String,
    customers: String,
    retry: String,
    site: String,
    log: String,
    admin: String,
    pub(crate) wrapper: Vec<String>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            address: place::next_address(),
            top: String::new(),
            spool: "segment_size = \"4MiB\"\nfree_min = \"1MiB\"\n".to_owned(),
            spool_directory: None,
            cores: 1,
            limits: String::new(),
            relay: None,
            listener: String::new(),
            smarthost_lines: String::new(),
            sections: String::new(),
            dns: Vec::new(),
            mode: None,
            smarthosts: Vec::new(),
            delivery: String::new(),
            routes: String::new(),
            customers: String::new(),
            retry:
                "first = \"1s\"\nfactor = 1.0\nlongest = \"1s\"\ngive_up = \"10m\"\nwarn = \"0s\"\n"
                    .to_owned(),
            site: String::new(),
            log: String::new(),
            admin: String::new(),
            wrapper: Vec::new(),
        }
    }

    /// A relay whose mail all goes to this next hop.
    pub(crate) fn to(smarthost: SocketAddr) -> Self {
        Self::new().smarthost(smarthost)
    }

    /// One more smarthost, behind those that are there.
    pub(crate) fn smarthost(mut self, address: SocketAddr) -> Self {
        self.smarthosts.push(address);
        self
    }

    /// By MX, asking this name server and no other; the exchangers listen at
    /// `mx_port`.
    pub(crate) fn mx(name_server: SocketAddr, mx_port: u16) -> Self {
        let mut setup = Self::new().delivery(&format!("mx_port = {mx_port}"));
        setup.dns = vec![name_server];
        setup
    }

    /// These name servers and no others, in this order.
    pub(crate) fn servers(mut self, servers: &[SocketAddr]) -> Self {
        self.dns = servers.to_vec();
        self
    }

    /// `mode` of `[delivery]`, in place of the one that follows from the smarthosts.
    pub(crate) fn mode(mut self, mode: &'static str) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Mail for this domain goes by MX, whatever the mode is.
    pub(crate) fn route_mx(mut self, domain: &str) -> Self {
        self.next_hop(domain, "mx");
        self
    }

    /// Lines of the last `[[route]]`.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        writeln!(self.routes, "{lines}").expect("a String takes everything");
        self
    }

    /// No routes any more.
    pub(crate) fn without_routes(mut self) -> Self {
        self.routes.clear();
        self
    }

    /// Where it listens, if not at an address of its own.
    pub(crate) fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    pub(crate) fn route(mut self, domain: &str, next_hop: SocketAddr) -> Self {
        self.next_hop(domain, &format!("smtp://{next_hop}"));
        self
    }

    /// Mail for this domain stays until it is released.
    pub(crate) fn held(mut self, domain: &str) -> Self {
        self.next_hop(domain, "hold");
        self
    }

    /// Mail for this domain is taken and thrown away.
    pub(crate) fn discarded(mut self, domain: &str) -> Self {
        self.next_hop(domain, "discard");
        self
    }

    /// Mail for this domain goes where these words of the configuration say.
    pub(crate) fn leading(mut self, domain: &str, next_hop: &str) -> Self {
        self.next_hop(domain, next_hop);
        self
    }

    fn next_hop(&mut self, domain: &str, next_hop: &str) {
        writeln!(
            self.routes,
            "[[route]]\ndomain = \"{domain}\"\nnext_hop = \"{next_hop}\""
        )
        .expect("a String takes everything");
    }

    /// One more `[[customer]]`, whole.
    pub(crate) fn customer(mut self, section: &str) -> Self {
        self.customers.push_str(section);
        self
    }

    /// Lines before the first section.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top = format!("{lines}\n");
        self
    }

    /// Lines of `[limits]`.
    pub(crate) fn limits(mut self, lines: &str) -> Self {
        self.limits = format!("{lines}\n");
        self
    }

    /// Lines of `[relay]`, in place of none at all.
    pub(crate) fn relay(mut self, lines: &str) -> Self {
        self.relay = Some(format!("{lines}\n"));
        self
    }

    /// Lines of `[spool]` but `directory`, in place of ours.
    pub(crate) fn spool(mut self, lines: &str) -> Self {
        self.spool = format!("{lines}\n");
        self
    }

    /// Lines of `[[listener]]` but `address`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener = format!("{lines}\n");
        self
    }

    /// Lines of each `[[delivery.smarthost]]` but `host` and `port`.
    pub(crate) fn smarthost_lines(mut self, lines: &str) -> Self {
        self.smarthost_lines = format!("{lines}\n");
        self
    }

    /// Whole sections, in place of those that were given so before.
    pub(crate) fn sections(mut self, text: &str) -> Self {
        self.sections = format!("{text}\n");
        self
    }

    /// Where the spool is, if not in the relay's own directory.
    pub(crate) fn spool_directory(mut self, directory: &Path) -> Self {
        self.spool_directory = Some(directory.to_owned());
        self
    }

    /// Lines of `[delivery]` but `mode`.
    pub(crate) fn delivery(mut self, lines: &str) -> Self {
        self.delivery = format!("{lines}\n");
        self
    }

    /// Lines of `[retry]`, in place of ours.
    pub(crate) fn retry(mut self, lines: &str) -> Self {
        self.retry = format!("{lines}\n");
        self
    }

    /// Whole sections of the site's side, behind all others.
    pub(crate) fn site(mut self, sections: &str) -> Self {
        self.site.push_str(sections);
        self.site.push('\n');
        self
    }

    pub(crate) fn cores(mut self, cores: u8) -> Self {
        self.cores = cores;
        self
    }

    /// Lines of `[log]`.
    pub(crate) fn log(mut self, lines: &str) -> Self {
        self.log = format!("{lines}\n");
        self
    }

    /// Lines of `[admin]` but `socket`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin = format!("{lines}\n");
        self
    }

    /// A program with arguments that starts the relay in its own place.
    /// The server lives where it is about noon, so that neither a day nor a month, as its
    /// budgets count them, ends within the test.
    pub(crate) fn at_noon(self) -> Self {
        let now = jiff::Timestamp::now().as_second();
        // POSIX counts its zones westward.
        let west = now.div_euclid(3600).rem_euclid(24) - 12;
        self.wrapper(vec!["env".to_owned(), format!("TZ=NOON{west}")])
    }

    pub(crate) fn wrapper(mut self, words: Vec<String>) -> Self {
        self.wrapper = words;
        self
    }

    /// The file, for a relay that lives in `directory`.
    pub(crate) fn text(&self, directory: &Path) -> String {
        let Self {
            address,
            top,
            spool,
            cores,
            limits,
            delivery,
            routes,
            customers,
            retry,
            site,
            log,
            admin,
            listener,
            smarthost_lines,
            sections,
            ..
        } = self;
        let spool_directory = match &self.spool_directory {
            Some(directory) => directory.clone(),
            None => directory.join("spool"),
        };
        let spool_directory = spool_directory.display();
        let socket = directory.join("admin.sock");
        let socket = socket.display();
        let mut text = format!(
            "hostname = \"relay.example\"\n{top}\
             [spool]\ndirectory = \"{spool_directory}\"\n{spool}\
             [cores]\ndata = {cores}\npin = false\n\
             [limits]\n{limits}\
             [[listener]]\naddress = \"{address}\"\n{listener}\
             [admin]\nsocket = \"{socket}\"\n{admin}\
             [log]\n{log}"
        );
        let mut push = |section: &str| text.push_str(section);
        if let Some(relay) = &self.relay {
            push(&format!("[relay]\n{relay}"));
        }
        if !self.dns.is_empty() {
            let quoted = |server: &SocketAddr| format!("\"{server}\"");
            let servers: Vec<_> = self.dns.iter().map(quoted).collect();
            let servers = servers.join(", ");
            push(&format!(
                "[dns]\nservers = [{servers}]\nfallback_to_system = false\n"
            ));
        }
        if !self.smarthosts.is_empty() {
            let mode = self.mode.unwrap_or("smarthost");
            let with_routes = if routes.is_empty() || mode != "smarthost" {
                ""
            } else {
                "routes_in_smarthost_mode = true\n"
            };
            push(&format!(
                "[delivery]\nmode = \"{mode}\"\n{with_routes}{delivery}"
            ));
            for smarthost in &self.smarthosts {
                let (host, port) = (smarthost.ip(), smarthost.port());
                push(&format!(
                    "[[delivery.smarthost]]\nhost = \"{host}\"\nport = {port}\n{smarthost_lines}"
                ));
            }
        } else if !delivery.is_empty() {
            push(&format!("[delivery]\n{delivery}"));
        }
        push(routes);
        push(customers);
        push(&format!("[retry]\n{retry}"));
        push(site);
        push(sections);
        text
    }

    /// Starts a relay with it, in a new directory.
    #[track_caller]
    pub(crate) fn start(self) -> Relay {
        Relay::start(self)
    }
}
