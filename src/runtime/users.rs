//! Who may authenticate, from the files that the configuration names.

use std::sync::Arc;

use crate::config::Config;
use crate::core::credentials::{Account, AccountKind, Credentials};

/// Reads them. Each reload reads them anew.
///
/// # Errors
/// For the operator: which file is wrong, and how.
pub fn credentials(config: &Config) -> Result<Credentials, String> {
    let users = match &config.relay.users_file {
        None => Vec::new(),
        Some(file) => {
            let users = file
                .read()
                .map_err(|(what, instead)| format!("relay.users_file: {what}; {instead}"))?;
            users
                .iter()
                .map(|(user, stored)| {
                    let account = Account {
                        kind: AccountKind::User,
                        stored: Arc::new(stored.clone()),
                    };
                    (user.clone(), account)
                })
                .collect()
        }
    };
    Credentials::new(users).map_err(|error| error.to_string())
}
