//! Mail to addresses of our own that nobody reads (FEATURES R8): wake-up mail, which has
//! held mail released, and mail to nobody. It is committed and answered like any other,
//! and then it is gone.
//!
//! # Who is named
//! - `wakeup+branch.example@spool.example`, where `[wakeup] address` is
//!   `wakeup@spool.example`; behind the `+` stands what ETRN would name.
//! - `wakeup@spool.example`: the first word of the Subject names it.
//! - `null%branch.example@spool.example`, where `null_at` has `spool.example`. Old sites
//!   ask so: a message that a relay would have passed on to them.
//! - `null@spool.example` names nobody.
//!
//! # Who may
//! As for ETRN: who authenticated, who is listed, anybody where the release is open. Or
//! who writes the customer's secret as a word of the Subject; that way the mail may come
//! over other relays. It does not open mail that goes to the caller's own address.
//!
//! Invariant: *every such message has one answer*, whoever is named and whether it may be:
//! 250. What became of it stands in the log only. How often is limited as for ETRN.
//!
//! What this module does not do: it decodes no Subject (RFC 2047); names are ASCII.

use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::core::ControlNotice;
use crate::core::common::Common;
use crate::core::release::{Order, Proof, ReleaseAsker};
use crate::core::releasing::{find, order};
use crate::mail::{Address, Domain, Envelope, ForwardPath, QueueId};
use crate::report::{Ending, Fact, Release};
use crate::route::CustomerName;
use crate::route::customer::{Caller, DeliverTo};
use crate::smtp::auth::Password;
use crate::smtp::etrn::{self, Node};

/// Octets of a message in which the Subject is looked for. A wake-up mail is written by a
/// program, and relays add some lines each.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// Names that one message can have released. A site has a few domains.
const NAMES_MAX: usize = 20;

/// The shortest secret. It can be guessed from anywhere, as fast as we take mail.
pub const SECRET_BYTES_MIN: usize = 12;

/// The local-part of nobody.
const NULL: &str = "null";

/// Our own addresses. The default: none.
#[derive(Clone, Debug, Default)]
pub struct WakeUps {
    /// Where wake-up mail goes.
    pub address: Option<Address>,
    /// Where `null` is nobody.
    pub null_at: Vec<Domain>,
    /// The secrets of those customers that have one.
    pub secrets: HashMap<CustomerName, Password, foldhash::fast::FixedState>,
}

/// What a message to such an address asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wish {
    /// A release of this.
    Node(Node),
    /// A release of what the Subject names.
    Subject,
    /// Nothing, or nothing that can be understood.
    Nothing,
}

impl WakeUps {
    /// Whether mail for this address ends here.
    pub(super) fn has(&self, address: &Address) -> bool {
        self.wish(address).is_some()
    }

    fn wish(&self, address: &Address) -> Option<Wish> {
        let local_part = address.local_part();
        let named = |name: &str| match etrn::node(name.as_bytes()) {
            Ok(node) => Wish::Node(node),
            Err(_) => Wish::Nothing,
        };
        if let Some(own) = &self.address
            && own.domain_str() == address.domain_str()
        {
            if own.local_part().eq_ignore_ascii_case(local_part) {
                return Some(Wish::Subject);
            }
            if let Some((name, tag)) = local_part.split_once('+')
                && own.local_part().eq_ignore_ascii_case(name)
            {
                return Some(named(tag));
            }
        }
        let is_null_here = |domain: &Domain| domain.as_str() == address.domain_str();
        if !self.null_at.iter().any(is_null_here) {
            return None;
        }
        let (name, rest) = match local_part.split_once('%') {
            Some((name, rest)) => (name, Some(rest)),
            None => (local_part, None),
        };
        let is_null = name.eq_ignore_ascii_case(NULL);
        is_null.then(|| rest.map_or(Wish::Nothing, named))
    }
}

/// What of a message under way is for those addresses.
#[derive(Debug)]
pub(super) struct Calls {
    client: SocketAddr,
    user: Option<Box<str>>,
    discarded: Vec<ForwardPath>,
    wishes: Vec<Wish>,
    /// As much of the header section as came.
    header: Vec<u8>,
}

