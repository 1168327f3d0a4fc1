//! Building images: what is the same on every engine.

mod account;
mod context;
mod ignore;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use account::fuzz;
pub(super) use account::{Account, Status};
use context::Context;

use super::{
    backend::{BoxRead, BoxStream},
    credentials::{self, Credentials},
    reference::Reference,
    registry::{self, Asked},
    types::{BuildOptions, StoredCredentials},
    validate::{self, shown},
};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::held::Links,
    progress::{BuildProgress, Sink, Throttle},
    task,
};

/// What a caller wants built.
pub enum BuildContext {
    /// A directory of this computer.
    Directory(String),
    /// A tar of one, sent as it is.
    Tar(BoxRead),
}

/// A build as an engine gets it: checked, and with a tar that is filtered already.
pub struct Build {
    pub(super) tar: BoxStream<Bytes>,
    /// The Dockerfile in the tar, with slashes.
    pub(super) dockerfile: String,
    /// Of a directory. What it does not list was left out here, but for the files that a builder needs.
    pub(super) is_directory: bool,
    pub(super) options: BuildOptions,
    pub(super) secrets: Secrets,
    /// The registries whose credentials it may need: others' are not given away, whoever asks for them.
    pub(super) registries: BTreeSet<String>,
}

impl Build {
    /// `links` is how those in the path of a directory are taken.
    pub(super) async fn of(
        context: BuildContext,
        options: BuildOptions,
        links: Links,
        sink: &Sink<BuildProgress>,
    ) -> Result<Self> {
        check(&options)?;
        let secrets = options.secrets.iter().map(|(id, secret)| (id.clone(), secret.0.clone())).collect();
        let named = options.dockerfile.as_deref().map(context::dockerfile).transpose()?;
        let (tar, dockerfile, text, is_directory) = match context {
            BuildContext::Directory(path) => {
                let Context { tar, dockerfile, text } =
                    task::blocking(move || Context::of_directory(&path, named.as_deref(), links)).await?;
                (tar, dockerfile, text, true)
            }
            BuildContext::Tar(read) => {
                let pieces = tokio_util::io::ReaderStream::with_capacity(read, 64 * 1024).map(|piece| {
                    piece.map_err(|e| Error::invalid("context", format!("cannot be read: {e}")).source(e))
                });
                (pieces.boxed(), named.unwrap_or_else(|| "Dockerfile".to_owned()), String::new(), false)
            }
        };
        let registries = registries(&text, &options);
        Ok(Self { tar: counted(tar, sink), dockerfile, is_directory, options, secrets, registries })
    }
}

/// The build argument by which the Dockerfile's frontend tells cache mounts of the same id apart
/// (docs.docker.com/build/building/variables, `BUILDKIT_CACHE_MOUNT_NS`).
const CACHE_MOUNTS: &str = "BUILDKIT_CACHE_MOUNT_NS";

impl Build {
    /// With cache mounts of this application alone.
    pub(super) fn apart(&mut self, app: &str) -> Result<()> {
        if self.options.args.contains_key(CACHE_MOUNTS) {
            let problem = "whose cache mounts it has is not the caller's to say";
            return Err(Error::new(ErrorCode::PermissionDenied, format!("args.{CACHE_MOUNTS}: {problem}"))
                .detail("field", format!("args.{CACHE_MOUNTS}")));
        }
        self.options.args.insert(CACHE_MOUNTS.to_owned(), app.to_owned());
        Ok(())
    }
}

/// The user's credentials for a registry that a build names.
pub(super) async fn stored(
    registries: &BTreeSet<String>,
    stored: StoredCredentials,
    domain: &str,
) -> Option<Credentials> {
    if stored == StoredCredentials::None || !registries.contains(domain) {
        return None;
    }
    credentials::for_call(None, stored, &format!("{domain}/x")).await.0
}

