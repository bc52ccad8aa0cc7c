//! Which mail exchangers to try, and in which order (RFC 5321 §5.1, RFC 7505).
//!
//! A pure function of what the DNS said: it asks nobody, and it says of each name that
//! it leaves out why. Equal preferences are put in an order drawn from a seed, so that
//! a fleet of clients spreads over them. Whether an *address* is our own is not known
//! here; [`Ordered::end_before`] is for who finds out.

use std::fmt;

use crate::mail::Domain;

/// Exchangers of one domain that are looked at. A domain that lists more does not
/// want its mail more; the rest are the least preferred ones.
pub const EXCHANGERS_MAX: usize = 32;

/// Why a domain's exchangers are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoExchanger {
    /// RFC 7505: `MX 0 .`. Permanent: 556 5.1.10.
    #[error("it says that it takes no mail (null MX)")]
    NullMx,
    /// We are the most preferred one ourselves, and no route says where to go.
    /// Permanent: 5.4.6, the mail would loop.
    #[error("we are its best mail exchanger ourselves and have no [[route]] for it")]
    Ourselves,
    /// No exchanger has a name that can be one. Permanent: 5.4.4.
    #[error("none of its mail exchangers has a valid name")]
    NoName,
}

/// An exchanger to be tried.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Exchanger {
    /// Lower ones first.
    pub preference: u16,
    /// Its name.
    pub name: Domain,
}

/// Why an exchanger is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It cannot be a host name.
    NotAName,
    /// It is us.
    Ourselves,
    /// It is no better than we are: mail would go round (RFC 5321 §5.1).
    NoBetterThanUs,
    /// More than [`EXCHANGERS_MAX`].
    TooMany,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAName => "its name is no host name",
            Self::Ourselves => "that is this host",
            Self::NoBetterThanUs => "it is not preferred to this host, so mail would go round",
            Self::TooMany => "the list is too long, and it is among the least preferred",
        })
    }
}

/// An exchanger that is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// As it stands in the DNS.
    pub preference: u16,
    /// As it stands in the DNS.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// What is to be tried, and what is not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ordered {
    /// Best first.
    pub exchangers: Vec<Exchanger>,
    /// The others.
    pub dropped: Vec<Dropped>,
}

impl Ordered {
    /// We are one of preference `own`: those that are not preferred to us are left out.
    pub fn end_before(&mut self, own: u16) {
        let kept = self.exchangers.partition_point(|e| e.preference < own);
        let rest = self.exchangers.drain(kept..);
        self.dropped.extend(rest.map(|exchanger| Dropped {
            preference: exchanger.preference,
            name: exchanger.name.to_string(),
            reason: Reason::NoBetterThanUs,
        }));
    }
}

/// The names to try, best first, and why others are not. No records: the domain
/// itself, as if it were its exchanger with preference 0.
///
/// # Errors
/// The domain takes no mail, or none that we could bring.
pub fn order(
    domain: &Domain,
    records: Vec<(u16, String)>,
    ourselves: &Domain,
    seed: u64,
) -> (Ordered, Result<(), NoExchanger>) {
    let mut ordered = Ordered::default();
    if records.is_empty() {
        ordered.exchangers.push(Exchanger {
            preference: 0,
            name: domain.clone(),
        });
        return (ordered, Ok(()));
    }
    if let [(_, only)] = records.as_slice()
        && matches!(only.as_str(), "." | "")
    {
        return (ordered, Err(NoExchanger::NullMx));
    }
    for (preference, name) in records {
        match name.parse() {
            Ok(name) => ordered.exchangers.push(Exchanger { preference, name }),
            // The others may be good.
            Err(_) => ordered.dropped.push(Dropped {
                preference,
                name,
                reason: Reason::NotAName,
            }),
        }
    }
    if ordered.exchangers.is_empty() {
        return (ordered, Err(NoExchanger::NoName));
    }
    ordered.exchangers.sort_by_cached_key(|exchanger| {
        let lot = lot(seed, &exchanger.name);
        (exchanger.preference, lot, exchanger.name.clone())
    });
    let own = ordered.exchangers.iter().position(|e| e.name == *ourselves);
    if let Some(own) = own {
        let Exchanger { preference, name } = ordered.exchangers.remove(own);
        ordered.end_before(preference);
        ordered.dropped.push(Dropped {
            preference,
            name: name.to_string(),
            reason: Reason::Ourselves,
        });
        if ordered.exchangers.is_empty() {
            return (ordered, Err(NoExchanger::Ourselves));
        }
    }
    let rest = ordered.exchangers.len().min(EXCHANGERS_MAX);
    let rest = ordered.exchangers.drain(rest..);
    ordered.dropped.extend(rest.map(|exchanger| Dropped {
        preference: exchanger.preference,
        name: exchanger.name.to_string(),
        reason: Reason::TooMany,
    }));
    (ordered, Ok(()))
}

