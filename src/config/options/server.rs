//! Options of the server side: spool, cores, limits, listeners, relaying, admin.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::declaration::{is, needed, none, options, otherwise, section, unset, words};
use crate::config::options::delivery::days;
use crate::config::units::Bytes;
use crate::mail::{Address, Domain};
use crate::route::{Network, Scope};
use crate::smtp::settings::TEXT_RATE_MIN;

section! {
    /// Where mail is kept until it is delivered.
    pub struct SpoolSection in "spool" {
        /// The directory of the spool. It is made when it is not there, belongs to
        /// the user that runs the server, and is read by nobody else.
        directory: Option<PathBuf> = unset("./turnspool-spool; as a service, the service's state directory");
        /// Size of one file of the spool. Larger ones are cheaper under load,
        /// smaller ones are freed sooner.
        segment_size: Bytes = is(Bytes::mib(64)).within(Bytes::mib(1), Bytes::gib(1));
        /// Most that the spool takes on the disk. Above it senders are told to come
        /// back (452); what is in it is still delivered.
        size_max: Option<Bytes> = unset("what the disk can spare")
            .within(Some(Bytes::mib(4)), Some(Bytes::tib(256)));
        /// What is left free on the disk whatever happens.
        free_min: Bytes = is(Bytes::gib(1)).within(Bytes(0), Bytes::tib(256));
    }
}

section! {
    /// What the server may do on this machine.
    pub struct Process in "process" {
        /// Whom the server becomes once its ports are bound, if root starts it. Its
        /// files must be readable by this user: a reload reads them again. A service
        /// manager that starts it as that user does as well.
        user: Option<String> = unset("whoever starts it");
        /// Whether the server gives up writing anywhere but to its spool, its Maildirs,
        /// its log and its sockets, and running programs (Landlock). Where it has
        /// programs to run (pppd, commands), it keeps all its rights, since what it
        /// gives up its programs would lose too.
        sandbox: bool = is(true);
    }
}

section! {
    /// Threads that carry mail. Each has its own spool log.
    pub struct Cores in "cores" {
        /// How many threads.
        data: Option<u8> = unset("one for each CPU").within(Some(1), Some(128));
        /// Whether each stays on its own CPU.
        pin: bool = is(true);
    }
}

section! {
    /// What clients may use. Over a limit they are told to come back.
    pub struct Limits in "limits" {
        /// Sessions at once, of all clients together. One more is answered 421.
        sessions: u32 = is(20_000).small_site(20).within(1, 1_000_000);
        /// Sessions at once from one address.
        sessions_per_client: u32 = is(100).small_site(5).within(1, 1_000_000);
        /// Largest message, as announced by SIZE.
        message_size: Bytes = is(Bytes::mib(50)).within(Bytes::kib(64), Bytes::gib(2));
        /// Octets of a message's text a second that a client brings at least, on the
        /// average behind an allowance of three minutes. Whoever is slower is sent away:
        /// an octet now and then would keep a session, and room in the spool, for ever.
        /// "0B": as slow as it likes, where it is never silent for three minutes.
        text_rate_min: Bytes = is(Bytes(TEXT_RATE_MIN)).within(Bytes(0), Bytes::kib(64));
        /// Recipients of one message. RFC 5321 asks for at least 100.
        recipients: u32 = is(1000).within(100, 100_000);
        /// How long a user may ask for a message to wait before it goes
        /// (FUTURERELEASE, on listeners for submission). "0s": not at all.
        future_release: Duration = is(days(30)).within(Duration::ZERO, days(365));
        /// How long the other end of a connection may give no sign of life before the
        /// connection is given up, and what is under way on it goes another way. What
        /// counts is its TCP, which answers also while a server takes its time: this is
        /// for lines that break. A shorter outage is survived. Not below the three
        /// minutes for a block of data (RFC 5321 section 4.5.3.2.5) without need.
        silence: Duration = is(Duration::from_secs(200))
            .within(Duration::from_secs(5), Duration::from_secs(1800));
    }
}

words! {
    /// What a listener is for.
    pub enum ListenerRole, "a role" {
        /// Mail from other servers and from those who may relay; port 25.
        Mx = "mx",
        /// Mail from users, who must authenticate; ports 587 and 465.
        Submission = "submission",
        /// Customers who call for their mail by ATRN; port 366 (RFC 2645).
        Odmr = "odmr",
    }
}

words! {
    /// TLS on a listener.
    pub enum ListenerTls, "a kind of TLS" {
        /// Never.
        None = "none",
        /// By command (RFC 3207).
        StartTls = "starttls",
        /// From the first octet (RFC 8314).
        Implicit = "implicit",
    }
}

words! {
    /// When a listener listens.
    pub enum ListenWhen, "a time to listen" {
        /// From start to stop.
        Always = "always",
        /// While the link is up.
        LinkUp = "link-up",
        /// Inside the windows of the schedule.
        Schedule = "schedule",
    }
}