/// Tells what is sent as bytes of step 0.
fn counted(tar: BoxStream<Bytes>, sink: &Sink<BuildProgress>) -> BoxStream<Bytes> {
    let throttle = Throttle::new(sink.clone());
    let mut sent = 0;
    let event = |current| BuildProgress::Bytes { step: 0, name: "context".into(), current, total: None };
    let pieces = tar.map(Some).chain(futures_util::stream::iter([None]));
    let counted = pieces.filter_map(move |piece| {
        match &piece {
            Some(Ok(data)) => {
                sent += data.len() as u64;
                throttle.offer(|| event(sent));
            }
            Some(Err(_)) => {}
            None => throttle.always(event(sent)),
        }
        std::future::ready(piece)
    });
    counted.boxed()
}

/// The values of a call's secrets, to be kept out of whatever is said of it.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<Kept>);

#[derive(Default)]
struct Kept {
    all: Vec<(String, Vec<u8>)>,
    /// As a program would print them, without the newline at the end of a file; a long one in parts. The longest first: one
    /// may begin with another.
    hidden: Vec<Vec<u8>>,
    /// Whether one begins with this byte.
    begins: Vec<bool>,
}

/// A shorter one would be found in any text.
const SHORTEST: usize = 4;
const PART: usize = 4096;
const HIDDEN: &[u8] = b"***";

impl FromIterator<(String, Vec<u8>)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(all: I) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let parts = all.iter().flat_map(|(_, value)| value.trim_ascii().chunks(PART));
        let mut hidden: Vec<_> = parts.filter(|part| part.len() >= SHORTEST).map(<[u8]>::to_vec).collect();
        hidden.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        hidden.dedup();
        let mut begins = vec![false; 256];
        for value in &hidden {
            begins[usize::from(value[0])] = true;
        }
        Self(Arc::new(Kept { all, hidden, begins }))
    }
}

impl Secrets {
    pub(super) fn get(&self, id: &str) -> Option<&[u8]> {
        self.iter().find(|(key, _)| *key == id).map(|(_, value)| value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.all.iter().map(|(id, value)| (id.as_str(), value.as_slice()))
    }

    /// `text` without them, and how many bytes of it that is. What may be one's beginning at the end stays, unless it `is_all`.
    fn without(&self, text: &[u8], is_all: bool) -> (Vec<u8>, usize) {
        let Kept { hidden, begins, .. } = &*self.0;
        if hidden.is_empty() {
            return (text.to_vec(), text.len());
        }
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        while let Some(first) = text.get(at) {
            let rest = &text[at..];
            if begins[usize::from(*first)] {
                if !is_all && hidden.iter().any(|value| value.len() > rest.len() && value.starts_with(rest)) {
                    break;
                }
                if let Some(value) = hidden.iter().find(|value| rest.starts_with(value)) {
                    out.extend_from_slice(HIDDEN);
                    at += value.len();
                    continue;
                }
            }
            out.push(*first);
            at += 1;
        }
        (out, at)
    }

    pub(super) fn hide(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.without(text.as_bytes(), true).0).into_owned()
    }
}

const LONGEST_WORD: usize = 128;
/// BuildKit takes no larger secret (session/secrets of moby/buildkit).
const LARGEST_SECRET: usize = 500 * 1024;
/// Of all. What a build prints is looked through for them.
const MOST_SECRETS: usize = 1 << 20;