impl Calls {
    /// Takes those recipients out of an envelope that end here. None: there is none.
    /// `client` brings it, and has authenticated as this customer's user, if as any.
    pub(super) fn of(
        envelope: &mut Envelope,
        wakeups: &WakeUps,
        client: SocketAddr,
        user: Option<&str>,
    ) -> Option<Box<Self>> {
        let mut calls = Self {
            client,
            user: user.map(Into::into),
            discarded: Vec::new(),
            wishes: Vec::new(),
            header: Vec::new(),
        };
        envelope.recipients.retain(|recipient| {
            let path = &recipient.forward_path;
            let Some(wish) = wakeups.wish(path.address()) else {
                return true;
            };
            calls.discarded.push(path.clone());
            if !calls.wishes.contains(&wish) && calls.wishes.len() < NAMES_MAX {
                calls.wishes.push(wish);
            }
            false
        });
        (!calls.discarded.is_empty()).then(|| Box::new(calls))
    }

    /// Octets of the message came, in wire form.
    pub(super) fn read(&mut self, octets: &[u8]) {
        let room = HEADER_BYTES_MAX - self.header.len();
        self.header
            .extend_from_slice(&octets[..octets.len().min(room)]);
    }
}

impl Common {
    /// The message is committed: what it asks for is done, if it may be.
    pub(super) fn wake_up(&mut self, calls: Calls, queue_id: QueueId) {
        let Calls {
            client,
            user,
            discarded,
            wishes,
            header,
        } = calls;
        for forward_path in discarded {
            self.report(Fact::Recipient {
                queue_id,
                forward_path,
                ending: Ending::Discarded,
                host: String::new(),
                reply: String::new(),
                age: std::time::Duration::ZERO,
            });
        }
        let subject = subject(&header);
        let words: Vec<&[u8]> = subject
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        for wish in wishes {
            let node = match wish {
                Wish::Node(node) => node,
                Wish::Subject => match words.first().map(|word| etrn::node(word)) {
                    Some(Ok(node)) => node,
                    Some(Err(_)) | None => continue,
                },
                Wish::Nothing => continue,
            };
            self.wake_up_one(&node, &words, client, user.as_deref());
        }
    }

    fn wake_up_one(
        &mut self,
        node: &Node,
        words: &[&[u8]],
        client: SocketAddr,
        user: Option<&str>,
    ) {
        let settings = &self.settings;
        let caller = Caller {
            address: client.ip(),
            user,
        };
        let granted = match order(&settings.customers, caller, node) {
            Ok(order) => Some((order, Proof::Source)),
            Err(_) => find(&settings.customers, node, |customer| {
                let secret = settings.wakeup.secrets.get(&customer.name);
                customer.deliver_to != DeliverTo::Caller
                    && secret.is_some_and(|secret| has_word(words, secret))
            })
            .map(|(customers, extent)| {
                let order = Order {
                    customers,
                    extent,
                    caller: None,
                };
                (order, Proof::Secret)
            }),
        };
        match granted {
            Some((order, proof)) => {
                let asker = ReleaseAsker::WakeUp {
                    client,
                    user: user.map(Into::into),
                    proof,
                };
                let order = Box::new(order);
                self.tell_control(ControlNotice::Release { order, asker });
            }
            None => self.report(Fact::Release(Release {
                what: node.to_string(),
                by: format!("wake-up mail of {client}"),
                messages: 0,
                octets: 0,
                outcome: "not allowed",
            })),
        }
    }
}

/// Whether one of the words is the secret; how long that takes says nothing of it.
fn has_word(words: &[&[u8]], secret: &Password) -> bool {
    let secret = secret.reveal();
    let is_secret = |word: &&&[u8]| {
        let differ = word.iter().zip(secret).fold(0, |d, (a, b)| d | (a ^ b));
        word.len() == secret.len() && differ == 0
    };
    words.iter().filter(is_secret).count() > 0
}

