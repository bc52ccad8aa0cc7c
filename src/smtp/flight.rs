//! Flights: several whole transactions on their way before the first of them is answered
//! (FEATURES D12), so that a drain of small messages costs a few round trips and not one
//! for each.
//!
//! ```text
//! C: MAIL, RCPT, BDAT n LAST, content, RSET, MAIL, RCPT, BDAT n LAST, content, RSET, …
//! S: 250, 250, 250, 250, 250, 250, 250, …
//! ```
//!
//! RFC 2920 and 3030 allow it only by a generous reading: BDAT may be the last of its
//! group, and a server may lose what comes behind. So it is done only where the server
//! says that it can take it, by a keyword of our own in its reply to EHLO, `X-FLIGHT n`:
//! it reads on whatever it answers, in order, and so many octets of contents may be on
//! their way without an answer.
//!
//! Rules of the client:
//! - RSET goes before each MAIL behind a BDAT that is not answered: a failed BDAT leaves
//!   an indeterminate state (RFC 3030 §2), and RSET ends it whatever it was.
//! - A content goes before the answers to its RCPT only while it is small: what is refused
//!   was sent for nothing. Larger ones wait for those answers.
//! - The first of a flight are answered while the last are still leaving, and such an
//!   answer is believed: otherwise a break in that moment would bring again what is known
//!   to be there.
//! - What is on its way is bounded, in octets and in messages: after a break all of it is
//!   tried again, and what had arrived without our hearing of it comes twice (RFC 1047).
//!
//! The server has nothing to do but what RFC 2920 asks of it: this one never drops what is
//! pipelined, and reads over the chunk of a transaction that failed.

/// The keyword of EHLO.
pub const KEYWORD: &str = "X-FLIGHT";

/// Octets of contents that our server lets come before it has answered: what a line of
/// 800 kbit/s holds with a round trip of 600 ms. Over a modem of 28 kbit/s they take 19
/// seconds, which is how long urgent mail may have to wait for its turn. Nothing is kept in
/// memory for them: they stay in the network until they are read.
pub const OCTETS: u64 = 64 * 1024;
