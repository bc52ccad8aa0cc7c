//! What the operator's pages say, against the code.

use std::collections::BTreeSet;

use crate::none;
use crate::source::text;

/// The names of facts, where the code gives them: after an arrow, in a function `name`.
fn names_in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in [
        "src/report/name.rs",
        "src/report/link.rs",
        "src/report/detail.rs",
        "src/report/collecting.rs",
    ] {
        let code = text(path);
        let mut functions = code.split("const fn ").skip(1);
        let named = functions
            .by_ref()
            .filter(|function| function.starts_with("name(") || function.starts_with("fact_name("));
        for function in named {
            let body = function.split("\n    }\n").next().expect("a body");
            for line in body.lines() {
                if let Some((_, value)) = line.split_once("=> \"") {
                    names.insert(value.trim_end_matches(['"', ',']).to_owned());
                }
            }
        }
    }
    // Told by the log itself.
    names.insert("log-lost".to_owned());
    names
}

#[test]
fn every_fact_is_in_the_manual() {
    let page = text("src/manual/log.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<String> = rows
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect();
    let known = names_in_code();
    assert!(known.len() > 40, "{known:?}");
    let missing = known
        .difference(&told)
        .map(|name| format!("{name} is not told"));
    let gone = told
        .difference(&known)
        .map(|name| format!("{name} is no fact"));
    let findings: Vec<_> = missing.chain(gone).collect();
    none("src/manual/log.md:", &findings);
}
