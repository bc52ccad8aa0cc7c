//! Options of the provider's side: whom we hold mail for.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::addresses::DeliverTo;
use crate::config::declaration::{is, needed, none, options, section, unset};
use crate::config::retention::Retention;
use crate::config::units::{Bytes, Every};
use crate::mail::Address;
use crate::route::{CustomerName, Network, Scope};

const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// Whom we hold mail for until they call for it.
    pub struct Customer in "customer" {
        /// A name for logs, metrics and commands.
        name: CustomerName = needed();
        /// The domains; ".branch.example" stands for the names below.
        domains: Vec<Scope> = needed();
        /// A name for the queue, for `ETRN #name`.
        queue: Option<CustomerName> = unset("the customer's name");
        /// Where the mail goes when it is released: a host, "mx", or "caller" (the
        /// address that called, after authentication only).
        deliver_to: DeliverTo = needed();
        /// What releases the mail.
        release: Release = options();
        /// The user name of the customer's host.
        user: Option<String> = unset("no authentication");
        /// A file of mode 0600 with the password on its first line, or the name of
        /// a systemd credential.
        password_file: Option<PathBuf> = unset("no authentication");
        /// How long mail is held before the sender is told that it failed: a time of 1 to
        /// 365 days since it arrived, or { windows = 5 }: until so many of the attempts of
        /// `release.every` in a row have not reached the customer's host. Windows are
        /// counted from the start of the server, so that those in which it was down do not
        /// count; four times as long as they all last ends it in any case.
        retention: Retention = is(Retention::Age(DAY.saturating_mul(20)));
        /// After this long the sender is told that the mail waits; "0s": never.
        warn: Duration = is(Duration::ZERO).within(Duration::ZERO, DAY.saturating_mul(365));
        /// How much is held.
        quota: Quota = options();
        /// The customer's addresses, one a line: bob@branch.example; bob, at all of the
        /// domains; @branch.example, all of a domain. Others are refused, so that we need not
        /// return what the customer's host would refuse; bob+news is bob, and postmaster
        /// is always there. A change of the file holds within seconds, without a reload;
        /// while it has a fault, or is gone, what was read before holds.
        recipients_file: Option<PathBuf> = unset("every address is taken");
        /// Whether the customer's host is asked about each recipient before it is taken, by
        /// MAIL FROM:<> and RCPT. What it says is remembered, a yes for a day and a no for a
        /// quarter of an hour, and longer for when it is away: a yes for 31 days and a no
        /// for one, also over a restart. Then those are taken of which nothing is known.
        call_ahead: bool = is(false);
        /// Whom to ask about this customer. It is written to the log with what concerns
        /// the customer, and mail is never sent there by itself.
        contact: Option<Address> = unset("nobody");
        /// A program with its arguments that makes the customer's host call, or its link
        /// come up. It is run for a release of what waits, by hand, by `release.every` or
        /// by `wake_for`; when it has succeeded the mail is let go, and tried for about five
        /// minutes until the host can be reached.
        wake_command: Vec<String> = none("no command");
        /// When it is run for mail that has arrived, too.
        wake_for: WakeFor = options();
    }
}

section! {
    /// When `wake_command` is run for mail that has arrived: each of these alone is
    /// enough. It is not run while the customer's mail is on its way. Whatever waits is
    /// counted, what an operator holds, too.
    pub struct WakeFor in "customer.wake_for" {
        /// So many messages wait.
        messages: Option<u32> = unset("not by number").within(Some(1), Some(100_000_000));
        /// So many octets wait.
        bytes: Option<Bytes> = unset("not by size").within(Some(Bytes(1)), Some(Bytes::tib(256)));
        /// The oldest has waited so long.
        age: Option<Duration> = unset("not by age").within(Some(Duration::from_secs(1)), Some(DAY.saturating_mul(365)));
        /// A message of at least this priority (MT-PRIORITY, -9 to 9) is there.
        priority: Option<i8> = unset("not by priority").within(Some(-9), Some(9));
        /// At most once in this time, whether it has helped or not: a line is paid for by
        /// the call.
        pause: Duration = is(Duration::from_secs(900)).within(Duration::from_secs(10), DAY.saturating_mul(365));
    }
}

section! {
    /// What releases a customer's mail.
    pub struct Release in "customer.release" {
        /// ETRN or ATRN after authentication.
        auth: bool = is(true);
        /// ETRN from anybody: the mail goes to `deliver_to`, whoever asks for it.
        open: bool = is(false);
        /// ETRN from these addresses without authentication.
        clients: Vec<Network> = none("no addresses");
        /// A file of mode 0600, or the name of a systemd credential: a wake-up mail (see
        /// `[wakeup]`) that has what stands on its first line, 12 octets or more without
        /// a space, as a word of its Subject releases the mail wherever it comes from.
        wakeup_secret_file: Option<PathBuf> = unset("by source only, as ETRN");
        /// A session from one of these addresses, without any command.
        on_connect: bool = is(false);
        /// And also an attempt every so often, or "never".
        every: Every = is(Every::Never);
    }
}

section! {
    /// How much is held for a customer. Over it senders are told to come back.
    pub struct Quota in "customer.quota" {
        /// Octets of messages.
        bytes: Bytes = is(Bytes::gib(1)).within(Bytes::mib(1), Bytes::tib(256));
        /// Number of messages.
        messages: u32 = is(100_000).within(1, 100_000_000);
    }
}
