//! The configurations of a world's machines, as texts: what is under test begins with the
//! file that an operator writes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use turnspool::config::surroundings::Surroundings;
use turnspool::config::{self, Config};

use super::plan::{Inside, Plan, SitePlan, Way};

/// The machine of the provider. Those of the sites follow.
pub(super) const PROVIDER: usize = 0;

/// Customers log in with this.
pub(super) const SECRET: &str = "swordfish-of-a-world";

/// Where mail comes in.
pub(super) const SMTP: u16 = 25;
/// Where customers call.
pub(super) const ODMR: u16 = 366;

/// The domain of a site.
pub(super) fn domain(site: usize) -> String {
    format!("s{site}.example")
}

/// What a machine calls itself.
pub(super) fn hostname(machine: usize) -> String {
    match machine {
        PROVIDER => "spool.isp.example".to_owned(),
        site => format!("gate.{}", domain(site - 1)),
    }
}

/// As others see a machine.
pub(super) fn address(machine: usize) -> IpAddr {
    match machine {
        PROVIDER => Ipv4Addr::new(198, 51, 100, 1).into(),
        site => Ipv4Addr::new(203, 0, 113, 10 + site as u8).into(),
    }
}

/// The host in a site's house that takes its mail.
pub(super) fn inside(site: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, site as u8, 9).into(), 24)
}

/// The host of a site's mailbox.
pub(super) fn mailbox(site: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, 220 + site as u8).into(), 110)
}

/// Somebody in a site's house, or out in the world.
pub(super) fn client(machine: usize, number: usize) -> SocketAddr {
    let number = number as u8 + 20;
    let ip = match machine {
        PROVIDER => Ipv4Addr::new(192, 0, 2, number),
        site => Ipv4Addr::new(10, 0, site as u8 - 1, number),
    };
    SocketAddr::new(ip.into(), 1025)
}

/// The site in whose house the address is.
pub(super) fn house(ip: IpAddr) -> Option<usize> {
    match ip {
        IpAddr::V4(ip) if ip.octets()[..2] == [10, 0] => Some(usize::from(ip.octets()[2])),
        _ => None,
    }
}

/// A file with the secret, the same for all worlds.
fn secret() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("secret-of-a-world");
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = file.expect("a file of the tests' own");
        std::io::Write::write_all(&mut file, SECRET.as_bytes()).expect("it is written");
        path
    })
}

/// The configuration of a machine after so many changes of it.
pub(super) fn read(plan: &Plan, machine: usize, cores: u8, changes: u32) -> Config {
    let text = match machine {
        PROVIDER => provider(plan, changes),
        site => self::site(plan, site - 1, changes),
    };
    let text = format!(
        "hostname = \"{}\"\n{text}[cores]\ndata = {cores}\n{}",
        hostname(machine),
        common(plan, changes)
    );
    let surroundings = Surroundings {
        host_name: "host.example".to_owned(),
        cpus: 1,
        credentials_directory: None,
        state_directory: None,
    };
    config::parse(Path::new("(a world)"), &text, &surroundings)
        .unwrap_or_else(|report| panic!("{report}\n{text}"))
}

fn common(plan: &Plan, changes: u32) -> String {
    let first = plan.retry_first << (changes % 3);
    format!(
        "[retry]\nfirst = \"{first}s\"\nlongest = \"10m\"\nwarn = \"1h\"\n\
         [notify]\nper_minute = {}\n",
        plan.per_minute
    )
}

fn provider(plan: &Plan, changes: u32) -> String {
    let sites = plan.sites.iter().enumerate();
    let customers: String = sites
        .map(|(site, at)| customer(site, at, changes))
        .collect();
    format!(
        "[[listener]]\naddress = \"0.0.0.0:{SMTP}\"\npriority = true\n\
         [[listener]]\naddress = \"0.0.0.0:{ODMR}\"\nrole = \"odmr\"\n\
         [relay]\nnetworks = [\"203.0.113.0/24\"]\n\
         [wakeup]\naddress = \"wakeup@spool.isp.example\"\n\
         [delivery]\nconnections_per_destination = {}\n{customers}",
        plan.connections
    )
}

