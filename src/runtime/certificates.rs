//! Certificates and authorities, from files to what the cores need; read again by each
//! reload. A session keeps what it began with.

use std::sync::Arc;
use std::time::Duration;

use rustls::time_provider::DefaultTimeProvider;

use crate::config::certificate::{self, KeyPair};
use crate::config::{Config, DeliveryMode, ListenerTls, Means, Smarthost, SmarthostTls};
use crate::core::settings::Tls;
use crate::report::Fact;
use crate::time::WallTime;
use crate::tls::{ClientSettings, Identity, ServerSettings};

/// How long before its end a certificate is spoken of: two attempts of a renewal that
/// runs every week.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Reads all files that the configuration names, and tells which certificates end soon.
///
/// # Errors
/// What cannot be used, for the operator.
pub fn load(config: &Config, now: WallTime) -> Result<(Tls, Vec<Fact>), String> {
    let mut facts = Vec::new();
    let mut identity = |pair: &KeyPair, whom: &str| -> Result<Identity, String> {
        let identity = pair.load().map_err(|trouble| trouble.to_string())?;
        let path = pair.certificate.display().to_string();
        facts.extend(ending(&path, whom, identity.not_after(), now));
        Ok(identity)
    };
    let server = match &config.tls {
        None => None,
        Some(tls) => {
            let own = identity(&tls.pair, "clients that check it break off")?;
            let client_ca = match &tls.client_ca {
                None => None,
                Some(path) => Some(certificate::read(path).map_err(|error| {
                    format!("tls.client_ca: {} cannot be read: {error}", path.display())
                })?),
            };
            let settings =
                ServerSettings::new(&own, client_ca.as_deref(), Arc::new(DefaultTimeProvider));
            Some(settings.map_err(|what| format!("[tls] cannot be used: {what}"))?)
        }
    };
    let identities = own_certificates(config)
        .map(|pair| identity(pair, "the smarthost may not know us by it"))
        .collect::<Result<Vec<_>, _>>()?;
    // Where we get our mail we show a password, and so it is always checked.
    let mut means = config.collectors.iter().map(|collector| &collector.means);
    let collects = means.any(|means| match means {
        Means::Mailbox(mailbox) => mailbox.tls != ListenerTls::None,
        Means::Provider(provider) => provider.tls != ListenerTls::None,
        Means::Letter { .. } | Means::Command(_) => false,
    });
    let verifies = smarthosts(config).any(|host| host.tls == SmarthostTls::Verified) || collects;
    // Under TLS clients may ask for REQUIRETLS, which goes only to hosts that are verified.
    let wanted = verifies || config.tls.is_some();
    let authorities = match wanted.then(authorities).transpose() {
        Ok(found) => found.unwrap_or_default(),
        Err(what) if verifies => return Err(what),
        Err(what) => {
            let what = format!("{what}; until then mail with REQUIRETLS is returned");
            facts.push(Fact::Trouble { what });
            Vec::new()
        }
    };
    let client = ClientSettings::new(authorities, identities, Arc::new(DefaultTimeProvider));
    Ok((Tls { server, client }, facts))
}

/// The certificates that we show to hosts, in the order in which they are numbered.
pub fn own_certificates(config: &Config) -> impl Iterator<Item = &KeyPair> {
    smarthosts(config).filter_map(|smarthost| smarthost.certificate.as_ref())
}

fn smarthosts(config: &Config) -> impl Iterator<Item = &Smarthost> {
    match &config.delivery.mode {
        DeliveryMode::Mx => [].iter(),
        DeliveryMode::Smarthost(hosts) | DeliveryMode::MxThenSmarthost(hosts) => hosts.iter(),
    }
}

/// Whom this system trusts: the file in `SSL_CERT_FILE`, or what the distribution has.
fn authorities() -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = (found.errors.first()).map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "a server is to be verified: this system has no authorities to check certificates \
             with{why}; install ca-certificates, or name a file in SSL_CERT_FILE"
        ));
    }
    Ok(found.certs)
}

fn ending(path: &str, whom: &str, not_after: WallTime, now: WallTime) -> Option<Fact> {
    let date = not_after.rfc5322();
    let left = not_after.since(now);
    let what = if not_after <= now {
        format!("the certificate in {path} has expired ({date}): {whom}; renew it, then reload")
    } else if left <= SOON {
        let days = left.as_secs() / (24 * 3600);
        format!("the certificate in {path} expires in {days} days ({date}); renew it, then reload")
    } else {
        return None;
    };
    Some(Fact::CertificateEnds { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_spoken_of_two_weeks_before_their_end() {
        const DAY: i64 = 24 * 3600 * 1000;
        let now = WallTime::from_millis(1_780_272_000_000);
        let check = |days: i64, expected: Option<&str>| {
            let not_after = WallTime::from_millis(now.as_millis() + days * DAY);
            let fact = ending("mx.pem", "clients break off", not_after, now);
            let text = fact.map(|fact| fact.to_string());
            match (&text, expected) {
                (Some(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
                _ => assert_eq!(text.as_deref(), expected),
            }
        };
        check(15, None);
        check(14, Some("expires in 14 days (Mon, 15 Jun 2026"));
        check(0, Some("has expired"));
        check(-400, Some("has expired (Sun, 27 Apr 2025"));
    }
}
