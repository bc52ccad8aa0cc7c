//! Who may authenticate, from the files that the configuration names.

use std::sync::Arc;

use crate::config::{Config, Login};
use crate::core::credentials::{Account, AccountKind, Credentials};
use crate::smtp::auth::Password;
use crate::smtp::auth::stored::Stored;
use crate::user::UserName;

/// Reads them: the file of users, and each customer's password. Each reload reads them
/// anew.
///
/// # Errors
/// For the operator: which file is wrong, and how.
pub fn credentials(config: &Config) -> Result<Credentials, String> {
    let mut accounts = Vec::new();
    if let Some(file) = &config.relay.users_file {
        let users = file
            .read()
            .map_err(|(what, instead)| format!("relay.users_file: {what}; {instead}"))?;
        accounts.extend(users.iter().map(|(user, stored)| {
            let account = Account {
                kind: AccountKind::User,
                stored: Arc::new(stored.clone()),
            };
            (user.clone(), account)
        }));
    }
    for customer in &config.customers {
        let Some(login) = &customer.login else {
            continue;
        };
        let (user, password) =
            read(login).map_err(|why| format!("customer \"{}\": {why}", customer.name))?;
        let account = Account {
            kind: AccountKind::Customer(customer.name.clone()),
            stored: Arc::new(Stored::shared(password)),
        };
        accounts.push((user, account));
    }
    Credentials::new(accounts).map_err(|error| error.to_string())
}

/// A user name, and the password from its file.
///
/// # Errors
/// For the operator. No secret is in it.
pub fn read(login: &Login) -> Result<(UserName, Password), String> {
    let user = login
        .user
        .parse()
        .map_err(|error| format!("the user name {:?}: {error}", login.user))?;
    let path = login.password_file.path().display();
    let secret = (login.password_file.read()).map_err(|error| format!("{path}: {error}"))?;
    let password =
        Password::new(secret.reveal().to_owned()).map_err(|error| format!("{path}: {error}"))?;
    Ok((user, password))
}
