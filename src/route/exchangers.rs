//! Which mail exchangers to try, and in which order (RFC 5321 §5.1, RFC 7505).
//!
//! A pure function of what the DNS said: it asks nobody. Equal preferences are put
//! in an order drawn from a seed, so that a fleet of clients spreads over them.

use crate::mail::Domain;

/// Exchangers of one domain that are looked at. A domain that lists more does not
/// want its mail more; the rest are the least preferred ones.
pub const EXCHANGERS_MAX: usize = 32;

/// Why a domain's exchangers are of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoExchanger {
    /// RFC 7505: `MX 0 .`. Permanent: 556 5.1.10.
    #[error("the domain takes no mail (null MX)")]
    NullMx,
    /// We are the most preferred one ourselves, and no route says where to go.
    /// Permanent: 5.4.6, the mail would loop.
    #[error("we are the best mail exchanger ourselves and have no route for the domain")]
    Ourselves,
}

/// The names to try, best first. No records: the domain itself, as if it were its
/// exchanger with preference 0.
///
/// # Errors
/// The domain takes no mail, or it would come back to us.
pub fn order(
    domain: &Domain,
    records: Vec<(u16, String)>,
    ourselves: &Domain,
    seed: u64,
) -> Result<Vec<Domain>, NoExchanger> {
    if records.is_empty() {
        return Ok(vec![domain.clone()]);
    }
    if let [(_, only)] = records.as_slice()
        && matches!(only.as_str(), "." | "")
    {
        return Err(NoExchanger::NullMx);
    }
    let mut named: Vec<(u16, u64, Domain)> = records
        .into_iter()
        // A name that is none cannot be resolved: the others may be.
        .filter_map(|(preference, name)| Some((preference, name.parse().ok()?)))
        .map(|(preference, name): (u16, Domain)| (preference, lot(seed, &name), name))
        .collect();
    named.sort_unstable();
    let own = named
        .iter()
        .find(|(_, _, name)| name == ourselves)
        .map(|(preference, ..)| *preference);
    if let Some(own) = own {
        named.retain(|(preference, ..)| *preference < own);
        if named.is_empty() {
            return Err(NoExchanger::Ourselves);
        }
    }
    named.truncate(EXCHANGERS_MAX);
    Ok(named.into_iter().map(|(_, _, name)| name).collect())
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

    fn ordered(records: &[(u16, &str)], seed: u64) -> Result<Vec<String>, NoExchanger> {
        let domain = "a.example".parse().expect("a domain");
        let ourselves = "us.example".parse().expect("a domain");
        let records = records.iter().map(|(p, n)| (*p, (*n).to_owned())).collect();
        Ok(order(&domain, records, &ourselves, seed)?
            .iter()
            .map(Domain::to_string)
            .collect())
    }

    #[test]
    fn the_table() {
        let check = |records: &[(u16, &str)], expected: Result<&[&str], NoExchanger>| {
            let got = ordered(records, 1);
            let expected = expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{records:?}");
        };
        check(&[], Ok(&["a.example"]));
        check(&[(0, ".")], Err(NoExchanger::NullMx));
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
    }

    #[test]
    fn equals_are_tried_in_every_order() {
        let records = [(10, "b.example"), (10, "c.example"), (5, "first.example")];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let got = ordered(&records, seed).expect("exchangers");
            assert_eq!(got[0], "first.example");
            seen.insert(got[1].clone());
        }
        assert_eq!(seen.len(), 2, "both come first sometimes");
    }
}
