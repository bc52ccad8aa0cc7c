//! Options of delivery: DNS, mode, smarthosts, routes, retry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::addresses::NextHop;
use crate::config::declaration::{is, needed, none, section, unset, words};
use crate::config::units::Bytes;
use crate::mail::Address;
use crate::route::{HostName, Scope};

/// So many minutes.
const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// So many hours.
const fn hours(n: u64) -> Duration {
    minutes(n * 60)
}

/// So many days.
pub(super) const fn days(n: u64) -> Duration {
    hours(n * 24)
}

section! {
    /// How names are resolved.
    pub struct Dns in "dns" {
        /// DNS servers.
        servers: Vec<SocketAddr> = none("the system's");
        /// Whether the system's servers are asked when none of these answers.
        fallback_to_system: bool = is(true);
    }
}

words! {
    /// How mail leaves that has no static route.
    pub enum DeliveryModeWord, "a mode" {
        /// By MX records.
        Mx = "mx",
        /// To a smarthost.
        Smarthost = "smarthost",
        /// By MX records, and to a smarthost after that has failed.
        MxThenSmarthost = "mx-then-smarthost",
    }
}

section! {
    /// How mail leaves.
    pub struct Delivery in "delivery" {
        /// For mail without a static route: "mx" (by DNS), "smarthost", or
        /// "mx-then-smarthost": by DNS, and to the smarthost while none of the
        /// domain's hosts can be reached or greets us, or its name servers do not
        /// answer. What a host refuses for good is returned and not tried there.
        mode: DeliveryModeWord = is(DeliveryModeWord::Mx);
        /// Connections at once, all destinations together. With 1 it is strictly
        /// one message after the other.
        connections: u32 = is(20).small_site(2).within(1, 10_000);
        /// Connections at once to one destination.
        connections_per_destination: u32 = is(5).small_site(2).within(1, 10_000);
        /// Whether static routes count in smarthost mode too. Without it the
        /// smarthost gets everything.
        routes_in_smarthost_mode: bool = is(false);
        /// The port of mail exchangers: 25 on the Internet. Another one is for tests and
        /// for networks of one's own.
        mx_port: u16 = is(25).within(1, u16::MAX);
        /// A server that takes all our mail. Several are tried in their order.
        smarthost: Vec<SmarthostSection> = none("no smarthost");
    }
}

words! {
    /// TLS towards a server.
    pub enum SmarthostTls, "a kind of TLS" {
        /// Never.
        None = "none",
        /// If it is offered, whatever the certificate.
        Opportunistic = "opportunistic",
        /// Or no mail; whatever the certificate.
        Required = "required",
        /// Or no mail, and with a certificate for the name.
        Verified = "verified",
    }
}

words! {
    /// How a server knows us.
    pub enum SmarthostAuth, "a way to authenticate" {
        /// By user and password_file, if they are given.
        Password = "password",
        /// By our certificate.
        External = "external",
    }
}

section! {
    /// A server that takes all our mail. Several are tried in their order.
    pub struct SmarthostSection in "delivery.smarthost" {
        /// Name or address. A name means its addresses, not its MX.
        host: HostName = needed();
        /// Where it listens.
        port: u16 = is(25).within(1, u16::MAX);
        /// "none", "opportunistic" (if it is offered; in clear if that fails),
        /// "required", or "verified" (with a certificate for its name, by an authority
        /// that this system trusts; SSL_CERT_FILE names others).
        tls: SmarthostTls = is(SmarthostTls::Opportunistic);
        /// Whether TLS begins before the greeting (RFC 8314) instead of by STARTTLS.
        implicit_tls: Option<bool> = unset("true for port 465");
        /// Our certificate with its chain, PEM, if it is to know us by one.
        certificate: Option<PathBuf> = unset("we show no certificate");
        /// The private key of that certificate, PEM, in a file of mode 0600, or the
        /// name of a systemd credential.
        key: Option<PathBuf> = unset("we show no certificate");
        /// How we say who we are: "password" (by user and password_file, if they are
        /// there) or "external": by our certificate (AUTH EXTERNAL). Then user is whom
        /// we want to act as, if not the one whom the certificate names.
        auth: SmarthostAuth = is(SmarthostAuth::Password);
        /// The user name, if it wants one. The strongest mechanism that it offers is
        /// used; without TLS only those that keep the password off the line.
        user: Option<String> = unset("no authentication");
        /// A file of mode 0600 with the password on its first line, or the name of
        /// a systemd credential.
        password_file: Option<PathBuf> = unset("no authentication");
    }
}

