//! Why a registry did not give or take an image: judged by its messages and its token server's, which dockerd, containerd and
//! podman pass on.

use super::reference::Reference;
use crate::error::{Error, ErrorCode};

const LOG_IN: &str = "Pass auth, or log in with `docker login` first.";

/// What a registry was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Pull,
    Push,
}

/// `said` is the engine's message about a failed pull or push.
pub(super) fn refused(asked: Asked, image: &str, said: &str) -> Error {
    let mut lower = said.to_lowercase();
    // The image's name may contain any of the words searched for below.
    if let Ok(reference) = Reference::parse(image) {
        lower = remove_name(&remove_name(&lower, &reference.familiar_name().to_lowercase()), reference.path());
    }
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    let status = |code: &str| has(&[&format!("http {code}"), &format!(": {code} ")]);
    if has(&["toomanyrequests", "too many requests", "rate limit"]) || status("429") {
        return failed(asked, image, said).hint(
            "The registry gives this computer no more for now. Log in for a larger share (pass auth, or `docker login`), or \
             wait: mostly for an hour, on Docker Hub for up to six.",
        );
    }
    if has(&["manifest unknown", "name unknown", "repository name not known", "no matching manifest"])
        || has(&["not found"]) && has(&["manifest", "failed to resolve"]) && !has(&["failed to authorize"])
        || status("404")
    {
        return match asked {
            Asked::Pull => no_image(image, said),
            Asked::Push => failed(asked, image, said)
                .hint("The registry has no such repository, and makes none for a push: make it there first."),
        };
    }
    // An error of the operating system does not come from a registry.
    let denied = lower.replace("permission denied", "").contains("denied");
    let refusals = [
        "unauthorized",
        "authentication required",
        "no basic auth",
        "incorrect username",
        "authorization failed",
        "forbidden",
    ];
    if denied || has(&refusals) || has(&["insufficient_scope"]) || status("401") || status("403") {
        let (what, more) = match asked {
            Asked::Pull => ("give", "A registry may say the same of an image that does not exist."),
            Asked::Push => ("take", "A registry may say the same of a repository that is not this account's."),
        };
        return Error::new(ErrorCode::RegistryAuth, format!("The registry refused to {what} {image}: {said}"))
            .detail("image", image)
            .hint(format!("{LOG_IN} {more}"));
    }
    let error = failed(asked, image, said);
    // Docker's image store of containerd passes on a token server's words without its status.
    if has(&["error from registry:"]) {
        return error.hint(
            "The registry did not give it. Log in (pass auth, or `docker login`) if it wants that, or wait if it limits what it \
             gives.",
        );
    }
    if has(&["no such host", "connection refused", "i/o timeout", "network is unreachable", "tls handshake timeout"]) {
        return error.hint("The engine does not reach the registry: look at its network, DNS and proxy settings.");
    }
    error
}

/// `text` without the name, where that stands alone.
fn remove_name(text: &str, name: &str) -> String {
    let part_of_a_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut pieces = text.split(name).peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(piece) = pieces.next() {
        out.push_str(piece);
        let Some(next) = pieces.peek() else { break };
        if part_of_a_word(out.chars().last()) || part_of_a_word(next.chars().next()) {
            out.push_str(name);
        }
    }
    out
}

fn no_image(image: &str, said: &str) -> Error {
    Error::new(ErrorCode::ImageNotFound, format!("There is no image {image}: {said}"))
        .detail("id", image)
        .hint("Check the name and tag.")
}

fn failed(asked: Asked, image: &str, said: &str) -> Error {
    let what = if asked == Asked::Pull { "Pulling" } else { "Pushing" };
    Error::new(ErrorCode::EngineError, format!("{what} {image} failed: {said}"))
}

/// The same for an error that was judged by less. Its details stay.
pub(super) fn explain(asked: Asked, image: &str, e: Error) -> Error {
    match e.code() {
        ErrorCode::EngineError | ErrorCode::RegistryAuth => refused(asked, image, e.message()).details_of(&e),
        ErrorCode::ImageNotFound if asked == Asked::Push => refused(asked, image, e.message()).details_of(&e),
        // The engine did not say which image it was.
        ErrorCode::ImageNotFound if !e.message().contains(image) => no_image(image, e.message()).details_of(&e),
        _ => e,
    }
}

#[cfg(test)]
mod tests {
    use ErrorCode::*;

    use super::*;

