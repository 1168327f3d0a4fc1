//! A directory as a build's context: what of it is sent, and which file is the Dockerfile.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::ignore::Ignore;
use crate::{
    engine::{
        backend::BoxStream,
        copy::{Chosen, Source, slashes},
    },
    error::{Error, Result},
    fetch::held::{Found, HeldDir, Links},
};

/// What is sent, and what is in the file that is built.
pub(super) struct Context {
    pub(super) tar: BoxStream<Bytes>,
    /// The Dockerfile in it, with slashes.
    pub(super) dockerfile: String,
    pub(super) text: String,
}

/// A Dockerfile and a list of patterns are read whole.
const LARGEST: u64 = 4 << 20;

impl Context {
    /// For a thread that may block. What is put in the directory's place meanwhile is not looked at.
    pub(super) fn of_directory(directory: &str, dockerfile: Option<&str>, links: Links) -> Result<Self> {
        let root = HeldDir::open(Path::new(directory), links).map_err(|e| unread("context", directory, e))?;
        let name = dockerfile.unwrap_or("Dockerfile");
        let (path, file) = find(&root, name).map_err(|e| unread("dockerfile", name, e))?;
        let dockerfile = slashes(&path);
        let text = read("dockerfile", name, file)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let ignore = ignore(&root, &dockerfile)?;
        let keep = dockerfile.clone();
        let choose = move |path: &str| match ignore.ignores(path) {
            // The builder needs these two.
            true if path == keep || path == IGNORE => Chosen::Taken,
            true if keep.starts_with(&format!("{path}/")) || ignore.has_exceptions_below(path) => Chosen::Way,
            true => Chosen::Left,
            false => Chosen::Taken,
        };
        let tar = Source::contents(root).pack_chosen(None, Box::new(choose));
        Ok(Self { tar, dockerfile, text })
    }
}

const IGNORE: &str = ".dockerignore";

/// The Dockerfile's own list, or the directory's.
fn ignore(root: &HeldDir, dockerfile: &str) -> Result<Ignore> {
    for name in [format!("{dockerfile}{IGNORE}"), IGNORE.to_owned()] {
        match find(root, &name) {
            Ok((_, file)) => return Ignore::parse(&read("context", &name, file)?, &name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(unread("context", &name, e)),
        }
    }
    Ok(Ignore::default())
}

/// A file by the path that it really has: a link is sent as a link, and what it leads to under its own name. No link leads out.
fn find(root: &HeldDir, path: &str) -> io::Result<(PathBuf, File)> {
    let out = || io::Error::new(io::ErrorKind::InvalidInput, "it leads out of the context");
    let backwards = |path: &Path| -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => names.push(name.to_owned()),
                Component::ParentDir => names.push("..".into()),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return Err(out()),
            }
        }
        names.reverse();
        Ok(names)
    };
    let (mut left, mut at, mut links) = (backwards(Path::new(path))?, PathBuf::new(), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            if !at.pop() {
                return Err(out());
            }
            continue;
        }
        match root.below(&at)?.look(&name)? {
            Found::Link { to, .. } if links < MOST_LINKS => {
                links += 1;
                left.extend(backwards(&to)?);
            }
            Found::Link { .. } => return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many links")),
            Found::File(file, _) if left.is_empty() => return Ok((at.join(name), file)),
            Found::Dir => at.push(name),
            Found::File(..) => return Err(io::ErrorKind::NotADirectory.into()),
            Found::Other => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
}

/// As Linux has it.
const MOST_LINKS: usize = 40;

fn read(field: &str, name: &str, file: File) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|e| unread(field, name, e))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::invalid(field, format!("{name} has more than {LARGEST} bytes")));
    }
    Ok(text)
}

fn unread(field: &str, name: &str, e: io::Error) -> Error {
    let hint = "Pass the directory with the Dockerfile in it, or a tar as a stream.";
    match e.kind() {
        io::ErrorKind::NotFound => Error::invalid(field, format!("{name} does not exist")),
        io::ErrorKind::NotADirectory => Error::invalid(field, format!("{name} is not a directory")).hint(hint),
        io::ErrorKind::PermissionDenied => Error::io(e, "Cannot read", Path::new(name)),
        _ => Error::invalid(field, format!("cannot read {name}: {e}")).source(e),
    }
}

