use super::*;

fn scopes() -> Vec<Scope> {
    let scopes = ["branch.example", ".branch.example", "other.example"];
    scopes.map(|scope| scope.parse().unwrap()).into()
}

fn list(text: &str) -> RecipientList {
    RecipientList::parse(text, &scopes()).unwrap()
}

#[test]
fn what_is_listed_is_taken() {
    let check = |text: &str, address: &str, expected: bool| {
        let address: Address = address.parse().unwrap();
        assert_eq!(list(text).has(&address), expected, "{text:?} {address}");
    };
    let full = "# the people\n\nbob@branch.example\n";
    check(full, "bob@branch.example", true);
    check(full, "BOB@Branch.Example", true);
    check(full, "\"bob\"@branch.example", true);
    check(full, "\"b\\ob\"@branch.example", true);
    check(full, "bob+news@branch.example", true);
    check(full, "bob+@branch.example", true);
    check(full, "bob+a+b@branch.example", true);
    check(full, "bob@other.example", false);
    check(full, "bob@sub.branch.example", false);
    check(full, "bobby@branch.example", false);
    check(full, "bo@branch.example", false);
    check(full, "+bob@branch.example", false);
    check(full, "Postmaster@other.example", true);
    check(full, "postmaster+x@other.example", false);
    check("bob", "bob@other.example", true);
    check("bob", "bob+x@deep.sub.branch.example", true);
    check("bob", "alice@other.example", false);
    check("@other.example", "anybody@other.example", true);
    check("@other.example", "anybody@branch.example", false);
    check("BOB@OTHER.EXAMPLE", "bob@other.example", true);
    check("bob+news", "bob+news@other.example", true);
    check("bob+news", "bob@other.example", false);
    check("+x", "+x@other.example", true);
    check("\"a b\"@other.example OK", "\"a b\"@other.example", true);
    check("\"a@b\"", "\"a@b\"@other.example", true);
    check("\"a@b\"", "a@b.other.example", false);
    check("müller", "müller@other.example", true);
    check("\u{feff}bob\r\n", "bob@other.example", true);
    check("  bob@other.example\tOK\r\n", "bob@other.example", true);
    check("bob # left in May", "bob@other.example", true);
    check("bob # left in May", "left@other.example", false);
    check("", "bob@other.example", false);
}

#[test]
fn a_fault_names_its_line() {
    let check = |text: &str, line: usize, why: &str| {
        let fault = RecipientList::parse(text, &scopes()).unwrap_err();
        assert_eq!(fault.line, line, "{text:?}");
        assert!(fault.why.contains(why), "{text:?}: {fault}");
    };
    check(
        "bob\n\nx@elsewhere.example",
        3,
        "no domain of this customer",
    );
    check("x@example", 1, "no domain of this customer");
    check("x@xbranch.example", 1, "no domain of this customer");
    check("x@.branch.example", 1, "");
    check("bob,alice@other.example", 1, "character");
    check("\"bob", 1, "malformed");
    check(&format!("a\nb\n{}", "x".repeat(3000)), 3, "longer than");
    check("@", 1, "empty");
}

/// Hash tables that grow, and names that are one another's beginnings.
#[test]
fn many_are_found_and_others_are_not() {
    let text: String = (0..20_000)
        .map(|i| format!("u{}@other.example\n", i * 2))
        .collect();
    let list = list(&format!("{text}{text}"));
    assert_eq!(list.len(), 20_000);
    for i in 0..40_000 {
        let address: Address = format!("U{i}@other.example").parse().unwrap();
        assert_eq!(list.has(&address), i % 2 == 0, "{address}");
    }
}
