//! The sentence of each fact.

use std::fmt;

use super::release::Messages;
use super::{Ending, Escaped, Fact, TurnedAway};
use crate::user::UserName;

/// The sentence. The queue id is not in it: it is a field of its own.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started {
                listeners,
                data_cores,
                spool,
                rights,
            } => {
                write!(f, "ready: listening on ")?;
                for (i, listener) in listeners.iter().enumerate() {
                    write!(f, "{}{listener}", if i == 0 { "" } else { ", " })?;
                }
                write!(
                    f,
                    "; {data_cores} data cores; spool in {}; {rights}",
                    Escaped(spool)
                )
            }
            Self::Recovered {
                log,
                messages,
                segments,
                took,
            } => write!(
                f,
                "log {}: {} waiting in {segments} segments, read in {} ms",
                log.0,
                Messages(*messages as u64),
                took.as_millis()
            ),
            Self::SpoolDamaged { log, what } => write!(f, "log {}: {}", log.0, Escaped(what)),
            Self::LogClosed { log, why } => write!(
                f,
                "log {}: a write to the spool failed ({}); new mail is answered 451, waiting mail \
                 is still delivered; look at the disk, then restart",
                log.0,
                Escaped(why)
            ),
            Self::SegmentFailed { log, segment, why } => write!(
                f,
                "log {}: preparing segment {} failed ({}); tried again soon, new mail is \
                 answered 452 when the present segment is full",
                log.0,
                segment.0,
                Escaped(why)
            ),
            Self::Room {
                log,
                full: Some(why),
            } => write!(
                f,
                "log {}: {}; new mail is answered 452, waiting mail is still delivered",
                log.0,
                Escaped(why)
            ),
            Self::Room { log, full: None } => {
                write!(f, "log {}: there is room again; new mail is taken", log.0)
            }
            Self::TurnedAway { peer, why } => match why {
                TurnedAway::SessionsFull => {
                    write!(f, "{peer}: answered 421, limits.sessions are open")
                }
                TurnedAway::ClientFull => write!(
                    f,
                    "{peer}: answered 421, limits.sessions_per_client are open from there"
                ),
                TurnedAway::Stopping => write!(f, "{peer}: answered 421, the server is stopping"),
            },
            Self::Turned {
                customer,
                peer,
                cores,
            } => write!(
                f,
                "{peer}: {} called by ATRN and gets its mail, held on {cores} data cores",
                Escaped(customer)
            ),
            Self::TurnOver {
                customer,
                peer,
                messages,
                trouble,
            } => {
                write!(
                    f,
                    "{peer}: {} took {}",
                    Escaped(customer),
                    Messages(*messages)
                )?;
                match trouble {
                    Some(why) => write!(f, ", then {}; the rest is held again", Escaped(why)),
                    None => Ok(()),
                }
            }
            Self::Awaited { collector, awaited } => {
                write!(f, "collector {}: {awaited}", Escaped(collector))
            }
            Self::PutOff { collector, runs_in } => write!(
                f,
                "collector {}: the server wants a pause between two logins (LOGIN-DELAY); it runs \
                 in {} s if a link is up then, or else with the next one",
                Escaped(collector),
                runs_in.as_secs().max(1)
            ),
            Self::Pruned(pruned) => pruned.fmt(f),
            Self::SessionEnded { peer, why } => write!(f, "{peer}: {}", Escaped(why)),
            Self::Refused { peer, reply, what } => {
                write!(f, "{peer}: {} answered {}", Escaped(what), Escaped(reply))
            }
            Self::LoggedIn {
                peer,
                user,
                mechanism,
            } => write!(
                f,
                "{peer}: authenticated as {} by {mechanism}",
                Escaped(user.as_str())
            ),
            Self::LoginFailed {
                peer,
                user,
                mechanism,
            } => {
                let user = user.as_ref().map_or("(no user name)", UserName::as_str);
                write!(
                    f,
                    "{peer}: authentication as {} by {mechanism} failed, answered 535",
                    Escaped(user)
                )
            }
            Self::LoginsBanned { client, duration } => write!(
                f,
                "{client}: failed to authenticate too often; AUTH from there is answered 421 for \
                 {} s",
                duration.as_secs()
            ),
            Self::Accepted {
                reverse_path,
                recipients,
                octets,
                client,
                ..
            } => {
                let plural = if *recipients == 1 { "" } else { "s" };
                write!(
                    f,
                    "from {reverse_path}, {recipients} recipient{plural}, {octets} octets"
                )?;
                match client {
                    Some(client) => write!(f, ", by {client}"),
                    None => write!(f, ", our own notification"),
                }
            }
            Self::Collected(run) => run.fmt(f),
            Self::Recipient {
                forward_path,
                ending,
                host,
                reply,
                age,
                ..
            } => {
                write!(f, "{forward_path} ")?;
                match ending {
                    Ending::Delivered => write!(f, "delivered")?,
                    Ending::Deferred => write!(f, "deferred")?,
                    Ending::Failed => write!(f, "failed")?,
                    Ending::Discarded => write!(f, "discarded")?,
                }
                // Who was given up for want of a host has none.
                if !host.is_empty() {
                    let word = if *ending == Ending::Delivered {
                        "to"
                    } else {
                        "at"
                    };
                    write!(f, " {word} {}", Escaped(host))?;
                }
                write!(f, " after {:.3} s", age.as_secs_f64())?;
                // Nobody said anything of what was thrown away.
                match reply.as_str() {
                    "" => Ok(()),
                    reply => write!(f, ": {}", Escaped(reply)),
                }
            }
            Self::Finished { .. } => write!(f, "all recipients are dealt with"),
            Self::Notified { notification, .. } => {
                write!(f, "the sender is told by {notification}")
            }
            Self::Unreachable {
                next_hop,
                why,
                next_attempt_in,
            } => write!(
                f,
                "{}: {}; its mail waits, next attempt in {} s",
                Escaped(next_hop),
                Escaped(why),
                // Half a second is no "0 s".
                next_attempt_in.as_millis().div_ceil(1000)
            ),
            Self::Reachable { next_hop } => {
                write!(f, "{}: takes mail again", Escaped(next_hop))
            }
            Self::LoginRefused { host, why } => write!(
                f,
                "{}: {}; no mail goes there, and none is lost; look at its user and \
                 password_file, then reload",
                Escaped(host),
                Escaped(why)
            ),
            Self::DeliveryBroken { why } => write!(f, "{}", Escaped(why)),
            Self::Release(release) => release.fmt(f),
            Self::ReleasesRefused(refused) => refused.fmt(f),
            Self::ReleaseEnded(ended) => ended.fmt(f),
            Self::TlsGivenUp { why } => write!(
                f,
                "{}; its mail goes in clear for an hour, as tls = \"opportunistic\" allows",
                Escaped(why)
            ),
            Self::CertificateEnds { what } => write!(f, "{}", Escaped(what)),
            Self::Detail(detail) => detail.fmt(f),
            Self::Steered { what, .. } => write!(f, "{} by the operator", Escaped(what)),
            Self::Configured { needs_restart } if needs_restart.is_empty() => {
                write!(f, "the new configuration is in force")
            }
            Self::Configured { needs_restart } => write!(
                f,
                "the new configuration is in force, except what needs a restart: {}",
                Escaped(&needs_restart.join(", "))
            ),
            Self::ConfigurationRefused { errors } => write!(
                f,
                "the new configuration has errors, the old one stays in force: {}",
                Escaped(errors)
            ),
            Self::Stopping { patience } => {
                write!(
                    f,
                    "stopping: finishing what is in flight, {} s at most",
                    patience.as_secs()
                )
            }
            Self::Stopped { clean: true } => write!(f, "stopped"),
            Self::Stopped { clean: false } => write!(
                f,
                "stopped with sessions still open: what was not acknowledged is sent again by \
                 its client, what was not finished is delivered after the next start"
            ),
            Self::RecipientsLoaded { customer, entries } => write!(
                f,
                "recipients of {customer} loaded: {entries} {}",
                if *entries == 1 { "entry" } else { "entries" }
            ),
            Self::QueueSteered {
                next_hop,
                what,
                messages,
            } => write!(f, "{}: {what}, {}", Escaped(next_hop), Messages(*messages)),
            Self::WebPage {
                address,
                token_file,
            } => write!(
                f,
                "the web page is at http://{address}/; its token is in {}, `turnspool web` \
                 prints both",
                Escaped(token_file)
            ),
            Self::Link { link, fact } => write!(f, "link {}: {fact}", Escaped(link)),
            Self::Trouble { what } => write!(f, "{}", Escaped(what)),
        }
    }
}