/// The body of the first Subject field, folded lines joined; empty if there is none.
fn subject(header: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"subject:";
    let mut lines = header.split(|b| *b == b'\n').map(|line| {
        // A line without its end is one that came in part, and may lack what matters.
        line.strip_suffix(b"\r").unwrap_or_default()
    });
    let is_subject = |line: &&[u8]| {
        let name = line.get(..NAME.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    };
    let before_body = lines.by_ref().take_while(|line| !line.is_empty());
    let mut field = before_body.skip_while(|line| !is_subject(line));
    let Some(first) = field.next() else {
        return Vec::new();
    };
    let mut subject = first[NAME.len()..].to_vec();
    for line in field.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
        subject.extend_from_slice(line);
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakeups() -> WakeUps {
        WakeUps {
            address: Some("WakeUp@spool.example".parse().unwrap()),
            null_at: vec![
                "spool.example".parse().unwrap(),
                "b.example".parse().unwrap(),
            ],
            secrets: HashMap::default(),
        }
    }

    #[test]
    fn which_addresses_are_ours_and_what_they_name() {
        let check = |address: &str, expected: Option<Wish>| {
            let address: Address = address.parse().unwrap();
            assert_eq!(wakeups().wish(&address), expected, "{address}");
        };
        let node = |text: &str| Some(Wish::Node(etrn::node(text.as_bytes()).unwrap()));
        check("wakeup@spool.example", Some(Wish::Subject));
        check(
            "wakeup+branch.example@spool.example",
            node("branch.example"),
        );
        check("WAKEUP+#Branch@SPOOL.example", node("#branch"));
        check("wakeup+@spool.example", Some(Wish::Nothing));
        check("wakeup+../x@spool.example", Some(Wish::Nothing));
        check("wakeup@b.example", None);
        check("wakeups@spool.example", None);
        check("null@spool.example", Some(Wish::Nothing));
        check("NULL@b.example", Some(Wish::Nothing));
        check("null@c.example", None);
        check("nulls@b.example", None);
        check("null%branch.example@b.example", node("branch.example"));
        check("null%#branch@b.example", node("#branch"));
        check("null%a%b@b.example", Some(Wish::Nothing));
        check("x%branch.example@b.example", None);
        assert!(!WakeUps::default().has(&"null@spool.example".parse().unwrap()));
    }

    #[test]
    fn the_subject_is_found_where_it_is() {
        let check = |header: &str, expected: &str| {
            let header = header.replace('\n', "\r\n");
            let found = subject(header.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), expected, "{header:?}");
        };
        check(
            "From: a\nSubject: branch.example secret\n\n",
            " branch.example secret",
        );
        check("SUBJECT:x\n y\n\tz\nTo: b\n w\n\n", "x y\tz");
        check("Subject: one\nSubject: two\n\n", " one");
        check("From: a\n\nSubject: in the body\n", "");
        check("Subjects: x\n\n", "");
        check("", "");
        check("Subject: cut o", "");
        check("X: y\n Subject: folded\n\n", "");
    }

    #[test]
    fn a_secret_is_a_whole_word() {
        let secret = Password::new("correct-horse".to_owned()).unwrap();
        let check = |words: &[&str], expected: bool| {
            let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(has_word(&words, &secret), expected, "{words:?}");
        };
        check(&["branch", "correct-horse"], true);
        check(&["correct-horse"], true);
        check(
            &["correct-hors", "correct-horsee", "Correct-horse", ""],
            false,
        );
        check(&[], false);
    }

    #[test]
    fn they_leave_the_envelope() {
        use crate::mail::{Recipient, ReversePath, Sender};
        let recipient = |text: &str| Recipient::new(ForwardPath(text.parse().expect("an address")));
        let mut envelope = Envelope {
            sender: Sender::new(ReversePath::Null),
            recipients: [
                "a@b.example",
                "null@b.example",
                "wakeup+x.example@spool.example",
            ]
            .map(recipient)
            .into(),
        };
        let client = "192.0.2.1:1".parse().unwrap();
        let mut of = || Calls::of(&mut envelope, &wakeups(), client, None);
        let mut calls = of().expect("two");
        assert!(of().is_none());
        assert_eq!(envelope.recipients, [recipient("a@b.example")]);
        assert_eq!((calls.discarded.len(), calls.wishes.len()), (2, 2));
        calls.read(&[b'x'; HEADER_BYTES_MAX - 1]);
        calls.read(b"yz");
        calls.read(b"yz");
        assert_eq!(calls.header.len(), HEADER_BYTES_MAX);
    }
}
