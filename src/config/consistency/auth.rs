//! What belongs together of authentication.

use super::Checks;
use crate::config::options::{File, ListenerRole, SmarthostAuth, SmarthostSection, SmarthostTls};
use crate::config::users::UsersFile;
use crate::user::UserName;

impl Checks<'_> {
    /// A name that can be sent, and not to whoever answers.
    pub(super) fn smarthost_user(&mut self, smarthost: &SmarthostSection) {
        let option = "delivery.smarthost.user";
        let Some(user) = &*smarthost.user else {
            return;
        };
        if let Err(error) = user.parse::<UserName>() {
            let (what, instead) = (error.to_string(), "write the name as the host knows it");
            self.wrong(option, &smarthost.user, what, instead);
        }
        let password = *smarthost.auth == SmarthostAuth::Password;
        if password && *smarthost.tls == SmarthostTls::Opportunistic && smarthost.tls.is_sound() {
            let what = "the password could go to whoever answers: TLS is only tried";
            let instead = "write `tls = \"required\"` or \"verified\"; or \"none\" on a private \
                           line, where only mechanisms are used that keep the password off it";
            self.wrong(option, &smarthost.user, what, instead);
        }
    }

    /// Whoever is to be known by a certificate shows one, and TLS in which it is shown.
    pub(super) fn smarthost_external(&mut self, smarthost: &SmarthostSection) {
        let option = "delivery.smarthost.auth";
        if smarthost.certificate.is_none() && smarthost.certificate.is_sound() {
            let what = "\"external\" needs a certificate by which the server knows us";
            let instead = "add `certificate = \"…\"` and `key = \"…\"`";
            self.wrong(option, &smarthost.auth, what, instead);
        }
        if let SmarthostTls::None | SmarthostTls::Opportunistic = *smarthost.tls
            && smarthost.tls.is_sound()
        {
            let what = "\"external\" needs TLS, in which the certificate is shown";
            let instead = "write `tls = \"required\"` or \"verified\"";
            self.wrong(option, &smarthost.auth, what, instead);
        }
        if smarthost.password_file.is_some() {
            let option = "delivery.smarthost.password_file";
            let what = "is not used: `auth = \"external\"` shows the certificate instead";
            let instead = "remove it, or write `auth = \"password\"`";
            self.wrong(option, &smarthost.password_file, what, instead);
        }
    }

    /// The file of users, and who needs it.
    pub(super) fn users(&mut self, file: &File) {
        let users_file = &file.relay.users_file;
        if let Some(path) = &**users_file
            && let Err((what, instead)) = UsersFile::new(path, self.surroundings).read()
        {
            self.wrong("relay.users_file", users_file, what, instead);
        }
        let has_users = users_file.is_some() || !users_file.is_sound();
        let mut customers = file.customer.iter();
        let has_callers = customers.any(|customer| customer.user.is_some());
        for listener in &**file.listener {
            if *listener.role == ListenerRole::Odmr && !has_callers {
                let what = "nobody could call there: no customer has a user";
                let instead = "add `user` and `password_file` to a [[customer]]";
                self.wrong("listener.role", &listener.role, what, instead);
            }
            if !has_users && *listener.role == ListenerRole::Submission {
                let what = "nobody could authenticate there: there are no users";
                let instead = "add `users_file` to [relay], or write `role = \"mx\"`";
                self.wrong("listener.role", &listener.role, what, instead);
            }
        }
    }
}
