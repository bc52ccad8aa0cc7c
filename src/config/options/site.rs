//! Options of the site's side: link, collecting, schedule.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::addresses::{AddressPair, HostPort};
use crate::config::declaration::{is, needed, none, options, otherwise, section, unset, words};
use crate::config::options::server::ListenerTls;
use crate::config::units::{Bytes, Money, TimeOfDay, Weekdays};
use crate::mail::{Address, Domain};
use crate::route::Network;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DAY: Duration = Duration::from_secs(86_400);

words! {
    /// How the link is brought up.
    pub enum LinkKind, "a kind of link" {
        /// Always up.
        Permanent = "permanent",
        /// `pppd call ENTRY`.
        Pppd = "pppd",
        /// A connection of NetworkManager.
        NetworkManager = "networkmanager",
        /// Our own commands.
        Command = "command",
        /// Somebody else dials, we watch the interface.
        External = "external",
        /// A router dials when there is traffic.
        OnDemand = "on-demand",
    }
}

words! {
    /// What is done with a connection that is up already.
    pub enum Existing, "a rule for existing connections" {
        /// Dial all the same.
        Ignore = "ignore",
        /// Use it if it is the one named by `entry`.
        Selected = "selected",
        /// Use it.
        Any = "any",
    }
}

section! {
    /// How this site gets on line.
    pub struct Link in "link" {
        /// A name for logs and commands.
        name: String = needed();
        /// "permanent", "pppd", "networkmanager", "command", "external", or
        /// "on-demand".
        kind: LinkKind = needed();
        /// For pppd the peer's name (pppd call NAME), for networkmanager the
        /// connection's, for the others the interface's: external needs it, for
        /// permanent, command and on-demand it is where octets are counted.
        entry: Option<String> = unset("none");
        /// For kind "command": the program that brings the link up, with its
        /// arguments.
        up: Vec<String> = none("none");
        /// For kind "command": the program that takes it down, or ends an `up` that is
        /// under way or took too long. It is run too when `status` fails for a link that
        /// `up` has brought up.
        down: Vec<String> = none("none");
        /// For kind "command": the program that succeeds while it is up.
        status: Vec<String> = none("none");
        /// What is done with a connection that is up already: "ignore",
        /// "selected" (use it if it is the one named by `entry`), or "any".
        existing: Existing = is(Existing::Selected);
        /// A user name to dial with, in place of the entry's.
        user: Option<String> = unset("the entry's");
        /// A file of mode 0600 with the password on its first line, or the name of
        /// a systemd credential.
        password_file: Option<PathBuf> = unset("the entry's");
        /// Networks whose hosts are reached without the link: mail for a `[[route]]` to
        /// an address there does not wait for it.
        local: Vec<Network> = none("this machine and private addresses");
        /// How often is dialled.
        dial: Dial = options();
        /// What makes the link come up besides the schedule.
        go_up: GoUp = options();
        /// When the link is taken down.
        hang_up: HangUp = options();
        /// What the link may cost.
        budget: Option<Budget> = unset("no limit");
    }
}

section! {
    /// How often is dialled.
    pub struct Dial in "link.dial" {
        /// Between two tries.
        pause: Duration = is(seconds(30)).within(seconds(1), DAY);
        /// Tries of one series.
        tries: u32 = is(5).within(1, 1000);
        /// Between two series.
        series_pause: Duration = is(seconds(900)).within(seconds(1), DAY);
    }
}

section! {
    /// What makes the link come up besides the schedule.
    pub struct GoUp in "link.go_up" {
        /// So many messages wait.
        messages: Option<u32> = unset("not by number").within(Some(1), Some(100_000_000));
        /// So many octets wait.
        bytes: Option<Bytes> = unset("not by size").within(Some(Bytes(1)), Some(Bytes::tib(256)));
        /// The oldest has waited so long.
        age: Option<Duration> = unset("not by age").within(Some(seconds(1)), Some(DAY * 365));
        /// A message of at least this priority (MT-PRIORITY, -9 to 9) is there.
        priority: Option<i8> = unset("not by priority").within(Some(-9), Some(9));
    }
}

section! {
    /// When the link is taken down. One that we did not bring up is left alone.
    pub struct HangUp in "link.hang_up" {
        /// After so long without work.
        idle: Duration = is(seconds(60)).within(seconds(1), DAY);
        /// After so long in any case.
        at_most: Option<Duration> = unset("no limit").within(Some(seconds(10)), Some(DAY * 365));
    }
}