    /// Recorded from dockerd 20.10.24 and 29, nerdctl 2.1.6 and 2.3.5 and podman 4.3.1, with a registry and a token server that
    /// gave the answers of ghcr.io, Docker Hub, GitLab and Google.
    #[test]
    fn a_registrys_words_mean_the_same_from_every_engine() {
        let of_token = |status: &str| {
            format!(
                "failed to resolve reference \"r:5/x/a:1\": failed to authorize: failed to fetch anonymous token: unexpected \
                 status from GET request to http://r:5/token?scope=repository%3Ax%2Fa%3Apull&service=r: {status}"
            )
        };
        for (said, code) in [
            (
                "pull access denied for r:5/x/a, repository does not exist or may require 'docker login': denied: denied",
                RegistryAuth,
            ),
            ("Head \"http://r:5/v2/x/a/manifests/1\": denied: denied", RegistryAuth),
            ("Head \"http://r:5/v2/x/a/manifests/1\": denied", RegistryAuth),
            ("denied", RegistryAuth),
            // Of Docker's image store of containerd, all that is left of GitLab's "denied: access forbidden".
            ("error from registry: access forbidden", RegistryAuth),
            ("Head \"http://r:5/v2/x/a/manifests/1\": denied: access forbidden", RegistryAuth),
            (
                "Head \"http://r:5/v2/x/a/manifests/1\": denied: Permission \"artifactregistry.repositories.downloadArtifacts\" \
                 denied on resource \"projects/x\" (or it may not exist)",
                RegistryAuth,
            ),
            (
                "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: \"<html>\"",
                RegistryAuth,
            ),
            (&of_token("403 Forbidden"), RegistryAuth),
            (
                "failed to resolve reference \"r:5/x/a:1\": unexpected status from HEAD request to \
                 http://r:5/v2/x/a/manifests/1: 403 Forbidden",
                RegistryAuth,
            ),
            (
                "failed to resolve image: unexpected status from HEAD request to http://r:5/v2/x/a/manifests/1: 403 \
                 Forbidden\ndenied: denied\ndenied: denied",
                RegistryAuth,
            ),
            ("unauthorized", RegistryAuth),
            ("Head \"http://r:5/v2/x/a/manifests/1\": unauthorized: authentication required", RegistryAuth),
            (&of_token("401 Unauthorized"), RegistryAuth),
            (
                "initializing source docker://r:5/x/a:1: reading manifest 1 in r:5/x/a: denied: access forbidden",
                RegistryAuth,
            ),
            (
                "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
                EngineError,
            ),
            (
                "error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: \"<html>\"",
                EngineError,
            ),
            (&of_token("429 Too Many Requests"), EngineError),
            ("error from registry: slow down", EngineError),
            ("manifest unknown", ImageNotFound),
            ("Head \"http://r:5/v2/x/a/manifests/1\": name unknown", ImageNotFound),
            ("manifest for r:5/x/a:1 not found: manifest unknown: manifest unknown", ImageNotFound),
            ("failed to resolve reference \"r:5/x/a:1\": r:5/x/a:1: not found", ImageNotFound),
            ("failed to resolve image: r:5/x/a:1: not found", ImageNotFound),
            (
                "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>\"",
                ImageNotFound,
            ),
            ("no matching manifest for linux/arm64 in the manifest list entries", ImageNotFound),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", EngineError),
            ("received unexpected HTTP status: 500 Internal Server Error", EngineError),
            ("open /var/lib/docker/tmp/GetImageBlob4031: permission denied", EngineError),
        ] {
            let e = refused(Asked::Pull, "r:5/x/a:1", said);
            assert_eq!(e.code(), code, "{said}");
            assert!(e.message().contains(said), "{}", e.message());
            assert_eq!(
                e.hint_text().is_some_and(|h| h.contains("or wait")),
                ["429", "toomany", "slow down"].iter().any(|words| said.contains(words)),
                "{said}"
            );
        }
    }

    #[test]
    fn a_name_says_nothing() {
        for image in ["r:5/denied:1", "me/unauthorized", "ghcr.io/x/rate-limit", "r.io/manifest-unknown"] {
            let e = refused(
                Asked::Pull,
                image,
                &format!("{image}: failed to do request: Head \"https://{image}/v2/\": EOF"),
            );
            assert_eq!(e.code(), EngineError, "{image}");
        }
    }

    /// docker-registry and dockerd 20.10.24, nerdctl 2.1.6 and 2.3.5; the last is Amazon's.
    #[test]
    fn of_a_push_nothing_is_missing_but_the_repository() {
        for (said, code, hint) in [
            ("no basic auth credentials", RegistryAuth, "docker login"),
            ("unauthorized: authentication required", RegistryAuth, "docker login"),
            ("denied: requested access to the resource is denied", RegistryAuth, "this account's"),
            (
                "unexpected status from POST request to http://r:5/v2/x/a/blobs/uploads/: 403 Forbidden",
                RegistryAuth,
                "docker login",
            ),
            (
                "name unknown: The repository with name 'x/a' does not exist in the registry",
                EngineError,
                "make it there",
            ),
            ("failed to push: unexpected status: 404 Not Found", EngineError, "make it there"),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", EngineError, "reach"),
        ] {
            let e = refused(Asked::Push, "r:5/x/a:1", said);
            assert_eq!(e.code(), code, "{said}");
            assert!(e.hint_text().unwrap().contains(hint), "{said}: {:?}", e.hint_text());
        }
        let e = explain(Asked::Push, "a", Error::new(ImageNotFound, "unexpected status: 404 Not Found: not found"));
        assert_eq!(e.code(), EngineError);
    }

    #[test]
    fn what_was_known_stays() {
        let e = Error::new(EngineError, "denied: denied").detail("exitCode", 1);
        let e = explain(Asked::Pull, "a", e);
        assert_eq!((e.code(), &e.details()["exitCode"]), (RegistryAuth, &1.into()));
        assert_eq!(explain(Asked::Pull, "a", Error::new(DiskFull, "denied")).code(), DiskFull);
    }
}
