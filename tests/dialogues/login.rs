//! The one user of the dialogues: `tim`, whose password is that of RFC 2195.

use turnspool::smtp::auth::scram::{ITERATIONS_MIN, Keys};
use turnspool::smtp::auth::server::Claim;
use turnspool::smtp::auth::{Nonce, Password, cram};
use turnspool::smtp::server::{AuthAnswer, Question};

/// What a directive says of the next AUTH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LoginAnswer {
    /// The client has failed too often.
    Banned,
    /// It cannot be found out now.
    Busy,
    /// It takes until `! go`.
    Slow,
}

fn password() -> Password {
    Password::new("tanstaaftanstaaf".to_owned()).expect("a password")
}

/// The truth, always with the same nonce and salt.
pub(crate) fn judge(question: &Question<'_>) -> AuthAnswer {
    let claim = match question {
        Question::AuthBegins { .. } => return AuthAnswer::Begin(Nonce([1; 18])),
        Question::Login(claim) => claim,
        other => panic!("{other:?} is not about AUTH"),
    };
    let is_tim = claim.user().is_some_and(|user| user.as_str() == "tim");
    let right = match claim {
        Claim::Password { password: said, .. } => *said == password(),
        Claim::Digest {
            challenge, digest, ..
        } => cram::is_equal(&cram::digest(&password(), challenge), digest),
        Claim::Keys { user } => {
            return AuthAnswer::Keys(if is_tim {
                Keys::derive(&password(), b"salt", ITERATIONS_MIN)
            } else {
                Keys::fake(&[0; 32], user)
            });
        }
        // The session has seen to it that there is one.
        Claim::Certificate { user: None } => {
            return AuthAnswer::Known("tim".parse().expect("a name"));
        }
        Claim::Certificate { .. } => is_tim,
    };
    match claim.user() {
        Some(user) if is_tim && right => AuthAnswer::Known(user.clone()),
        _ => AuthAnswer::Wrong,
    }
}
