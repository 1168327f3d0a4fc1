//! Any bytes, to the parser that `LIMA_RUNTIME_FUZZ` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lima_runtime::fuzzing::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("LIMA_RUNTIME_FUZZ").expect("LIMA_RUNTIME_FUZZ names a parser");
    TARGETS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("there is no parser {name}")).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