section! {
    /// A domain with a way of its own. The longest match counts.
    pub struct RouteSection in "route" {
        /// "branch.example", or ".branch.example" for all names below it.
        domain: Scope = needed();
        /// smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///PATH/OF/A/SOCKET, maildir:/PATH,
        /// hold (until it is released), discard, or mx (by DNS, whatever the mode is).
        /// By smtp: and mx TLS is used where it is offered, and by lmtp: never.
        /// In the path of a Maildir {local} and {domain} stand for the recipient's.
        next_hop: NextHop = needed();
        /// Connections at once to this next hop.
        connections: Option<u32> = unset("as in [delivery]").within(Some(1), Some(10_000));
        /// When its mail is tried again.
        retry: Option<RouteRetry> = unset("as in [retry]");
    }
}

section! {
    /// When mail of one route is tried again. What is left out is as in `[retry]`.
    pub struct RouteRetry in "route.retry" {
        /// How many tries before giving up. Needs `every`.
        tries: Option<u32> = unset("as in [retry]").within(Some(1), Some(10_000));
        /// Time between tries. Needs `tries`.
        every: Option<Duration> = unset("as in [retry]")
            .within(Some(Duration::from_secs(1)), Some(days(7)));
        /// The first interval.
        first: Option<Duration> = unset("as in [retry]")
            .within(Some(Duration::from_secs(1)), Some(days(7)));
        /// By how much each interval is longer than the one before.
        factor: Option<f64> = unset("as in [retry]").within(Some(1.0), Some(10.0));
        /// The longest interval.
        longest: Option<Duration> = unset("as in [retry]")
            .within(Some(Duration::from_secs(1)), Some(days(7)));
        /// When the sender is told that it has failed for good, from arrival on.
        give_up: Option<Duration> = unset("as in [retry]").within(Some(minutes(1)), Some(days(365)));
        /// When the sender is told that it is late, from arrival on. "0s": never.
        warn: Option<Duration> = unset("as in [retry]").within(Some(Duration::ZERO), Some(days(365)));
    }
}

section! {
    /// When a delivery that failed is tried again, and until when. Either growing
    /// intervals (first, factor, longest, give_up) or a number of tries (tries,
    /// every).
    pub struct Retry in "retry" {
        /// How many tries before giving up. With this, `every` is the interval.
        tries: Option<u32> = unset("until give_up").small_site(Some(5)).within(Some(1), Some(10_000));
        /// Time between tries.
        every: Option<Duration> = unset("growing intervals").small_site(Some(minutes(5)))
            .within(Some(Duration::from_secs(1)), Some(days(7)));
        /// The first interval.
        first: Duration = is(minutes(10)).within(Duration::from_secs(1), days(7));
        /// By how much each interval is longer than the one before.
        factor: f64 = is(2.0).within(1.0, 10.0);
        /// The longest interval.
        longest: Duration = is(hours(4)).within(Duration::from_secs(1), days(7));
        /// When the sender is told that it has failed for good, from arrival on.
        give_up: Duration = is(days(5)).within(minutes(1), days(365));
        /// When the sender is told that it is late, from arrival on. "0s": never.
        warn: Duration = is(hours(4)).within(Duration::ZERO, days(365));
    }
}

section! {
    /// How senders are told that their mail is late, or has failed.
    pub struct NotifySection in "notify" {
        /// How many of these messages one address gets in a minute. What is to be told
        /// beyond that waits, and is told in one message.
        per_minute: u32 = is(30).within(1, 1_000_000);
        /// Who gets a copy of what senders are told of failures.
        postmaster: Option<Address> = unset("nobody");
        /// The largest message that is returned whole where its sender asks for that
        /// (RET=FULL). Of others the header fields are returned. "0B": always those.
        whole_message_max: Bytes = is(Bytes::kib(64)).within(Bytes(0), Bytes::mib(10));
    }
}