section! {
    /// An address that takes mail. Any number of them.
    pub struct ListenerSection in "listener" {
        /// Address and port.
        address: SocketAddr = needed();
        /// What it is for: "mx" takes mail from servers and from those who may
        /// relay, "submission" from users who authenticate, "odmr" serves
        /// customers who call for their mail.
        role: ListenerRole = is(ListenerRole::Mx);
        /// TLS: "none", "starttls" (by command) or "implicit" (from the start).
        tls: ListenerTls = is(ListenerTls::None);
        /// Whether clients may say how urgent their mail is (MT-PRIORITY): it then goes
        /// before other mail. Not for strangers.
        priority: Option<bool> = unset("with role \"submission\" only");
        /// When it listens: "always", "link-up", or "schedule" (inside the windows
        /// of `[[schedule]]`). With the latter two the host need not have the address
        /// before, as with that of a dial-up line.
        when: ListenWhen = is(ListenWhen::Always);
    }
}

section! {
    /// Our certificate. A reload (SIGHUP) reads the files again; sessions that are open
    /// go on.
    pub struct Tls in "tls" {
        /// The certificate with its chain, PEM.
        certificate: PathBuf = needed();
        /// The private key, PEM, in a file of mode 0600, or the name of a systemd
        /// credential.
        key: PathBuf = needed();
        /// Authorities, PEM. Clients may show a certificate by one of them, and are
        /// known by the name in it. Who shows none, or another, is served all the same.
        client_ca: Option<PathBuf> = unset("no client is asked for a certificate");
    }
}

section! {
    /// Who may send, and to where.
    pub struct Relay in "relay" {
        /// Clients that may send to anywhere.
        networks: Vec<Network> = otherwise(loopback(), "this machine only");
        /// Domains to which anybody may send, because we are their mail server or
        /// its backup. Each needs a `[[route]]`. The domains of `[[customer]]` are
        /// among them without being written here.
        domains: Vec<Scope> = none("no domains");
        /// Users who may authenticate and then send to anywhere: a file of mode 0600,
        /// or the name of a systemd credential. `turnspool user add FILE NAME` writes it.
        users_file: Option<PathBuf> = unset("nobody authenticates");
    }
}

section! {
    /// Mail to ourselves that lets held mail go. It is accepted, answered and thrown away,
    /// whoever it is from; what it has released stands in the log.
    pub struct WakeUp in "wakeup" {
        /// Where it goes: to wakeup+branch.example@spool.isp.example it names the domain
        /// (or #queue) itself, to wakeup@spool.isp.example the first word of the Subject
        /// does. Who may is said by `release` of the customer.
        address: Option<Address> = unset("no wake-up mail");
        /// At these domains `null` is nobody: mail to null@ is thrown away, and mail to
        /// null%branch.example@ is a wake-up mail for branch.example.
        null_at: Vec<Domain> = none("nowhere");
    }
}

/// 127.0.0.0/8 and ::1.
fn loopback() -> Vec<Network> {
    ["127.0.0.0/8", "::1/128"]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

section! {
    /// How `turnspool queue` and its like reach the server.
    pub struct Admin in "admin" {
        /// A Unix socket. Who may open it may do everything, so it is made with
        /// mode 0600.
        socket: Option<PathBuf> = unset("admin.sock in the spool's directory");
        /// Where the web page is served, with `/metrics` for Prometheus, `/healthz` and
        /// `/readyz`: an address with a port, such as "127.0.0.1:8025". On a loopback
        /// address whoever is on this machine may look; to act takes the token, which
        /// `turnspool web` prints. On another address looking takes it too, and it must
        /// be in a file of your own. There is no TLS: put a proxy before it.
        web: Option<SocketAddr> = unset("no web page");
        /// A file of mode 0600 with the token of the web page on its first line, at
        /// least 16 characters; or the name of a systemd credential.
        web_token_file: Option<PathBuf> = unset("web-token in the spool's directory, made at the first start");
    }
}

words! {
    /// How a line of the log is written.
    pub enum LogFormat, "a log format" {
        /// For people.
        Text = "text",
        /// For programs: one object a line.
        Json = "json",
    }
}

section! {
    /// What is written about the work.
    pub struct Log in "log" {
        /// "text" or "json".
        format: LogFormat = is(LogFormat::Text);
        /// "stderr", "journald", or the path of a file.
        to: String = is("stderr".to_owned());
        /// More detail for a component. `turnspool log detail` changes it while the
        /// server runs. Bodies and passwords never appear.
        detail: LogDetail = options();
    }
}

section! {
    /// More detail for a component.
    pub struct LogDetail in "log.detail" {
        /// Each command and reply of each SMTP session.
        smtp: bool = is(false);
        /// Each question and answer of DNS.
        dns: bool = is(false);
        /// Each step of the link.
        link: bool = is(false);
    }
}