/// The Dockerfile's path, by its text alone.
pub(super) fn dockerfile(path: &str) -> Result<String> {
    let wrong = |problem: &str| Err(Error::invalid("dockerfile", format!("{} {problem}", super::shown(path))));
    let with_slashes = if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() };
    if with_slashes.starts_with('/') || Path::new(path).has_root() || PathBuf::from(path).is_absolute() {
        return wrong("is absolute: it is a path in the context");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in with_slashes.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return wrong("leads out of the context");
                }
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { wrong("is no file's path") } else { Ok(parts.join("/")) }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use futures_util::TryStreamExt;

    use super::*;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn of(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(dir)
        }

        fn open(&self, dockerfile: Option<&str>) -> Result<Context> {
            Context::of_directory(self.0.path().to_str().unwrap(), dockerfile, Links::Followed)
        }

        async fn names(&self, dockerfile: Option<&str>) -> Vec<String> {
            let tar: Vec<Bytes> = self.open(dockerfile).unwrap().tar.try_collect().await.unwrap();
            let tar = tar.concat();
            let mut archive = tar::Archive::new(tar.as_slice());
            let path = |e: io::Result<tar::Entry<'_, &[u8]>>| e.unwrap().path().unwrap().display().to_string();
            let names = archive.entries().unwrap().map(path);
            names.map(|name| name.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
        }
    }

    fn field(result: Result<Context>) -> String {
        result.err().expect("refused").details()["field"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_is_left_out_is_not_sent_and_the_builders_own_files_are() {
        let dir = Dir::of(&[
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!src\nsrc/*.tmp\n!keep/this/file\n"),
            ("src/a", ""),
            ("src/b.tmp", ""),
            ("secret", ""),
            ("keep/this/file", ""),
            ("keep/other", ""),
            ("node_modules/x/y", ""),
        ]);
        let names =
            [".dockerignore", "Dockerfile", "keep", "keep/this", "keep/this/file", "src", "src/a"].map(str::to_owned);
        assert_eq!(dir.names(None).await, names);
    }

    #[tokio::test]
    async fn a_dockerfiles_own_list_wins_and_a_dockerfile_below_what_is_left_out_is_sent() {
        let dir = Dir::of(&[
            ("build/prod.Dockerfile", "FROM scratch"),
            ("build/prod.Dockerfile.dockerignore", "build\nb"),
            ("build/x", ""),
            (".dockerignore", "a"),
            ("a", ""),
            ("b", ""),
        ]);
        let names = [".dockerignore", "a", "build", "build/prod.Dockerfile"].map(str::to_owned);
        assert_eq!(dir.names(Some("build/prod.Dockerfile")).await, names);
    }

    /// The directory is not one that an attacker has no hand in: a repository that somebody cloned.
    #[tokio::test]
    async fn links_are_sent_as_links_and_lead_no_dockerfile_out() {
        let outside = Dir::of(&[("secret", "FROM secret"), ("dir/Dockerfile", "FROM secret")]);
        let dir = Dir::of(&[("real/D", "FROM scratch")]);
        let at = |name: &str| dir.0.path().join(name);
        symlink(outside.0.path(), at("out")).unwrap();
        symlink(outside.0.path().join("secret"), at("Dockerfile")).unwrap();
        symlink("real/D", at("inside")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        for name in [None, Some("out/secret"), Some("out/dir/Dockerfile"), Some("loop"), Some("none"), Some("real")] {
            assert_eq!(field(dir.open(name)), "dockerfile", "{name:?}");
        }
        assert_eq!(dir.open(Some("inside")).unwrap().dockerfile, "real/D");
        let names = ["Dockerfile", "inside", "loop", "out", "real", "real/D"].map(str::to_owned);
        assert_eq!(dir.names(Some("inside")).await, names);
        // A list that never ends.
        symlink("/dev/zero", at(".dockerignore")).unwrap();
        assert_eq!(field(dir.open(Some("inside"))), "context");
    }

    #[test]
    fn a_dockerfiles_path_stays_in_the_context() {
        assert_eq!(dockerfile("a//./b/../Dockerfile").unwrap(), "a/Dockerfile");
        for wrong in ["", ".", "/etc/passwd", "..", "../Dockerfile", "a/../../x", "a/.."] {
            assert_eq!(dockerfile(wrong).unwrap_err().details()["field"], "dockerfile", "{wrong}");
        }
    }
}