words! {
    /// What a budget is for.
    pub enum BudgetPeriod, "a period" {
        /// Each time that the link is up.
        Window = "window",
        /// Each day.
        Day = "day",
        /// Each month.
        Month = "month",
    }
}

section! {
    /// What the link may cost. At the limit it is taken down between two messages.
    pub struct Budget in "link.budget" {
        /// "window", "day" or "month".
        per: BudgetPeriod = needed();
        /// Seconds on line.
        seconds: Option<u32> = unset("no limit").within(Some(1), Some(31 * 86_400));
        /// Octets in both directions.
        bytes: Option<Bytes> = unset("no limit").within(Some(Bytes::kib(1)), Some(Bytes::tib(256)));
        /// Price of a minute.
        cost_per_minute: Option<Money> = unset("not counted");
        /// Most that may be spent.
        cost_max: Option<Money> = unset("no limit");
    }
}

words! {
    /// How this site asks for its mail.
    pub enum CollectKind, "a way to collect" {
        /// ETRN (RFC 1985): the provider calls back.
        Etrn = "etrn",
        /// ATRN (RFC 2645): over the same connection.
        Atrn = "atrn",
        /// A message to the provider.
        Wakeup = "wakeup",
        /// From a mailbox.
        Pop3 = "pop3",
        /// By a program of the site.
        Command = "command",
    }
}

words! {
    /// What is done with a message above `size_max`.
    pub enum Oversize, "a rule for large messages" {
        /// The user is told, with the header.
        Notice = "notice",
        /// It stays where it is.
        Skip = "skip",
        /// It waits for a window of the schedule.
        Window = "window",
    }
}

words! {
    /// Where the recipients of a domain mailbox are looked for.
    pub enum MailboxSource, "a place for recipients" {
        /// Fields in which the provider wrote the envelope's recipient.
        Envelope = "envelope",
        /// `for` of Received lines.
        Received = "received",
        /// Resent-To, Resent-Cc, Resent-Bcc.
        Resent = "resent",
        /// To, Cc, Bcc.
        Header = "header",
    }
}

section! {
    /// How this site gets its own mail.
    pub struct Collect in "collect" {
        /// A name for logs and commands.
        name: Option<String> = unset("user@host of the server, or the kind");
        /// "etrn", "atrn", "wakeup", "pop3", or "command".
        kind: CollectKind = needed();
        /// The provider's server. Without a port: 25 for etrn, 366 for atrn, 110 or 995
        /// for pop3.
        server: Option<HostPort> = unset("none");
        /// For etrn and atrn: servers that are asked when that one does not talk to us,
        /// in this order.
        fallback: Vec<HostPort> = none("none");
        /// For etrn and atrn: what is asked for. Domains; for etrn also @domains (with
        /// all names below) and #queues. After atrn the provider may send mail for these
        /// and nothing else.
        names: Vec<String> = none("none");
        /// For wakeup: the provider's address. The message goes through the queue, over
        /// the same connection as other mail.
        to: Option<Address> = unset("none");
        /// For wakeup: who sends it.
        from: Option<Address> = unset("postmaster@ our hostname");
        /// For kind "command": the program, with its arguments. It is run without a
        /// shell, finds the collector's name in TURNSPOOL_COLLECTOR, and may take an
        /// hour.
        command: Vec<String> = none("none");
        /// How long the link stays up for mail that the provider sends after an etrn,
        /// a wakeup or a command. When the provider's sessions are over it is waited no
        /// longer.
        wait: Duration = is(seconds(60)).within(Duration::ZERO, DAY);
        /// For etrn, wakeup and command: networks from which the provider calls, if that is
        /// not the server that was asked. With it, nobody else is taken for the provider.
        callers: Vec<Network> = none("the server asked, and who brings mail for `names`");
        /// TLS towards the server: "none", "starttls" or "implicit". Its certificate is
        /// checked against the authorities that this system trusts.
        tls: ListenerTls = is(ListenerTls::None);
        /// The user name.
        user: Option<String> = unset("no authentication");
        /// A file of mode 0600 with the password on its first line, or the name of
        /// a systemd credential.
        password_file: Option<PathBuf> = unset("no authentication");
        /// For a mailbox of one user: the address that its mail is for.
        recipient: Option<Address> = unset("that of a domain_mailbox");
        /// For a mailbox that holds the mail of a whole domain.
        domain_mailbox: Option<DomainMailbox> = unset("the mailbox of one user");
        /// Addresses that are another's: "info@branch.example = anna@branch.example".
        aliases: Vec<AddressPair> = none("none");
        /// How often it is done by itself, whatever the schedule says. With a link: it is
        /// brought up for it. Each time that a link comes up it is done anyway, unless
        /// the schedule has brought it up for something else.
        every: Option<Duration> = unset("only by schedule and command").within(Some(seconds(10)), Some(DAY * 7));
        /// How long messages stay on the server after they are here.
        keep: Duration = is(Duration::ZERO).within(Duration::ZERO, DAY * 365);
        /// How long a copy of each collected message is kept, in days: in a Maildir
        /// below `copies` in the spool's directory, which has the collector's name (what is
        /// no letter, digit, dot, `-` or `_` becomes `_`). "0d": no copies.
        safe_copy: Duration = is(Duration::ZERO).within(Duration::ZERO, DAY * 365);
        /// Above this size `oversize` decides.
        size_max: Option<Bytes> = unset("no limit").within(Some(Bytes::kib(1)), Some(Bytes::gib(2)));
        /// What is done with a larger message: "notice" (the user is told, with its
        /// header), "skip", or "window" (it waits for a row of the schedule with
        /// "collect-large"). It stays on the server; `turnspool collect --large` collects
        /// it in any case.
        oversize: Oversize = is(Oversize::Notice);
    }
}

