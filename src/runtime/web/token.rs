//! The token: who knows it may act.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use subtle::ConstantTimeEq as _;

use crate::config::WebToken;
use crate::config::secret::{Secret, SecretFile};

/// Octets that are drawn. Nobody guesses 192 bits.
const DRAWN_BYTES: usize = 24;

/// A token of the operator's own is no shorter: it stands against whoever can reach the
/// page, as often as he likes to try.
const TOKEN_BYTES_MIN: usize = 16;

/// The token. Shows nothing of itself.
#[derive(Debug)]
pub struct Token(Secret);

impl Token {
    /// Reads it; a file of our own is made if it is not there.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(from: &WebToken) -> Result<Self, String> {
        if let WebToken::Generated(path) = from
            && !path.exists()
        {
            generate(path).map_err(|error| format!("making {} failed: {error}", path.display()))?;
        }
        Self::read(from)
    }

    /// Reads it.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn read(from: &WebToken) -> Result<Self, String> {
        let file = match from {
            WebToken::Written(file) => file.clone(),
            WebToken::Generated(path) => SecretFile::at(path.clone()),
        };
        let shown = file.path().display().to_string();
        if let WebToken::Generated(path) = from {
            let mode = std::fs::metadata(path).map(|metadata| metadata.mode() & 0o7777);
            let mode = mode.map_err(|error| format!("reading {shown} failed: {error}"))?;
            if mode & 0o077 != 0 {
                return Err(format!(
                    "{shown} is open to others (mode {mode:04o}); remove it and restart, and a \
                     new token is made"
                ));
            }
        }
        let secret = (file.read()).map_err(|error| format!("reading {shown} failed: {error}"))?;
        if secret.reveal().len() < TOKEN_BYTES_MIN {
            return Err(format!(
                "the token in {shown} is shorter than {TOKEN_BYTES_MIN} characters; write a \
                 longer one: `openssl rand -hex 24`"
            ));
        }
        // It goes into a header field and into a link.
        if !secret.reveal().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "the token in {shown} has characters that a header field cannot carry; write \
                 letters and digits: `openssl rand -hex 24`"
            ));
        }
        Ok(Self(secret))
    }

    /// Whether somebody knows it. The time that this takes tells nothing of it.
    #[must_use]
    pub fn is(&self, claimed: &str) -> bool {
        let token = self.0.reveal().as_bytes();
        token.ct_eq(claimed.as_bytes()).into()
    }

    /// The text, for the operator who asks for it on this machine.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// Draws a token. A file that is half written is never seen under its name.
fn generate(path: &Path) -> io::Result<()> {
    let mut octets = [0; DRAWN_BYTES];
    let flags = rustix::rand::GetRandomFlags::empty();
    let mut drawn = 0;
    while drawn < octets.len() {
        drawn += rustix::rand::getrandom(&mut octets[drawn..], flags)?;
    }
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = (options.write(true).create(true).truncate(true).mode(0o600)).open(&new)?;
    // One that was left over may have had another mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_drawn_once_and_for_us_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web-token");
        let from = WebToken::Generated(path.clone());
        let first = Token::open(&from).expect("it is made");
        assert_eq!(first.reveal().len(), 2 * DRAWN_BYTES);
        let again = Token::open(&from).expect("it is read");
        assert!(again.is(first.reveal()));
        assert!(!again.is(""));
        assert!(!again.is(&first.reveal()[1..]));
        let mode = std::fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("it is ours");
        let error = Token::open(&from).expect_err("others may have read it");
        assert!(error.contains("0640"), "{error}");
    }

    #[test]
    fn a_weak_token_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let check = |text: &str, expected: &str| {
            std::fs::write(&path, text).expect("it is written");
            let written = WebToken::Written(SecretFile::at(path.clone()));
            let error = Token::open(&written).expect_err("it is weak");
            assert!(error.contains(expected), "{error}");
        };
        check("0123456789abcde\n", "shorter than 16");
        check("0123456789 abcdef\n", "cannot carry");
        check("0123456789äabcdef\n", "cannot carry");
    }
}
