//! What belongs together of authentication.

use super::Checks;
use crate::config::options::{File, ListenerRole};
use crate::config::users::UsersFile;

impl Checks<'_> {
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
