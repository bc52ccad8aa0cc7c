//! Commented configuration files, made from the declarations of the options.
//!
//! Every option of a section that a role needs is printed: with its documentation,
//! its default and its bounds. What is not set by the example stands there as a
//! comment, so that each example passes `turnspool check`.

use std::fmt::Write as _;

use super::declaration::{OptionInfo, SectionInfo};
use super::options;
use super::reader::Preset;

/// What the installation is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Mail of a network, to a smarthost.
    Relay,
    /// A provider that holds mail for customers.
    BackupSpool,
    /// A site behind a line that is not always up.
    SiteGateway,
}

/// One section of an example: its path and what is set in it, as TOML.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const RELAY: &[Section] = &[
    ("", &[("hostname", "\"relay.example\"")]),
    ("spool", &[("directory", "\"/var/spool/turnspool\"")]),
    ("process", &[]),
    ("cores", &[]),
    ("limits", &[]),
    ("listener", &[("address", "\"0.0.0.0:25\"")]),
    ("tls", &[]),
    (
        "relay",
        &[(
            "networks",
            "[\"127.0.0.0/8\", \"::1/128\", \"192.0.2.0/24\"]",
        )],
    ),
    ("dns", &[]),
    (
        "delivery",
        &[
            ("mode", "\"smarthost\""),
            ("routes_in_smarthost_mode", "true"),
        ],
    ),
    ("delivery.smarthost", &[("host", "\"smtp.isp.example\"")]),
    (
        "route",
        &[
            ("domain", "\"branch.example\""),
            ("next_hop", "\"smtp://10.0.0.5:25\""),
        ],
    ),
    ("route.retry", &[]),
    ("retry", &[]),
    ("notify", &[]),
    ("admin", &[("socket", "\"/run/turnspool/admin.sock\"")]),
    ("log", &[]),
    ("log.detail", &[]),
];

const BACKUP_SPOOL: &[Section] = &[
    (
        "",
        &[
            ("hostname", "\"spool.isp.example\""),
            ("preset", "\"spool\""),
        ],
    ),
    (
        "spool",
        &[
            ("directory", "\"/var/spool/turnspool\""),
            ("size_max", "\"20GiB\""),
        ],
    ),
    ("process", &[]),
    ("cores", &[]),
    ("limits", &[]),
    ("listener", &[("address", "\"0.0.0.0:25\"")]),
    ("tls", &[]),
    ("relay", &[("domains", "[\"customer.example\"]")]),
    ("dns", &[]),
    ("delivery", &[]),
    (
        "route",
        &[("domain", "\"customer.example\""), ("next_hop", "\"hold\"")],
    ),
    ("retry", &[]),
    ("wakeup", &[]),
    (
        "customer",
        &[
            ("name", "\"branch\""),
            ("domains", "[\"branch.example\", \".branch.example\"]"),
            ("deliver_to", "\"203.0.113.9:25\""),
        ],
    ),
    (
        "customer.release",
        &[("auth", "false"), ("clients", "[\"203.0.113.0/24\"]")],
    ),
    ("customer.quota", &[]),
    ("customer.wake_for", &[]),
    ("admin", &[("socket", "\"/run/turnspool/admin.sock\"")]),
    ("log", &[]),
    ("log.detail", &[]),
];

const SITE_GATEWAY: &[Section] = &[
    (
        "",
        &[
            ("hostname", "\"gateway.branch.example\""),
            ("preset", "\"small-site\""),
        ],
    ),
    (
        "spool",
        &[
            ("directory", "\"/var/spool/turnspool\""),
            ("segment_size", "\"16MiB\""),
        ],
    ),
    ("process", &[]),
    ("limits", &[]),
    ("listener", &[("address", "\"0.0.0.0:25\"")]),
    (
        "relay",
        &[
            (
                "networks",
                "[\"127.0.0.0/8\", \"::1/128\", \"192.168.0.0/16\"]",
            ),
            ("domains", "[\"branch.example\"]"),
        ],
    ),
    ("dns", &[]),
    (
        "delivery",
        &[
            ("mode", "\"smarthost\""),
            ("routes_in_smarthost_mode", "true"),
        ],
    ),
    ("delivery.smarthost", &[("host", "\"smtp.isp.example\"")]),
    (
        "route",
        &[
            ("domain", "\"branch.example\""),
            ("next_hop", "\"smtp://192.168.1.10:25\""),
        ],
    ),
    ("retry", &[("first", "\"10m\""), ("give_up", "\"5d\"")]),
    (
        "link",
        &[
            ("name", "\"isp\""),
            ("kind", "\"pppd\""),
            ("entry", "\"isp\""),
        ],
    ),
    ("link.dial", &[]),
    ("link.go_up", &[("messages", "10"), ("age", "\"30m\"")]),
    ("link.hang_up", &[("at_most", "\"30m\"")]),
    ("link.budget", &[("per", "\"day\""), ("seconds", "3600")]),
    ("collect", &[]),
    ("collect.domain_mailbox", &[]),
    (
        "schedule",
        &[
            ("days", "\"mon-fri\""),
            ("from", "\"08:00\""),
            ("to", "\"18:00\""),
            ("every", "\"30m\""),
        ],
    ),
    ("admin", &[]),
    ("log", &[]),
    ("log.detail", &[]),
];

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Relay, Self::BackupSpool, Self::SiteGateway];

    /// As on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::BackupSpool => "backup-spool",
            Self::SiteGateway => "site-gateway",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Relay => "A relay: takes the mail of a network and gives it to a smarthost.",
            Self::BackupSpool => "A provider's spool: holds mail for customers until they call.",
            Self::SiteGateway => "A site behind a line that is not always up.",
        }
    }

    /// What the first section of the example says.
    const fn preset(self) -> Preset {
        match self {
            Self::SiteGateway => Preset::SmallSite,
            Self::Relay | Self::BackupSpool => Preset::Spool,
        }
    }

    const fn sections(self) -> &'static [Section] {
        match self {
            Self::Relay => RELAY,
            Self::BackupSpool => BACKUP_SPOOL,
            Self::SiteGateway => SITE_GATEWAY,
        }
    }
}