fn check(o: &BuildOptions) -> Result<()> {
    let is_word = |text: &str| {
        (1..=LONGEST_WORD).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if let Some(path) = &o.dockerfile {
        validate::file("dockerfile", path)?;
        if path.contains(char::is_control) {
            return Err(Error::invalid("dockerfile", "holds a control character"));
        }
    }
    for (i, tag) in o.tags.iter().enumerate() {
        validate::tag(&format!("tags[{i}]"), tag)?;
    }
    for (i, image) in o.cache_from.iter().enumerate() {
        validate::reference_of_image(&format!("cacheFrom[{i}]"), image)?;
    }
    validate::env("args", &o.args)?;
    // The image that would read the Dockerfile; its own `# syntax=` is one that can be seen in it.
    if let Some(name) = o.args.keys().find(|name| name.eq_ignore_ascii_case("BUILDKIT_SYNTAX")) {
        return Err(Error::invalid(format!("args.{name}"), "names a program that reads the Dockerfile")
            .hint("Write `# syntax=…` in the Dockerfile."));
    }
    if let Some(target) = o.target.as_ref().filter(|target| !is_word(target)) {
        return Err(Error::invalid("target", format!("{} is not a stage's name", shown(target))));
    }
    if let Some(platform) = &o.platform {
        validate::platform("platform", platform)?;
    }
    validate::labels("labels", &o.labels)?;
    for (id, secret) in &o.secrets {
        let field = format!("secrets.{}", validate::shown_key(id));
        if !is_word(id) {
            return Err(Error::invalid(field, "is not a secret's name: letters, digits, and _ . - within"));
        }
        if secret.0.len() > LARGEST_SECRET {
            return Err(Error::invalid(field, format!("{} bytes are more than {LARGEST_SECRET}", secret.0.len())));
        }
    }
    match o.secrets.values().map(|secret| secret.0.len()).sum::<usize>() {
        n if n > MOST_SECRETS => {
            Err(Error::invalid("secrets", format!("{n} bytes in all are more than {MOST_SECRETS}")))
        }
        _ => Ok(()),
    }
}

/// More than any build asks. On containerd each of them may be a question to a credential helper.
const MOST_REGISTRIES: usize = 8;

/// The registries that a Dockerfile's words, its arguments and the call's names are of.
fn registries(text: &str, o: &BuildOptions) -> BTreeSet<String> {
    let names_images = |line: &&str| {
        let line = line.trim_start().to_ascii_lowercase();
        line.starts_with("from ") || line.starts_with("arg ") || line.contains("from=") || line.contains("syntax=")
    };
    let words = text.lines().filter(names_images).flat_map(str::split_whitespace);
    let values = o.args.values().chain(&o.cache_from).chain(&o.tags).map(String::as_str);
    let mut found = BTreeSet::from([super::reference::HUB.to_owned()]);
    for word in words.chain(values) {
        let value = word.rsplit('=').next().unwrap_or(word).trim_matches(['"', '\'', ',']);
        // As references have it: a path is not needed, a dot or a port is.
        let domain = value.split('/').next().unwrap_or(value);
        let is_domain = domain == "localhost" || domain.contains(['.', ':']);
        let parsed = format!("{domain}/x");
        if is_domain && found.len() <= MOST_REGISTRIES && Reference::parse(&parsed).is_ok_and(|r| r.domain() == domain)
        {
            found.insert(domain.to_owned());
        }
    }
    found
}

/// Why a build failed, by the builder's words.
pub(super) fn refused(message: &str, account: &Account, secrets: &Secrets) -> Error {
    let message = secrets.hide(message.trim());
    let lower = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let error = if has(&["no space left on device"]) {
        Error::new(ErrorCode::DiskFull, &message).hint("Free some space, for example with prune().")
    } else if has(&["target stage", "invalid target"]) || has(&["failed to reach build target"]) {
        Error::invalid("target", &message)
    } else if has(&DOCKERFILE) {
        Error::invalid("dockerfile", &message)
    } else if has(&["is not allowed", "is not enabled", "entitlement"])
        && has(&["security.insecure", "network.host", "device"])
    {
        Error::new(ErrorCode::PermissionDenied, &message).hint("A build has no powers over the engine's machine.")
    } else if has(&["secret "]) && has(&["not found"]) {
        Error::invalid("secrets", &message)
    } else if has(&["archive/tar", "invalid tar", "unexpected eof", "not look like a tar", "unsupported archive"])
        // What is to be copied is not in it.
        || has(&["failed to compute cache key", "failed to calculate checksum"]) && has(&["not found"])
    {
        Error::invalid("context", &message)
    } else if let Some(image) = image_in(&message) {
        // Its words about a registry are those of a pull.
        let error = registry::refused(Asked::Pull, &image, &message);
        match error.code() {
            ErrorCode::EngineError if message.ends_with(&format!("{image}: not found")) => {
                Error::new(ErrorCode::ImageNotFound, format!("There is no image {image}")).detail("id", image)
            }
            ErrorCode::EngineError => Error::new(ErrorCode::EngineError, &message),
            _ => error,
        }
    } else {
        Error::new(ErrorCode::EngineError, format!("The build failed: {message}"))
    };
    match account.failed() {
        Some((step, log)) => error.detail("step", step).detail("log", log),
        None => error,
    }
}

/// What builders say of a Dockerfile that is not there, or has mistakes.
const DOCKERFILE: [&str; 9] = [
    "failed to read dockerfile",
    "cannot locate specified dockerfile",
    "no build stage in",
    "dockerfile parse error",
    "parse error on line",
    "unknown instruction",
    "unknown flag",
    "dockerfile cannot be empty",
    "file with no instructions",
];

/// `docker.io/library/x:1: failed to resolve …`, `pull access denied for x, …`
fn image_in(message: &str) -> Option<String> {
    let is_image = |word: &&str| word.contains(['/', ':']) && Reference::parse(word).is_ok();
    let words = || message.split([' ', ',', '"', '\n']).map(|word| word.trim_end_matches(':'));
    if let Some((_, rest)) = message.split_once("pull access denied for ") {
        return rest.split([',', ' ']).next().map(str::to_owned);
    }
    let of_registry = [
        ": not found",
        "pulling from host",
        "failed to resolve",
        "failed to authorize",
        "failed to fetch",
        "failed to do request",
        "manifest",
    ];
    if of_registry.iter().any(|text| message.contains(text)) { words().find(is_image).map(str::to_owned) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::Secret;

    fn field(options: &BuildOptions) -> String {
        check(options).unwrap_err().details()["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_an_engine_could_take_for_something_else_is_refused() {
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let secret = |id: &str, size: usize| [(id.to_owned(), Secret(vec![b'x'; size]))].into();
        for (wrong, options) in [
            ("tags[0]", BuildOptions { tags: vec!["a b".into()], ..BuildOptions::default() }),
            ("tags[1]", BuildOptions { tags: vec!["a".into(), "a,b".into()], ..BuildOptions::default() }),
            ("tags[0]", BuildOptions { tags: vec!["-x".into()], ..BuildOptions::default() }),
            ("cacheFrom[0]", BuildOptions { cache_from: vec!["type=local,src=/".into()], ..BuildOptions::default() }),
            ("args.a=b", BuildOptions { args: one("a=b", ""), ..BuildOptions::default() }),
            ("args.A", BuildOptions { args: one("A", "\0"), ..BuildOptions::default() }),
            ("args.BUILDKIT_SYNTAX", BuildOptions { args: one("BUILDKIT_SYNTAX", "x"), ..BuildOptions::default() }),
            ("labels.com.docker.x", BuildOptions { labels: one("com.docker.x", ""), ..BuildOptions::default() }),
            ("labels.nerdctl/x", BuildOptions { labels: one("nerdctl/x", ""), ..BuildOptions::default() }),
            ("target", BuildOptions { target: Some("--x".into()), ..BuildOptions::default() }),
            ("target", BuildOptions { target: Some(String::new()), ..BuildOptions::default() }),
            ("platform", BuildOptions { platform: Some("linux/amd64,linux/arm64".into()), ..BuildOptions::default() }),
            ("dockerfile", BuildOptions { dockerfile: Some("a\nb".into()), ..BuildOptions::default() }),
            (
                "secrets.a,src=/etc/shadow",
                BuildOptions { secrets: secret("a,src=/etc/shadow", 1), ..BuildOptions::default() },
            ),
            ("secrets.a", BuildOptions { secrets: secret("a", LARGEST_SECRET + 1), ..BuildOptions::default() }),
        ] {
            assert_eq!(field(&options), wrong);
        }
        let odd = BuildOptions {
            args: one("A", "a b\n'\"$(x)\\,=日"),
            labels: one("com.example", "a\nb=,\"'"),
            secrets: secret("a-b_c.d", 0),
            ..BuildOptions::default()
        };
        check(&odd).unwrap();
        let debug = format!("{:?}", BuildOptions { secrets: secret("a", 3), ..BuildOptions::default() });
        assert!(!debug.contains("120"), "{debug}");
    }

    #[test]
    fn credentials_are_of_registries_that_the_build_names() {
        let text = "# syntax=syn.example/d:1\nARG REG=\"arg.example:5000\"\nFROM --platform=$X from.example/a:1 AS b\n\
            COPY --from=copy.example/x /a /b\nRUN echo run.example/x app.js\nFROM busybox\nFROM localhost/x";
        let options = BuildOptions { tags: vec!["tag.example/x".into()], ..BuildOptions::default() };
        let expected = [
            "arg.example:5000",
            "copy.example",
            "docker.io",
            "from.example",
            "localhost",
            "syn.example",
            "tag.example",
        ];
        assert_eq!(registries(text, &options).into_iter().collect::<Vec<_>>(), expected);
        let many: Vec<_> = (0..100).map(|n| format!("FROM r{n}.example/x")).collect();
        assert!(registries(&many.join("\n"), &options).len() <= MOST_REGISTRIES + 1);
    }

    /// As BuildKit of dockerd 20.10.24 and 29, and 0.31 said it.
    #[test]
    fn what_a_builder_says_has_a_code() {
        let account = Account::new(crate::progress::ignore(), &Secrets::default());
        for (message, code, field) in [
            (
                "failed to solve with frontend dockerfile.v0: failed to read dockerfile: open Dockerfile: no such file or directory",
                "INVALID_ARGUMENT",
                "dockerfile",
            ),
            ("dockerfile parse error line 2: unknown instruction: FOO", "INVALID_ARGUMENT", "dockerfile"),
            ("failed to solve: target stage \"x\" could not be found", "INVALID_ARGUMENT", "target"),
            ("failed to solve: security.insecure is not allowed", "PERMISSION_DENIED", ""),
            (
                "failed to solve: granting entitlement network.host is not allowed by build daemon configuration",
                "PERMISSION_DENIED",
                "",
            ),
            ("failed to solve: secret token: not found", "INVALID_ARGUMENT", "secrets"),
            ("failed to solve: executor failed running [/bin/sh -c exit 3]: exit code: 3", "ENGINE_ERROR", ""),
            (
                "failed to solve: r.example:5000/no/such:1: failed to resolve source metadata for r.example:5000/no/such:1: r.example:5000/no/such:1: not found",
                "IMAGE_NOT_FOUND",
                "",
            ),
            (
                "failed to solve: r.example/x:1: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
                "REGISTRY_AUTH",
                "",
            ),
            (
                "failed to solve with frontend dockerfile.v0: failed to create LLB definition: 127.0.0.1:5000/no/such:image: not found",
                "IMAGE_NOT_FOUND",
                "",
            ),
            (
                "failed to solve with frontend dockerfile.v0: failed to create LLB definition: pulling from host 127.0.0.1:5000 failed with status code [manifests 1]: 401 Unauthorized",
                "REGISTRY_AUTH",
                "",
            ),
            (
                "failed to solve: failed to compute cache key: \"/none\" not found: not found",
                "INVALID_ARGUMENT",
                "context",
            ),
            ("write /x: no space left on device", "DISK_FULL", ""),
        ] {
            let e = refused(message, &account, &Secrets::default());
            assert_eq!(e.code().as_str(), code, "{message}");
            assert_eq!(e.details().get("field").and_then(|f| f.as_str()).unwrap_or_default(), field, "{message}");
        }
        let secrets = Secrets::from_iter([("t".to_owned(), b"hunter2\n".to_vec())]);
        assert!(!refused("RUN echo hunter2 failed", &account, &secrets).message().contains("hunter2"));
    }
}
