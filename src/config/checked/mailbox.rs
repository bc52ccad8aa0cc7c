//! Mailboxes that are collected, as the program uses them.

use std::time::Duration;

use super::{ListenerTls, Login, SecretFile, Surroundings};
use crate::config::options::{self, MailboxSource, Oversize};
use crate::mail::{Address, Domain};
use crate::route::HostName;

/// See `[[collect]]` of kind "pop3".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mailbox {
    /// For logs and commands.
    pub name: String,
    /// The server.
    pub host: HostName,
    /// Where it listens.
    pub port: u16,
    /// With which TLS.
    pub tls: ListenerTls,
    /// User name and where the password is.
    pub login: Login,
    /// Whose it is.
    pub whose: Whose,
    /// Addresses that are another's.
    pub aliases: Vec<(Address, Address)>,
    /// How long messages stay on the server.
    pub keep: Duration,
    /// How long copies are kept; zero: none are made.
    pub safe_copy: Duration,
    /// Above this size `oversize` decides.
    pub size_max: Option<u64>,
    /// What is done then.
    pub oversize: Oversize,
}

/// Whose mailbox it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// One user's.
    User(Address),
    /// That of a whole domain.
    Domain(DomainMailbox),
}

/// See `[collect.domain_mailbox]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainMailbox {
    /// Never empty.
    pub domains: Vec<Domain>,
    /// Where recipients are looked for, in this order.
    pub sources: Vec<MailboxSource>,
    /// Fields with the envelope's recipient.
    pub envelope: Vec<String>,
    /// Which of several, from above, from 1 on.
    pub occurrence: u32,
    /// What the provider puts before the local-part.
    pub strip_prefix: Option<String>,
    /// Received lines from above that are not looked at.
    pub received_skipped: u32,
    /// How long a Message-ID is remembered for a recipient; zero: not at all.
    pub duplicates: Duration,
    /// Who gets what is for nobody else.
    pub default: Address,
}

/// POP3 in clear and with STLS (RFC 1939 §3).
const POP3_PORT: u16 = 110;
/// POP3 with TLS from the first octet (RFC 8314 §3.2).
const POP3S_PORT: u16 = 995;

/// `None` for what a check has refused.
pub(super) fn build(collect: &options::Collect, surroundings: &Surroundings) -> Option<Mailbox> {
    let server = collect.server.as_ref()?;
    let user = collect.user.as_ref()?;
    let whose = match (&*collect.recipient, &*collect.domain_mailbox) {
        (Some(address), None) => Whose::User(address.clone()),
        (None, Some(domain)) => Whose::Domain(DomainMailbox {
            domains: domain.domains.value.clone(),
            sources: domain.sources.value.clone(),
            envelope: domain.envelope.value.clone(),
            occurrence: *domain.occurrence,
            strip_prefix: domain.strip_prefix.value.clone(),
            received_skipped: *domain.received_skipped,
            duplicates: *domain.duplicates,
            default: domain.default.value.clone(),
        }),
        _ => return None,
    };
    let port = match *collect.tls {
        ListenerTls::Implicit => POP3S_PORT,
        ListenerTls::None | ListenerTls::StartTls => POP3_PORT,
    };
    Some(Mailbox {
        name: super::collector_name(collect),
        host: server.host.clone(),
        port: server.port.unwrap_or(port),
        tls: *collect.tls,
        login: Login {
            user: user.clone(),
            password_file: SecretFile::new(collect.password_file.as_ref()?, surroundings),
        },
        whose,
        aliases: collect
            .aliases
            .iter()
            .map(|alias| (alias.from.clone(), alias.to.clone()))
            .collect(),
        keep: *collect.keep,
        safe_copy: *collect.safe_copy,
        size_max: collect.size_max.map(|size| size.0),
        oversize: *collect.oversize,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Config, report::Report};

    /// A file with this section, and with a password beside it.
    fn parse(lines: &str) -> Result<Config, Report> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        std::fs::write(&path, "secret\n").expect("it is written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("it is ours");
        let surroundings = Surroundings {
            host_name: "gw.example".to_owned(),
            cpus: 1,
            credentials_directory: None,
            state_directory: None,
        };
        let begin = format!(
            "[[collect]]\nkind = \"pop3\"\npassword_file = \"{}\"\n",
            path.display()
        );
        let lines = lines.replace("[[collect]]", &begin);
        config::parse(
            Path::new("t.toml"),
            &format!("{begin}{lines}\n[[route]]\ndomain = \"b.example\"\nnext_hop = \"mx\"\n"),
            &surroundings,
        )
    }

    const LOGIN: &str = "server = \"pop.isp.example\"\nuser = \"branch\"\n";

    #[test]
    fn a_mailbox_of_one_user() {
        let lines = "recipient = \"anna@branch.example\"\ntls = \"implicit\"\n\
                     aliases = [\"info@branch.example = anna@branch.example\"]\n";
        let config = parse(&format!("{LOGIN}{lines}")).expect("it is right");
        let config::Means::Mailbox(mailbox) = &config.collectors[0].means else {
            panic!("it is one");
        };
        assert_eq!(mailbox.name, "branch@pop.isp.example");
        assert_eq!(mailbox.port, POP3S_PORT);
        assert_eq!(mailbox.keep, Duration::ZERO);
        assert_eq!(mailbox.aliases.len(), 1);
        assert!(matches!(mailbox.whose, Whose::User(_)));
    }

    #[test]
    fn what_contradicts_itself() {
        let check = |lines: &str, expected: &str| {
            let Err(report) = parse(&format!("{LOGIN}{lines}")) else {
                panic!("{lines}");
            };
            let whats: Vec<_> = report.findings.iter().map(|f| f.what.clone()).collect();
            assert_eq!(whats, [expected], "{lines}");
        };
        let domain = "domain_mailbox = { domains = [\"b.example\"], default = \"p@b.example\" }\n";
        let user = "recipient = \"anna@b.example\"\n";
        check("", "needs to know for whom");
        check(&format!("{domain}{user}"), "contradicts `domain_mailbox`");
        check(&domain.replace("\"b.example\"", ""), "is empty");
        check(
            &format!("{user}[[collect]]\n{LOGIN}{user}name = \"other\""),
            "is collected twice from this server",
        );
        let other = LOGIN.replace("branch", "other");
        check(
            &format!("{user}name = \"x\"\n[[collect]]\n{other}{user}name = \"x\""),
            "is here twice",
        );
    }
}
