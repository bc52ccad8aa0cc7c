//! Authentication in a data core: what the session asks is answered from the
//! [`Credentials`](crate::core::credentials::Credentials), at once or by way of the
//! control core, and who fails is told to it.

use std::net::SocketAddr;

use crate::core::bans::Client;
use crate::core::common::Common;
use crate::core::computing::{Asker, Work, Worked};
use crate::core::{ConnectionId, ControlNotice};
use crate::report::Fact;
use crate::smtp::auth::Mechanism;
use crate::smtp::auth::server::Claim;
use crate::smtp::server::AuthAnswer;
use crate::time::Now;
use crate::user::UserName;

impl Common {
    /// May this client try to authenticate?
    pub(super) fn auth_begins(&mut self, now: Now, peer: SocketAddr) -> AuthAnswer {
        if self.bans.contains(now.instant, peer.ip()) {
            self.counters.logins_banned += 1;
            AuthAnswer::Banned
        } else {
            AuthAnswer::Begin(self.nonces.fresh())
        }
    }

    /// Is this true? `certificate` is the name that TLS has shown. `None` if it must be
    /// computed first; then comes [`computed`].
    pub(super) fn judge(
        &mut self,
        connection: ConnectionId,
        certificate: Option<&str>,
        claim: &Claim,
    ) -> Option<AuthAnswer> {
        let credentials = &self.settings.credentials;
        let work = match claim {
            Claim::Password { user, password } => credentials.verification(user, password.clone()),
            Claim::Digest {
                user,
                challenge,
                digest,
            } => {
                return Some(if credentials.is_digest(user, challenge, digest) {
                    AuthAnswer::Known(user.clone())
                } else {
                    AuthAnswer::Wrong
                });
            }
            Claim::Keys { user } => match credentials.keys(user) {
                Ok(keys) => return Some(AuthAnswer::Keys(keys)),
                Err(work) => work,
            },
            Claim::Certificate { user } => {
                let known = certificate
                    .and_then(|name| name.parse().ok())
                    .filter(|name| user.as_ref().is_none_or(|user| user == name))
                    .filter(|name| credentials.kind(name).is_some());
                return Some(known.map_or(AuthAnswer::Wrong, AuthAnswer::Known));
            }
        };
        self.compute(connection, work);
        None
    }

    /// Has something computed for a connection.
    pub(super) fn compute(&mut self, connection: ConnectionId, work: Work) {
        let asker = Asker {
            core: self.id,
            connection,
        };
        self.tell_control(ControlNotice::Compute { asker, work });
    }

    /// Somebody authenticated.
    pub(super) fn logged_in(&mut self, peer: SocketAddr, user: &UserName, mechanism: Mechanism) {
        self.counters.logins += 1;
        self.report(Fact::LoggedIn {
            peer,
            user: user.clone(),
            mechanism: mechanism.name(),
        });
    }

    /// Somebody failed to.
    pub(super) fn login_failed(
        &mut self,
        peer: SocketAddr,
        user: Option<UserName>,
        mechanism: Mechanism,
    ) {
        self.counters.logins_failed += 1;
        let client = Client::of(peer.ip());
        self.tell_control(ControlNotice::LoginFailed { client });
        self.report(Fact::LoginFailed {
            peer,
            user,
            mechanism: mechanism.name(),
        });
    }
}

/// What a computed answer means for a claim.
pub(super) fn computed(claim: &Claim, worked: Worked) -> AuthAnswer {
    match (claim, worked) {
        (Claim::Password { user, .. }, Worked::Verified(true)) => AuthAnswer::Known(user.clone()),
        (Claim::Password { .. }, Worked::Verified(false)) => AuthAnswer::Wrong,
        (Claim::Keys { .. }, Worked::Keys(keys)) => AuthAnswer::Keys(keys),
        (_, Worked::NotNow) => AuthAnswer::Later,
        (claim, worked) => unreachable!("{worked:?} is no answer to {claim:?}"),
    }
}