fn customer(site: usize, plan: &SitePlan, changes: u32) -> String {
    let at = address(site + 1);
    let release = match plan.way {
        Way::Etrn | Way::WakeUp => format!("clients = [\"{at}/32\"]"),
        Way::Atrn => "auth = true".to_owned(),
        Way::OnConnect => format!("clients = [\"{at}/32\"], on_connect = true"),
        Way::Provider => format!("clients = [\"{at}/32\"], every = \"{}m\"", plan.every),
    };
    let retention = if plan.short_retention { 1 } else { 20 };
    let quota = plan.quota + u64::from(changes % 2);
    format!(
        "[[customer]]\nname = \"s{site}\"\ndomains = [\"{}\"]\n\
         deliver_to = \"{at}:{SMTP}\"\nuser = \"s{site}\"\npassword_file = {:?}\n\
         release = {{ {release} }}\nretention = \"{retention}d\"\n\
         quota = {{ messages = {quota} }}\n",
        domain(site),
        secret(),
    )
}

fn site(plan: &Plan, site: usize, changes: u32) -> String {
    let own = &plan.sites[site];
    let (domain, provider) = (domain(site), address(PROVIDER));
    let next_hop = match own.inside {
        Inside::Smtp => format!("smtp://{}", inside(site)),
        Inside::Lmtp => format!("lmtp://{}", inside(site)),
        Inside::Maildir => "maildir:/mail/{local}".to_owned(),
    };
    let at_most = own
        .at_most
        .map(|at_most| format!(", at_most = \"{at_most}s\""));
    let budget = own
        .budget
        .map(|seconds| format!("budget = {{ per = \"day\", seconds = {seconds} }}\n"));
    let collect = match own.way {
        Way::Etrn => format!(
            "[[collect]]\nkind = \"etrn\"\nserver = \"{provider}:{SMTP}\"\n\
             names = [\"{domain}\"]\nwait = \"60s\"\n"
        ),
        Way::Atrn => format!(
            "[[collect]]\nkind = \"atrn\"\nserver = \"{provider}:{ODMR}\"\n\
             names = [\"{domain}\"]\nuser = \"s{site}\"\npassword_file = {:?}\n",
            secret()
        ),
        Way::WakeUp => format!(
            "[[collect]]\nkind = \"wakeup\"\nto = \"wakeup+{domain}@spool.isp.example\"\n\
             wait = \"60s\"\n"
        ),
        Way::OnConnect | Way::Provider => String::new(),
    };
    let mailbox = own.mailbox.as_ref().map(|plan| {
        let every = plan.every.map(|every| format!("every = \"{every}s\"\n"));
        format!(
            "[[collect]]\nkind = \"pop3\"\nserver = \"{}\"\nuser = \"s{site}\"\n\
             password_file = {:?}\n{}\
             domain_mailbox = {{ domains = [\"{domain}\"], default = \"lost@{domain}\" }}\n",
            self::mailbox(site),
            secret(),
            every.unwrap_or_default()
        )
    });
    let mailbox = mailbox.unwrap_or_default();
    let (messages, minutes) = own.go_up;
    let (idle, every) = (own.idle().as_secs(), own.every);
    let messages = messages + u64::from(changes % 2);
    format!(
        "[[listener]]\naddress = \"0.0.0.0:{SMTP}\"\npriority = true\n\
         [relay]\nnetworks = [\"10.0.0.0/16\"]\ndomains = [\"{domain}\"]\n\
         [delivery]\nmode = \"smarthost\"\nroutes_in_smarthost_mode = true\n\
         connections_per_destination = {}\n\
         [[delivery.smarthost]]\nhost = \"{provider}\"\ntls = \"none\"\n\
         [[route]]\ndomain = \"{domain}\"\nnext_hop = {next_hop:?}\n\
         [[link]]\nname = \"line\"\nkind = \"command\"\n\
         up = [\"/line/up\"]\ndown = [\"/line/down\"]\nstatus = [\"/line/status\"]\n\
         local = [\"10.0.0.0/16\"]\n\
         dial = {{ pause = \"10s\", tries = 3, series_pause = \"3m\" }}\n\
         go_up = {{ messages = {messages}, age = \"{minutes}m\" }}\n\
         hang_up = {{ idle = \"{idle}s\"{} }}\n{}\
         [[schedule]]\n\
         every = \"{every}m\"\ndo = [\"send\", \"collect\"]\nmay_dial = true\n{collect}{mailbox}",
        plan.connections,
        at_most.unwrap_or_default(),
        budget.unwrap_or_default(),
    )
}
