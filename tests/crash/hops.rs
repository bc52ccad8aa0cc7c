//! Next hops that mean harm: hosts to which the relay brings mail. Each kind is the host of
//! a domain of its own. Besides a name server that gives no answer of use, and a provider
//! that is asked for mail by ETRN and is one of them by turns; [`crate::site`] calls for its
//! mail. [`crate::siege`] says how long they go on, and what must hold beside them; of their
//! own mail must hold what [`Hops::judge`] looks at.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::client::queue_id;
use crate::harness::dns::{A, AAAA, MX, NameServer, Record, Reply, alias};
use crate::harness::message::{Random, message};
use crate::harness::{Client, Relay, place};
use crate::host::{Harm, Known, Said, Session, Way};
use crate::hostile::{Field, close};
use crate::site;

/// How long those wait who wait for ever, where we are asked for mail and not given any:
/// one run at a time is under way there.
const PROVIDER_PATIENCE: Duration = Duration::from_millis(200);

/// What is answered for a domain that has no host.
fn lies() -> [Reply; 7] {
    let many = |n| Record::mx(n, &format!("m{n}.silent.example"));
    [
        Reply::Silence,
        Reply::Garbage,
        Reply::Code(2),
        Reply::Code(5),
        Reply::Referral,
        Reply::Truncated((0..500).map(many).collect()),
        Reply::Records(vec![
            Record::mx(10, "silent.example"),
            alias("lie-6.example"),
        ]),
    ]
}

/// All of them, and what came to them.
pub(crate) struct Hops {
    hosts: Vec<(Harm, TcpListener, SocketAddr)>,
    provider: TcpListener,
    dns: NameServer,
    said: Said,
    /// In the names of recipients.
    next: AtomicU64,
    /// Queue ids, with the recipients.
    sent: Mutex<Vec<(String, Vec<String>)>>,
}

impl Hops {
    pub(crate) fn new() -> Self {
        let listener = || {
            let address = place::next_address();
            let listener = TcpListener::bind(address).expect("the address is ours");
            listener.set_nonblocking(true).expect("a listener");
            (listener, address)
        };
        let host = |harm| {
            let (listener, address) = listener();
            (harm, listener, address)
        };
        let dns = NameServer::new();
        for (name, reply) in lying_domains().zip(lies()) {
            dns.set(&name, MX, reply);
        }
        // The hosts of the others.
        let hosts = (0..500).map(|n| format!("m{n}.silent.example"));
        for host in hosts.chain(["silent.example".to_owned()]) {
            dns.set(&host, A, Reply::Silence);
            dns.set(&host, AAAA, Reply::Silence);
        }
        Self {
            provider: listener().0,
            dns,
            hosts: harms().map(host).collect(),
            said: Said::default(),
            next: AtomicU64::new(0),
            sent: Mutex::default(),
        }
    }

