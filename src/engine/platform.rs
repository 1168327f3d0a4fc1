//! Platforms of images: `linux/amd64`, `linux/arm64/v8`.

use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImagePlatform {
    os: String,
    architecture: String,
    /// The variant as a number; none if it is not given.
    variant: Option<u32>,
}

impl ImagePlatform {
    /// Maps other names of an architecture to its usual one (containerd/platforms, `database.go`).
    pub(super) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (os, architecture) = (os.to_lowercase(), architecture.to_lowercase());
        let (architecture, said) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some(7)),
            "armel" => ("arm", Some(6)),
            "i386" | "i486" | "i586" | "i686" => ("386", None),
            other => (other, None),
        };
        let variant = variant.and_then(|v| v.trim_start_matches(['v', 'V']).parse().ok());
        Self { os, architecture: architecture.to_owned(), variant: variant.or(said) }
    }

    /// Takes a text that [`super::validate::platform`] has checked.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (next(), next(), next());
        Self::new(os, architecture, Some(variant))
    }

    /// Whether an image of platform `image` runs where this one is wanted: a processor also runs programs for older
    /// variants.
    pub(super) fn accepts(&self, image: &Self) -> bool {
        let older = match (self.variant, image.variant) {
            (Some(wanted), Some(found)) => found <= wanted,
            _ => true,
        };
        self.os == image.os && self.architecture == image.architecture && older
    }

    /// The form that the Docker API takes.
    pub(super) fn json(&self) -> String {
        let mut platform = json!({ "os": self.os, "architecture": self.architecture });
        if let Some(variant) = self.variant {
            platform["variant"] = format!("v{variant}").into();
        }
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_platform_is_another_image() {
        for (wanted, os, architecture, variant, takes) in [
            ("linux/amd64", "linux", "amd64", None, true),
            ("linux/x86_64", "linux", "amd64", Some(""), true),
            ("linux/arm64", "linux", "amd64", None, false),
            ("windows/amd64", "linux", "amd64", None, false),
            ("linux/arm64", "linux", "arm64", Some("v8"), true),
            ("linux/arm64/v8", "linux", "arm64", None, true),
            ("linux/arm64/v8", "linux", "aarch64", Some("v8"), true),
            ("linux/arm/v7", "linux", "arm", Some("v6"), true),
            ("linux/arm/v6", "linux", "arm", Some("v7"), false),
            ("linux/armhf", "linux", "arm", Some("v7"), true),
            ("linux/arm", "linux", "arm64", None, false),
        ] {
            let found = ImagePlatform::new(os, architecture, variant);
            assert_eq!(ImagePlatform::parse(wanted).accepts(&found), takes, "{wanted}: {found:?}");
        }
        assert_eq!(
            ImagePlatform::parse("linux/arm/v7").json(),
            r#"{"architecture":"arm","os":"linux","variant":"v7"}"#
        );
    }
}
