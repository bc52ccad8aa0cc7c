//! Options of the provider's side: whom we hold mail for.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::addresses::DeliverTo;
use crate::config::declaration::{is, needed, none, options, section, unset};
use crate::config::units::{Bytes, Every};
use crate::route::{Network, Scope};

const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// Whom we hold mail for until they call for it.
    pub struct Customer in "customer" {
        /// A name for logs, metrics and commands.
        name: String = needed();
        /// The domains; ".branch.example" stands for the names below.
        domains: Vec<Scope> = needed();
        /// A name for the queue, for `ETRN #name`.
        queue: Option<String> = unset("the customer's name");
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
        /// How long mail is held before the sender is told that it failed.
        retention: Duration = is(DAY.saturating_mul(20)).within(DAY, DAY.saturating_mul(365));
        /// How much is held.
        quota: Quota = options();
        /// The customer's addresses, one a line. Others are refused, so that we
        /// need not return what the customer's host would refuse.
        recipients_file: Option<PathBuf> = unset("every address is taken");
        /// A program with its arguments that makes the customer's host call.
        wake_command: Vec<String> = none("no command");
    }
}

section! {
    /// What releases a customer's mail.
    pub struct Release in "customer.release" {
        /// ETRN or ATRN after authentication.
        auth: bool = is(true);
        /// ETRN from these addresses without authentication.
        clients: Vec<Network> = none("no addresses");
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
