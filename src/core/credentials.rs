//! Who may authenticate, and as what.
//!
//! Filled from the file of users and from the customers of the configuration; shared by
//! all cores, made anew by a reload. Whoever is not in it any more may do nothing from
//! then on, also in a session that is under way: what a name may do is looked up each
//! time.

use std::sync::Arc;

use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::core::computing::Work;
use crate::route::CustomerName;
use crate::smtp::auth::scram::{self, Keys};
use crate::smtp::auth::stored::Stored;
use crate::smtp::auth::{Mechanism, Mechanisms, Password, cram};
use crate::user::UserName;

/// What somebody is who has authenticated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccountKind {
    /// A user of ours, who may send to anywhere.
    User,
    /// A customer, who may have his own mail. He may send to where anybody may.
    Customer(CustomerName),
}

/// One who may authenticate.
#[derive(Clone, Debug)]
pub struct Account {
    /// As what.
    pub kind: AccountKind,
    /// What is kept of the password.
    pub stored: Arc<Stored>,
}

/// All who may authenticate. See the module.
#[derive(Clone, Debug)]
pub struct Credentials {
    accounts: HashMap<UserName, Account>,
    mechanisms: Mechanisms,
    /// Some account has the password and no keys of SCRAM: they are derived at need.
    derives: bool,
    fakes: Fakes,
}

/// From which users are made up that do not exist. Nobody else knows it, and it stays
/// the same while the accounts do, over a restart too.
#[derive(Clone)]
struct Fakes(Zeroizing<scram::Hash>);

impl std::fmt::Debug for Fakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fakes(…)")
    }
}

/// Two accounts of one name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there are two accounts with the user name {0}: change one of them")]
pub struct Twice(pub UserName);

/// Nobody.
impl Default for Credentials {
    fn default() -> Self {
        Self::new([]).expect("nobody is in it twice")
    }
}

impl Credentials {
    /// These accounts.
    ///
    /// # Errors
    /// A name that two of them have: which of the two passwords is meant nobody knows.
    pub fn new(accounts: impl IntoIterator<Item = (UserName, Account)>) -> Result<Self, Twice> {
        let mut all: HashMap<UserName, Account> = HashMap::new();
        let mut mechanisms = Mechanisms::NONE;
        let mut derives = false;
        for (user, account) in accounts {
            mechanisms = mechanisms.or(account.stored.mechanisms());
            derives |= account.stored.scram().is_none() && account.stored.password().is_some();
            if all.insert(user.clone(), account).is_some() {
                return Err(Twice(user));
            }
        }
        if derives {
            mechanisms = mechanisms.with(Mechanism::ScramSha256);
        }
        Ok(Self {
            fakes: fakes(&all),
            accounts: all,
            mechanisms,
            derives,
        })
    }

    /// Whether nobody can authenticate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// What somebody of them can use.
    #[must_use]
    pub const fn mechanisms(&self) -> Mechanisms {
        self.mechanisms
    }

    /// As what `user` is known now.
    #[must_use]
    pub fn kind(&self, user: &UserName) -> Option<&AccountKind> {
        self.accounts.get(user).map(|account| &account.kind)
    }

    /// Which customer `user` is.
    #[must_use]
    pub fn customer(&self, user: &UserName) -> Option<&CustomerName> {
        match self.kind(user) {
            Some(AccountKind::Customer(name)) => Some(name),
            Some(AccountKind::User) | None => None,
        }
    }

    /// What is to be computed to know whether this is the password of `user`. As much
    /// for one who does not exist.
    pub(super) fn verification(&self, user: &UserName, password: Password) -> Work {
        let stored = self.accounts.get(user).map(|a| Arc::clone(&a.stored));
        Work::Verify { stored, password }
    }

    /// The keys of `user` for SCRAM, or what is to be computed to have them. One who does
    /// not exist gets some that fit no password, by the way of one who does.
    pub(super) fn keys(&self, user: &UserName) -> Result<Keys, Work> {
        let stored = self.accounts.get(user).map(|account| &account.stored);
        if let Some(keys) = stored.and_then(|stored| stored.scram()) {
            return Ok(keys.clone());
        }
        if !self.derives {
            return Ok(Keys::fake(&self.fakes.0, user));
        }
        let salt = Keys::fake(&self.fakes.0, user).salt().to_vec();
        let password = match stored.and_then(|stored| stored.password()) {
            Some(password) => password.clone(),
            None => self.nobodys(user),
        };
        Err(Work::Keys { password, salt })
    }

