//! Why TLS failed, by who is at fault, in words for the operator.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a connection under TLS, or on its way there, is of no more use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The certificate of the peer is not good.
    Certificate(String),
    /// The peer did not want to go on, and said so by an alert.
    Refused(String),
    /// Both sides keep to the rules and have no version or cipher in common.
    Incompatible(String),
    /// What the peer sends is no TLS, or breaks its rules, or was changed on the way.
    Broken(String),
    /// We cannot: an error of ours, or of our settings.
    Ours(String),
}

impl Fault {
    pub(super) fn ours(what: &str) -> Self {
        Self::Ours(what.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(what) => write!(f, "the certificate is not good: {what}"),
            Self::Refused(what) => write!(f, "the other side broke it off: {what}"),
            Self::Incompatible(what) => write!(f, "nothing in common: {what}"),
            Self::Broken(what) => write!(f, "the other side breaks the rules: {what}"),
            Self::Ours(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::Certificate(certificate(&error)),
            Error::NoCertificatesPresented => {
                Self::Certificate("none was shown, and one is needed".to_owned())
            }
            Error::AlertReceived(alert) => Self::Refused(self::alert(alert).to_owned()),
            Error::PeerIncompatible(why) => Self::Incompatible(incompatible(&why)),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Broken(
                "what came is no TLS; perhaps the port speaks in clear first".to_owned(),
            ),
            Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Self::Broken(
                "what came is no TLS, or of a version that nobody should use".to_owned(),
            ),
            Error::InvalidMessage(what) => {
                Self::Broken(format!("a message makes no sense ({what:?})"))
            }
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::Broken("a message came where it has no place".to_owned())
            }
            Error::DecryptError => {
                Self::Broken("a record cannot be decrypted: it was changed on the way".to_owned())
            }
            Error::PeerSentOversizedRecord => Self::Broken("a record is too long".to_owned()),
            Error::PeerMisbehaved(what) => Self::Broken(format!("{what:?}")),
            other => Self::Ours(other.to_string()),
        }
    }
}

/// What is wrong with a certificate. Names in it are the peer's: rustls gives parsed
/// ones, and the report escapes them.
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            let time = crate::time::WallTime::from_millis(
                i64::try_from(not_after.as_secs())
                    .map_or(i64::MAX, |seconds| seconds.saturating_mul(1000)),
            );
            format!("it has expired ({})", time.rfc5322())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock right?".to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            if presented.is_empty() {
                format!("it is for no name, and not for {expected}")
            } else {
                // A certificate may have hundreds; a few show what it is for.
                let names = presented
                    .iter()
                    .take(3)
                    .map(|name| short_name(name))
                    .collect::<Vec<_>>()
                    .join(", ");
                format!("it is for {names}, and not for {expected}")
            }
        }
        CertificateError::UnknownIssuer => {
            "its issuer is unknown: self-signed, or by an authority that this system does not know"
                .to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for another purpose".to_owned()
        }
        CertificateError::UnhandledCriticalExtension => {
            "it has an extension that is not understood".to_owned()
        }
        // The library has no name for it. `openssl req -x509` makes such ones.
        CertificateError::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => {
            "it is that of an authority, made by itself and not for a server; with tls = \
             \"required\" nobody checks it"
                .to_owned()
        }
        other => format!("{other}"),
    }
}

/// `mx.example` for `DnsName("mx.example")`, which is how the library shows names.
fn short_name(shown: &str) -> &str {
    shown
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"))
        .unwrap_or(shown)
}

/// The alerts that are seen in the field; the others by their names in RFC 8446 §6.
fn alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => "it does not like our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::CertificateRevoked => "our certificate was revoked",
        AlertDescription::UnknownCA => "it does not know who issued our certificate",
        AlertDescription::CertificateRequired => "it wants a certificate from us",
        AlertDescription::ProtocolVersion => "it has no version of TLS that we have",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "it has no cipher that we have"
        }
        AlertDescription::UnrecognisedName => "it does not know the name that we asked for",
        AlertDescription::InternalError => "it has an error of its own",
        AlertDescription::UserCanceled => "it was told to",
        AlertDescription::AccessDenied => "it denies access",
        AlertDescription::DecryptError => "it could not check a signature of ours",
        AlertDescription::BadRecordMac => "a record of ours was changed on the way",
        other => other.as_str().unwrap_or("for a reason without a name"),
    }
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher".to_owned(),
        PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => {
            "the other side has only versions of TLS before 1.2".to_owned()
        }
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange".to_owned(),
        PeerIncompatible::NoSignatureSchemesInCommon => "no kind of signature".to_owned(),
        other => format!("{other:?}"),
    }
}
