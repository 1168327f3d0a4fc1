//! What engines, registries and callers write, for `crate::fuzzing`.

pub(crate) use super::{
    containerd::fuzzing as containerd, credentials::fuzz as config_json, docker::fuzzing as docker,
};
use super::{platform::Platform, reference::Reference, registry, time, validate};

/// What names an image, in the caller's words and an engine's; and what a registry refuses it with.
pub(crate) fn references(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = validate::image("image", &text);
    let _ = validate::tag("target", &text);
    let _ = validate::id_or_name("id", &text);
    registry::refused("docker.io/library/x:1", &text);
    registry::refused(&text, "manifest unknown");
    if validate::platform("platform", &text).is_ok() {
        let platform = Platform::parse(&text);
        assert!(platform.accepts(&platform));
        platform.json();
    }
    if let Ok(reference) = Reference::parse(&text) {
        let again = |text: &str| Reference::parse(text).map(|r| r.full());
        let full = reference.full();
        assert_eq!(again(&full).as_ref(), Ok(&full));
        // What is shown, and what an engine is asked for, is the same image of the same registry.
        let mark = if reference.digest.is_some() { '@' } else { ':' };
        let familiar = format!("{}{mark}{}", reference.familiar_name(), reference.tag_or_digest());
        assert_eq!(again(&familiar), Ok(full));
    }
}

pub(crate) fn times(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(millis) = time::parse(&text) {
        // What a JavaScript Date can hold, in years of four digits.
        assert!((-62_200_000_000_000..=253_500_000_000_000).contains(&millis), "{millis}");
        time::human(millis);
    }
    time::parse_nanos(&text);
}