    /// Whether this is the digest of the password of `user` over the challenge.
    pub(super) fn is_digest(
        &self,
        user: &UserName,
        challenge: &[u8],
        digest: &cram::Digest,
    ) -> bool {
        let stored = self.accounts.get(user).map(|account| &account.stored);
        match stored.and_then(|stored| stored.password()) {
            Some(password) => {
                let is = |password: &_| cram::is_equal(&cram::digest(password, challenge), digest);
                // Some clients prepare it (RFC 4013), others do not.
                is(password) || password.prepared().is_some_and(|password| is(&password))
            }
            None => {
                // As long as for one that has a password, and never right.
                let _ = cram::is_equal(&cram::digest(&self.nobodys(user), challenge), digest);
                false
            }
        }
    }

    fn nobodys(&self, user: &UserName) -> Password {
        let hash = scram::hmac(&*self.fakes.0, &[b"password ", user.as_str().as_bytes()]);
        let text = crate::smtp::auth::base64::text(&hash);
        Password::new(text).expect("letters and digits")
    }
}

fn fakes(accounts: &HashMap<UserName, Account>) -> Fakes {
    let mut users: Vec<_> = accounts.iter().collect();
    users.sort_unstable_by_key(|(user, _)| *user);
    let mut hash = Sha256::new();
    for (user, account) in users {
        hash.update(user.as_str().as_bytes());
        hash.update(b"\n");
        hash.update(account.stored.to_text().as_bytes());
        hash.update(b"\n");
    }
    Fakes(Zeroizing::new(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::computing::Worked;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    fn shared(name: &str, text: &str) -> (UserName, Account) {
        let account = Account {
            kind: AccountKind::Customer("branch".parse().unwrap()),
            stored: Arc::new(Stored::shared(password(text))),
        };
        (user(name), account)
    }

    fn with_keys(name: &str, text: &str) -> (UserName, Account) {
        let keys = Keys::derive(&password(text), b"salt", scram::ITERATIONS_MIN);
        let stored = Stored::parse(&format!("SCRAM-SHA-256${}", *keys.to_text())).unwrap();
        let account = Account {
            kind: AccountKind::User,
            stored: Arc::new(stored),
        };
        (user(name), account)
    }

    #[test]
    fn kinds() {
        let credentials =
            Credentials::new([shared("branch", "a"), with_keys("alice", "b")]).unwrap();
        assert_eq!(credentials.kind(&user("alice")), Some(&AccountKind::User));
        assert_eq!(credentials.customer(&user("alice")), None);
        let branch = credentials
            .customer(&user("branch"))
            .map(CustomerName::as_str);
        assert_eq!(branch, Some("branch"));
        assert_eq!(credentials.kind(&user("nobody")), None);
        let twice = Credentials::new([shared("a", "a"), with_keys("a", "b")]);
        assert_eq!(twice.unwrap_err(), Twice(user("a")));
        assert!(Credentials::default().is_empty());
        assert!(Credentials::default().mechanisms().is_empty());
    }

    /// Who has only a shared secret, who has keys, and who does not exist answer a
    /// client of SCRAM in the same way.
    #[test]
    fn keys_of_everybody() {
        let credentials =
            Credentials::new([shared("branch", "swordfish"), with_keys("alice", "b")]).unwrap();
        assert!(
            credentials
                .keys(&user("alice"))
                .unwrap()
                .verify(&password("b"))
        );
        let derived = |name: &str| {
            let work = credentials.keys(&user(name)).expect_err("it is derived");
            match work.perform() {
                Worked::Keys(keys) => keys,
                other => panic!("{other:?}"),
            }
        };
        assert!(derived("branch").verify(&password("swordfish")));
        assert!(!derived("nobody").verify(&password("swordfish")));
        assert_eq!(derived("nobody"), derived("nobody"));
        let no_shared = Credentials::new([with_keys("alice", "b")]).unwrap();
        assert!(no_shared.keys(&user("nobody")).is_ok());
    }

    #[test]
    fn digests() {
        let credentials =
            Credentials::new([shared("branch", "swordfish"), with_keys("alice", "b")]).unwrap();
        let check = |name: &str, text: &str, expected: bool| {
            let digest = cram::digest(&password(text), b"<challenge>");
            let got = credentials.is_digest(&user(name), b"<challenge>", &digest);
            assert_eq!(got, expected, "{name} {text}");
        };
        check("branch", "swordfish", true);
        check("branch", "Swordfish", false);
        check("alice", "b", false);
        check("nobody", "swordfish", false);
        let typed = Credentials::new([shared("k\u{e4}the", "pa\u{308}ss")]).unwrap();
        for (text, expected) in [("pa\u{308}ss", true), ("p\u{e4}ss", true), ("pass", false)] {
            let digest = cram::digest(&password(text), b"<challenge>");
            let got = typed.is_digest(&user("ka\u{308}the"), b"<challenge>", &digest);
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let credentials = Credentials::new([shared("branch", "swordfish")]).unwrap();
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("branch") && !shown.contains("swordfish"),
            "{shown}"
        );
    }
}