section! {
    /// For a mailbox that holds the mail of a whole domain.
    pub struct DomainMailbox in "collect.domain_mailbox" {
        /// Our domains.
        domains: Vec<Domain> = needed();
        /// Header fields that hold the envelope's recipient, in this order.
        envelope: Vec<String> = otherwise(
            vec!["Delivered-To".to_owned(), "X-Original-To".to_owned(), "Envelope-To".to_owned()],
            "the usual ones",
        );
        /// Which of several fields of one name, from above: 1 is the uppermost.
        occurrence: u32 = is(1).within(1, 100);
        /// What the provider puts before the local-part there.
        strip_prefix: Option<String> = unset("nothing");
        /// Where recipients are looked for, in this order: "envelope" (those fields),
        /// "received" (the `for` of Received lines), "resent" (Resent-To, -Cc, -Bcc),
        /// "header" (To, Cc, Bcc).
        sources: Vec<MailboxSource> = otherwise(
            vec![
                MailboxSource::Envelope,
                MailboxSource::Received,
                MailboxSource::Resent,
                MailboxSource::Header,
            ],
            "all, in this order",
        );
        /// Received lines from above that are not looked at: those of the provider
        /// behind the point at which the mail was put into the mailbox.
        received_skipped: u32 = is(0).within(0, 100);
        /// A message with the same Message-ID for the same recipient is taken once
        /// within this time: providers store a copy for each recipient. "0d": each time.
        duplicates: Duration = is(DAY * 7).within(Duration::ZERO, DAY * 365);
        /// Who gets what is for nobody else.
        default: Address = needed();
    }
}

words! {
    /// What a row of the schedule does.
    pub enum Action, "something to do" {
        /// Delivers what waits.
        Send = "send",
        /// Runs all collectors.
        Collect = "collect",
        /// Runs those of kind pop3, with what waits there for a cheap window.
        CollectLarge = "collect-large",
        /// Runs those of kind etrn.
        Etrn = "etrn",
        /// Runs those of kind atrn.
        Atrn = "atrn",
        /// Runs those of kind wakeup.
        Wakeup = "wakeup",
    }
}

section! {
    /// When this site goes on line of itself. Times are local.
    pub struct Schedule in "schedule" {
        /// Days: "mon-fri", "sat,sun".
        days: Weekdays = is(Weekdays::ALL);
        /// The window begins.
        from: TimeOfDay = is(TimeOfDay::MIDNIGHT);
        /// The window ends. Before `from`: on the next day.
        to: TimeOfDay = is(TimeOfDay::END);
        /// How often within the window.
        every: Option<Duration> = unset("at the times of `at`").within(Some(seconds(60)), Some(DAY));
        /// Exact times.
        at: Vec<TimeOfDay> = none("by `every`");
        /// What is done: "send", "collect", or only one kind of collecting: "etrn",
        /// "atrn", "wakeup", "collect-large" (pop3, with the large messages that
        /// `oversize = "window"` leaves there at other times).
        r#do: Vec<Action> = otherwise(vec![Action::Send, Action::Collect], "everything");
        /// Whether the link may be brought up for this. Otherwise it is done only
        /// while the link is up.
        may_dial: bool = is(true);
    }
}
