//! What is fed with octets: every parser of what others wrote, and whole sessions. A
//! target panics if it finds something; what it looks for besides panics stands beside it.

mod parsers;
mod sessions;
mod spool;

/// Looks at some octets.
pub(crate) type Target = fn(&[u8]);

/// All targets by the names of their directories in `corpus`.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("addresses", parsers::addresses),
    ("answers", parsers::answers),
    ("capabilities", parsers::capabilities),
    ("config", parsers::config),
    ("etrn", parsers::etrn),
    ("mailbox-header", parsers::mailbox_header),
    ("parameters", parsers::parameters),
    ("sasl", parsers::sasl),
    ("smtp-syntax", parsers::smtp_syntax),
    ("users", parsers::users),
    ("wire-text", parsers::wire_text),
    ("pop3-session", sessions::pop3),
    ("smtp-client", sessions::smtp_client),
    ("smtp-server", sessions::smtp_server),
    ("spool-damage", spool::damage),
    ("spool-records", spool::records),
    ("spool-summary", spool::summary),
];
