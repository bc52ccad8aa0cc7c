//! What SMTP and POP3 have in common on the wire: lines that end in CRLF, and message
//! text that ends with a line of a single dot.
//!
//! DATA (RFC 5321 §4.1.1.4) and the multi-line responses of POP3 (RFC 1939 §3) write
//! text in the same form, dots at line starts doubled, so that one reader serves both
//! and a message is stored the same way, however it came.
//!
//! [`transcript`] keeps what was said, for an operator who wants to see it.
//!
//! What this module does not do: it knows no command and no reply of either protocol.

pub mod line;
pub mod text;
pub mod transcript;
