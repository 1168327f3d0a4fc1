//! Parsers of texts from engines, registries and callers, for `crate::fuzzing`.

pub(crate) use super::{
    build::fuzz as build, containerd::fuzzing as containerd, credentials::fuzz as config_json,
    docker::fuzzing as docker,
};
use super::{platform::ImagePlatform, reference::Reference, registry, time, validate};

/// Image references, from callers and from engines; and the messages of a registry that refuses one.
pub(crate) fn references(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = validate::image("image", &text);
    let _ = validate::tag("target", &text);
    let _ = validate::id_or_name("id", &text);
    for asked in [registry::Asked::Pull, registry::Asked::Push] {
        registry::refused(asked, "docker.io/library/x:1", &text);
        registry::refused(asked, &text, "manifest unknown");
    }
    if validate::platform("platform", &text).is_ok() {
        let platform = ImagePlatform::parse(&text);
        assert!(platform.accepts(&platform));
        platform.json();
    }
    if let Ok(reference) = Reference::parse(&text) {
        let again = |text: &str| Reference::parse(text).map(|r| r.full());
        let full = reference.full();
        assert_eq!(again(&full).as_ref(), Ok(&full));
        // The image shown to the user must be the image that the engine is asked for, from the same registry.
        let mark = if reference.digest.is_some() { '@' } else { ':' };
        let familiar = format!("{}{mark}{}", reference.familiar_name(), reference.tag_or_digest());
        assert_eq!(again(&familiar), Ok(full));
    }
}

pub(crate) fn times(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(millis) = time::parse(&text) {
        // The range of a JavaScript Date, limited to years of four digits.
        assert!((-62_200_000_000_000..=253_500_000_000_000).contains(&millis), "{millis}");
        time::human(millis);
    }
    time::parse_nanos(&text);
}