    /// Domains with their hosts.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (String, String)> + '_ {
        (self.hosts.iter()).map(|(harm, _, address)| {
            let protocol = if harm.is_of_lmtp() { "lmtp" } else { "smtp" };
            (harm.domain(), format!("{protocol}://{address}"))
        })
    }

    /// Domains without one, and who is asked for it.
    pub(crate) fn lost(&self) -> (impl Iterator<Item = String> + use<>, SocketAddr) {
        (lying_domains(), self.dns.address())
    }

    /// What they have said.
    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// Who is asked for mail.
    pub(crate) fn provider(&self) -> SocketAddr {
        self.provider.local_addr().expect("it has one")
    }

    /// All hosts, until it is over.
    pub(crate) fn serve(&self, field: Field<'_>, seed: u64) {
        let mut random = Random(seed);
        std::thread::scope(|scope| {
            while field.go_on() {
                let asked = Harm::SMTP[random.below(Harm::SMTP.len() as u64) as usize];
                let hosts = (self.hosts.iter()).map(|(harm, listener, _)| (*harm, listener, None));
                let provider = (asked, &self.provider, Some(PROVIDER_PATIENCE));
                for (harm, listener, patience) in hosts.chain([provider]) {
                    let Ok((stream, _)) = listener.accept() else {
                        continue;
                    };
                    field.begin(&stream);
                    // What was said has left then, and a reset does not take it back.
                    stream.set_nodelay(true).expect("a stream");
                    let mut session = Session {
                        said: &self.said,
                        field,
                        way: if harm.is_of_lmtp() {
                            Way::Lmtp
                        } else {
                            Way::Smtp
                        },
                        harm,
                        patience,
                        stream,
                        random: Random(random.next()),
                        input: Vec::new(),
                        has_harmed: false,
                    };
                    // That the relay has enough of it is what it is for.
                    scope.spawn(move || session.run());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let hosts = self.hosts.iter().map(|(_, listener, _)| listener);
            hosts.chain([&self.provider]).for_each(close);
        });
    }

    /// One message more for each of them.
    pub(crate) fn send(&self, relay: SocketAddr, field: Field<'_>) {
        let Some(mut client) = connect(relay, field) else {
            return;
        };
        for harm in harms() {
            // Larger than what the buffers between us take.
            let lines = if harm == Harm::Deaf { 12_000 } else { 20 };
            self.hand_over(&mut client, harm.recipients(), &harm.domain(), lines);
        }
        let all = Harm::Picky.recipients();
        self.hand_over(&mut client, all, site::DOMAIN, 12_000);
        for domain in lying_domains() {
            self.hand_over(&mut client, &["yes"], &domain, 1);
        }
        client.expect("QUIT", 221);
    }

    /// One message more for the one that calls for it.
    pub(crate) fn bring(&self, relay: SocketAddr, field: Field<'_>) {
        if let Some(mut client) = connect(relay, field) {
            self.hand_over(&mut client, &["yes"], site::DOMAIN, 20);
            client.expect("QUIT", 221);
        }
    }

    /// Whether the one that calls has taken all that it takes.
    pub(crate) fn is_fetched(&self) -> bool {
        let sent = self.sent.lock().expect("no holder panics");
        let at = format!("@{}>", site::DOMAIN);
        let mut its = (sent.iter().flat_map(|(_, recipients)| recipients))
            .filter(|name| name.starts_with("<yes") && name.ends_with(&at));
        its.all(|name| self.said.of(name).taken > 0)
    }

    fn hand_over(&self, client: &mut Client, letters: &[&str], domain: &str, lines: usize) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let recipients: Vec<_> = (letters.iter())
            .map(|who| format!("<{who}{number}@{domain}>"))
            .collect();
        let names: Vec<_> = recipients.iter().map(String::as_str).collect();
        let text = message("hop", &format!("{}\r\n", "y".repeat(70)).repeat(lines));
        client.envelope("<>", &names);
        let reply = client.data(&text);
        assert_eq!(reply.code, 250, "mail for {domain}: {reply:?}");
        let mut sent = self.sent.lock().expect("no holder panics");
        sent.push((queue_id(&reply), recipients));
    }

    /// They are gone. What the relay says of their mail is what they have said of it, and
    /// nothing of it is lost; then what waits of it is deleted. Gives the number of recipients
    /// that wait, of those delivered to, and of those refused.
    pub(crate) fn judge(self, relay: &Relay) -> [usize; 3] {
        // Resets those that nobody has accepted.
        drop((self.hosts, self.provider));
        let queued = relay.queued();
        let waiting = waiting(relay, &queued);
        let log = relay.log();
        let of = |word: &str| -> HashSet<&str> {
            (log.lines())
                .filter_map(|line| line.split_once(word))
                .filter_map(|(head, _)| Some(&head[head.rfind('<')?..]))
                .collect()
        };
        let (delivered, failed) = (of(" delivered to "), of(" failed at "));
        let mut counts = [0; 3];
        let sent = self.sent.lock().expect("no holder panics");
        for (id, recipients) in &*sent {
            for recipient in recipients {
                let name = recipient.as_str();
                let Known {
                    taken,
                    unclear,
                    refused,
                } = self.said.of(recipient);
                let all = format!("{name}: {taken} taken, {unclear} unclear, {refused} refused");
                // Also of those that reset behind their answers.
                assert!(taken <= 1, "came again behind a 250: {all}");
                let waits = waiting.contains(name);
                let place = match (delivered.contains(name), failed.contains(name)) {
                    (true, false) => {
                        assert!(taken > 0 && !waits, "told as delivered: {all}");
                        1
                    }
                    (false, true) => {
                        assert!(refused > 0 && !waits, "told as refused: {all}");
                        2
                    }
                    (false, false) => {
                        assert!(waits, "neither told of nor queued: {all}");
                        assert!(taken == 0, "a 250 was not heard: {all}");
                        0
                    }
                    (true, true) => panic!("told as both: {all}"),
                };
                counts[place] += 1;
            }
            if queued.contains(id) {
                assert_eq!(relay.run(&["queue", "delete", id]).code, Some(0));
            }
        }
        counts
    }
}

/// Whoever is not let in comes again, until it is over.
fn connect(relay: SocketAddr, field: Field<'_>) -> Option<Client> {
    while field.go_on() {
        if let Ok(mut client) = Client::try_connect(None, relay)
            && client.greeting.code == 220
        {
            client.hello();
            return Some(client);
        }
        std::thread::yield_now();
    }
    None
}

/// The recipients of these messages that still wait, each for itself.
fn waiting(relay: &Relay, queued: &[String]) -> HashSet<String> {
    if queued.is_empty() {
        return HashSet::new();
    }
    let queued = queued.iter().map(String::as_str);
    let command: Vec<_> = ["queue", "show"].into_iter().chain(queued).collect();
    let shown = relay.facts(&command);
    let recipients = shown.iter().flat_map(|message| {
        let recipients = message["shown"].as_array();
        recipients.expect("a list").iter()
    });
    let waiting = recipients.filter(|recipient| recipient["state"] == "waiting");
    waiting
        .map(|recipient| format!("<{}>", recipient["recipient"].as_str().expect("a name")))
        .collect()
}

/// Each kind of host.
fn harms() -> impl Iterator<Item = Harm> {
    Harm::SMTP.into_iter().chain(Harm::LMTP)
}

/// Of [`lies`], in their order.
fn lying_domains() -> impl Iterator<Item = String> + use<> {
    (0..lies().len()).map(|number| format!("lie-{number}.example"))
}