/// Columns of a comment.
const COLUMNS: usize = 78;

/// The file for a role.
#[must_use]
pub fn example(role: Role) -> String {
    let known = options::sections();
    let mut out = String::new();
    comment(&mut out, role.about());
    comment(
        &mut out,
        "Lines that begin with # are comments; an option in one shows its default, or a sample \
         if there is none to write. Check the file with: turnspool check FILE",
    );
    for (path, set) in role.sections() {
        let section = known
            .iter()
            .find(|section| section.path == *path)
            .unwrap_or_else(|| panic!("the example {role:?} has a section [{path}]"));
        write_section(&mut out, section, set, role.preset());
    }
    out
}

fn write_section(out: &mut String, section: &SectionInfo, set: &[(&str, &str)], preset: Preset) {
    let off = if set.is_empty() && needs_something(section) {
        "# "
    } else {
        ""
    };
    if !section.path.is_empty() {
        out.push('\n');
        comment(out, &paragraph(section.doc));
        let header = if section.repeated {
            format!("[[{}]]", section.path)
        } else {
            format!("[{}]", section.path)
        };
        line(out, off, &header);
    }
    for (i, option) in section.options.iter().enumerate() {
        if option.section.is_some() {
            continue;
        }
        if i > 0 || section.path.is_empty() {
            out.push('\n');
        }
        let (about, notes) = described(option);
        comment(out, &format!("{about} [{notes}]"));
        let value = set.iter().find(|(name, _)| *name == option.name);
        match value {
            Some((_, value)) => line(out, off, &format!("{} = {value}", option.name)),
            None => {
                let value = if preset == Preset::SmallSite && option.small_site.is_some() {
                    &option.small_site
                } else {
                    &option.default
                };
                let value = value.as_ref().unwrap_or(&option.sample);
                line(out, "# ", &format!("{} = {value}", option.name));
            }
        }
    }
    for (name, _) in set {
        let known = section.options.iter().any(|option| option.name == *name);
        assert!(known, "the example sets {}", join(section.path, name));
    }
}

fn needs_something(section: &SectionInfo) -> bool {
    (section.options.iter()).any(|option| option.default_words == Some("required"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Doc lines as one paragraph.
#[must_use]
pub fn paragraph(doc: &[&str]) -> String {
    doc.iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The documentation of an option; and its kind, bounds and default.
#[must_use]
pub fn described(option: &OptionInfo) -> (String, String) {
    let mut notes = vec![option.wanted.to_owned()];
    if let Some((least, most)) = &option.bounds {
        notes.push(format!("{least} to {most}"));
    }
    match (option.default_words, &option.default) {
        (Some("required"), _) => notes.push("required".to_owned()),
        (Some(words), _) => notes.push(format!("default: {words}")),
        (None, Some(default)) => notes.push(format!("default: {default}")),
        (None, None) => {}
    }
    if let Some(small_site) = &option.small_site {
        notes.push(format!("small-site: {small_site}"));
    }
    (paragraph(option.doc), notes.join("; "))
}

fn line(out: &mut String, off: &str, text: &str) {
    writeln!(out, "{off}{text}").expect("a String takes everything");
}

/// A paragraph, wrapped, with `#` before each line.
fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if width > 0 && width + 1 + letters > COLUMNS {
            out.push('\n');
            width = 0;
        }
        if width == 0 {
            out.push('#');
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + letters;
    }
    out.push('\n');
}
