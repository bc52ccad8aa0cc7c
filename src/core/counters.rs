//! What a data core counts, for the operator and the metrics.

/// One place that names each counter: a field, and the name under which the
/// operator sees it.
macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)+) => {
        /// Counters of one data core since its start. They only grow.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl Counters {
            /// Each counter with its name, in the order of their definition.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Sessions that were greeted.
    sessions,
    /// Connections that got a 421 instead of a greeting.
    sessions_turned_away,
    /// Clients that authenticated.
    logins,
    /// Clients that failed to.
    logins_failed,
    /// Clients that were not let try, because they had failed too often.
    logins_banned,
    /// Recipients that were refused at RCPT.
    recipients_refused,
    /// Of those, recipients that their customer's list does not have.
    recipients_unknown,
    /// Recipients of which the site was asked, or what it had said before was looked up.
    recipients_asked,
    /// Recipients that were told to come back since their customer's quota is reached.
    recipients_over_quota,
    /// Messages that were committed and answered 250.
    messages_accepted,
    /// Octets of bodies of those, trace header included.
    octets_accepted,
    /// Messages refused with 452 for want of room.
    messages_without_room,
    /// Messages that were begun and not sealed: refused, cut off, or over a limit.
    messages_abandoned,
    /// Customers that called by ATRN and got their mail over that connection.
    turns,
    /// Customers that called by ATRN and were refused, or had no mail.
    turns_refused,
    /// Writes to the log.
    writes,
    /// Octets of those.
    octets_written,
    /// Syncs of the log: group commits.
    flushes,
    /// Connections opened for delivery.
    connections_out,
    /// Messages of which the next hop took at least one recipient.
    messages_delivered,
    /// Octets of bodies of those.
    octets_delivered,
    /// Recipients that the next hop took.
    recipients_delivered,
    /// Attempts that ended with "later".
    recipients_deferred,
    /// Recipients that failed for good.
    recipients_failed,
    /// Messages that had nobody left to go to.
    messages_finished,
    /// Notifications written.
    notifications,
    /// Messages copied forward out of old segments.
    messages_carried,
    /// Segments that became free.
    segments_freed,
}
