//! The target that `TURNSPOOL_FUZZ` names.

#![no_main]

#[path = "../../../spool-format/tests/common/mod.rs"]
mod common;
#[path = "../../dialogues/login.rs"]
mod login;
#[allow(dead_code)]
#[path = "../../dialogues/script.rs"]
mod script;
#[path = "../targets/mod.rs"]
mod targets;
#[allow(dead_code)]
#[path = "../../dialogues/world.rs"]
mod world;

use std::sync::LazyLock;

use targets::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TURNSPOOL_FUZZ").expect("TURNSPOOL_FUZZ names a target");
    let found = targets::TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("no target is called {name}")).1
});

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    (TARGET)(octets);
});
