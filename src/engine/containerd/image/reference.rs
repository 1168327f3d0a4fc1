//! Image references: what people write, and what containerd's store calls them.

use crate::engine::reference::Reference;
pub(crate) use crate::engine::reference::familiar;

/// As the store has it: `busybox` is `docker.io/library/busybox:latest`. An id is no name of the store, and stays.
pub(crate) fn full(reference: &str) -> String {
    Reference::parse(reference).map_or_else(|_| reference.to_owned(), |r| r.full())
}

/// Whether a name of the store is one a person gave: not a digest's, nor the one nerdctl gives what it could not delete
/// (docs/reference/nerdctl.md#removed-images).
pub(crate) fn is_tag(full: &str) -> bool {
    !full.contains('@') && full.contains('/') && !full.starts_with("overlayfs")
}

/// The digest, or the beginning of one, that `reference` may mean.
pub(crate) fn as_digest(reference: &str) -> Option<String> {
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    let plausible = hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (plausible && hex.len() >= 4).then(|| format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_go_both_ways() {
        for (written, stored) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app:1", "docker.io/me/app:1"),
            ("ghcr.io/a/b:c", "ghcr.io/a/b:c"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            ("127.0.0.1:5000/library/x:1", "127.0.0.1:5000/library/x:1"),
            ("localhost/a:1", "localhost/a:1"),
        ] {
            assert_eq!(full(written), stored);
            assert_eq!(full(stored), stored);
            let shown = if written == "busybox" { "busybox:latest" } else { written };
            assert_eq!(familiar(stored), shown);
            assert!(is_tag(stored));
        }
        assert_eq!(full("127.0.0.1:5000/a"), "127.0.0.1:5000/a:latest");
        assert_eq!(full("index.docker.io/a"), "docker.io/library/a:latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(full(&format!("a:1@{digest}")), format!("docker.io/library/a@{digest}"));
        assert!(!is_tag(&format!("docker.io/library/a@{digest}")) && !is_tag(":"));
    }

    #[test]
    fn what_may_be_a_digest() {
        assert_eq!(as_digest("sha256:abcd").as_deref(), Some("sha256:abcd"));
        assert_eq!(as_digest("0123456789ab").as_deref(), Some("sha256:0123456789ab"));
        assert_eq!(as_digest("busybox"), None);
        assert_eq!(as_digest("abcd:1"), None);
    }
}
