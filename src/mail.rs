//! The words of mail, parsed once and valid ever after.
//!
//! A value of one of these types is the proof that its text was checked: no
//! later module looks at the syntax again, and none can be handed a CR, LF, NUL
//! or an over-long name. ESMTP parameters stay in the form in which they came
//! (xtext), so that they are passed on unchanged (RFC 3461 §4).
//!
//! What this module does not do: it knows no SMTP command lines (`smtp/syntax`
//! does), and it does not route.

//!
//! [`Domain`]; [`Address`] and the two paths; the [`Envelope`] with what MAIL and
//! RCPT said; [`BodyForm`], which is the spool's own word for how a body was
//! brought; [`QueueId`], by which a message is known in this spool.

pub use spool_format::BodyForm;

mod address;
mod domain;
mod envelope;
mod queue_id;

pub use address::{Address, AddressError, ForwardPath, LOCAL_PART_BYTES_MAX, ReversePath};
pub use domain::{DOMAIN_BYTES_MAX, Domain, LABEL_BYTES_MAX};
pub use envelope::{
    BodyKind, DeliverBy, DeliverByMode, ENVID_BYTES_MAX, Envelope, HoldUntil, Notify,
    ORCPT_BYTES_MAX, Priority, Recipient, RecipientIndex, Ret, Sender,
};
pub use queue_id::{QueueId, QueueIdError, Receipt};