/// A name's place among equals: FNV-1a over the seed and the name, finished so
/// that neighbours in the alphabet do not stay neighbours.
fn lot(seed: u64, name: &Domain) -> u64 {
    let hash = name
        .as_str()
        .bytes()
        .fold(seed ^ 0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(records: &[(u16, &str)], seed: u64) -> (Ordered, Result<(), NoExchanger>) {
        let domain = "a.example".parse().expect("a domain");
        let ourselves = "us.example".parse().expect("a domain");
        let records = records.iter().map(|(p, n)| (*p, (*n).to_owned())).collect();
        order(&domain, records, &ourselves, seed)
    }

    #[test]
    fn the_table() {
        let check = |records: &[(u16, &str)], expected: Result<&[&str], NoExchanger>| {
            let (ordered, result) = ordered(records, 1);
            let names: Vec<_> = (ordered.exchangers.iter())
                .map(|exchanger| exchanger.name.as_str())
                .collect();
            assert_eq!(result.map(|()| names.as_slice()), expected, "{records:?}");
            let kept = ordered.exchangers.len() + ordered.dropped.len();
            let null = result == Err(NoExchanger::NullMx);
            assert_eq!(
                kept,
                if null { 0 } else { records.len().max(1) },
                "{records:?}"
            );
        };
        check(&[], Ok(&["a.example"]));
        check(&[(0, ".")], Err(NoExchanger::NullMx));
        // RFC 7505 §3: only where it stands alone.
        check(&[(0, "."), (10, "b.example.")], Ok(&["b.example"]));
        check(
            &[(20, "b.example."), (10, "C.example.")],
            Ok(&["c.example", "b.example"]),
        );
        check(
            &[(10, "us.example."), (5, "b.example.")],
            Ok(&["b.example"]),
        );
        check(
            &[(10, "us.example."), (10, "b.example.")],
            Err(NoExchanger::Ourselves),
        );
        check(
            &[(10, "us.example."), (20, "b.example.")],
            Err(NoExchanger::Ourselves),
        );
        check(
            &[(10, "not a name"), (20, "b.example.")],
            Ok(&["b.example"]),
        );
        check(&[(10, "not a name")], Err(NoExchanger::NoName));
    }

    #[test]
    fn what_is_left_out_has_a_reason() {
        let (ordered, _) = ordered(
            &[
                (5, "b.example"),
                (10, "us.example"),
                (10, "c.example"),
                (20, "d.example"),
                (1, "no name"),
            ],
            1,
        );
        let reason = |name: &str| {
            let dropped = ordered.dropped.iter().find(|dropped| dropped.name == name);
            dropped.map(|dropped| dropped.reason)
        };
        assert_eq!(reason("b.example"), None);
        assert_eq!(reason("us.example"), Some(Reason::Ourselves));
        assert_eq!(reason("c.example"), Some(Reason::NoBetterThanUs));
        assert_eq!(reason("d.example"), Some(Reason::NoBetterThanUs));
        assert_eq!(reason("no name"), Some(Reason::NotAName));
    }

    #[test]
    fn a_long_list_is_cut_at_its_end() {
        let names: Vec<_> = (0..1000).map(|i| format!("h{i}.example")).collect();
        let records: Vec<_> = (names.iter().enumerate())
            .map(|(i, name)| (i as u16, name.as_str()))
            .rev()
            .collect();
        let (ordered, result) = ordered(&records, 1);
        assert_eq!(result, Ok(()));
        assert_eq!(ordered.exchangers.len(), EXCHANGERS_MAX);
        assert!((ordered.exchangers.iter().zip(0..)).all(|(e, i)| e.preference == i));
        assert_eq!(ordered.dropped.len(), 1000 - EXCHANGERS_MAX);
    }

    #[test]
    fn equals_are_tried_in_every_order() {
        let records = [(10, "b.example"), (10, "c.example"), (5, "first.example")];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let (got, _) = ordered(&records, seed);
            assert_eq!(got.exchangers[0].name.as_str(), "first.example");
            seen.insert(got.exchangers[1].name.clone());
        }
        assert_eq!(seen.len(), 2, "both come first sometimes");
    }
}
