//! Where an instance lies. Lima makes sockets in its directory, and the system limits the length of their paths.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorCode, Result};

/// The most bytes of `LIMA_HOME` and the name together, so that `<LIMA_HOME>/<name>/ssh.sock.<16 digits>` fits
/// (docs/reference/lima.md#length-of-paths).
pub const MAX_LENGTH: usize = if cfg!(target_os = "macos") { 76 } else { 80 };

/// What Lima takes as an instance's name: letters and digits, with single `.`, `_` or `-` between them
/// (docs/reference/lima.md#instance-names).
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let fail = |problem: &str| Err(Error::invalid(field, format!("{name:?} {problem}")));
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric());
    if name.len() > 40 {
        return fail("is longer than 40 characters");
    }
    if !name.split(['.', '_', '-']).all(word) {
        return fail("is not made of letters and digits, with single '.', '_' or '-' between them");
    }
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    if extension.is_some_and(|e| e == "yml" || e == "yaml") {
        return fail("looks like a file to Lima");
    }
    Ok(())
}

/// `<data_dir>/vms` when it is short enough, else `<home>/.<app>/lima`, both with links followed as Lima does.
/// `PATH_TOO_LONG` when neither fits.
pub fn lima_home(data_dir: &Path, instance: &str, home: &Path, app: &str) -> Result<PathBuf> {
    check_name("instance", instance)?;
    let [wanted, short] = places(data_dir, home, app);
    for dir in [&wanted, &short] {
        if length(dir) + instance.len() <= MAX_LENGTH {
            return Ok(dir.clone());
        }
    }
    let text =
        format!("{} is {} bytes too long for a VM", wanted.display(), length(&wanted) + instance.len() - MAX_LENGTH);
    Err(Error::new(ErrorCode::PathTooLong, text)
        .hint("Choose a shorter dataDir: sockets in it may have 103 bytes in all.")
        .detail("path", wanted.display().to_string()))
}

fn places(data_dir: &Path, home: &Path, app: &str) -> [PathBuf; 2] {
    [real(&data_dir.join("vms")), real(&home.join(format!(".{app}")).join("lima"))]
}

/// Whether [`lima_home`] can have chosen this directory and it belongs to this user. A state file names it, and whole
/// directories are removed because of that.
pub fn is_ours(recorded: &Path, data_dir: &Path, home: &Path, app: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ours = |meta: std::fs::Metadata| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    places(data_dir, home, app).iter().any(|place| place == recorded)
        && std::fs::symlink_metadata(recorded).map_or(true, ours)
}

fn length(path: &Path) -> usize {
    path.as_os_str().len()
}

/// Follows the links in the existing part of the path: `/tmp` is `/private/tmp` on macOS.
fn real(path: &Path) -> PathBuf {
    for part in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (part.canonicalize(), path.strip_prefix(part)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_directory_takes_over_at_the_byte_where_lima_would_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let fits = MAX_LENGTH - "default".len() - length(&base) - "/".len() - "/vms".len();
        let home = lima_home(&base.join("x".repeat(fits)), "default", &base, "app").unwrap();
        assert_eq!(length(&home) + "default".len(), MAX_LENGTH);
        let home = lima_home(&base.join("x".repeat(fits + 1)), "default", &base, "app").unwrap();
        assert_eq!(home, base.join(".app/lima"));
        let long = base.join("é".repeat(60));
        let e = lima_home(&long, "default", &long, "app").unwrap_err();
        assert_eq!(e.code(), ErrorCode::PathTooLong);
    }

    #[test]
    fn only_what_we_chose_ourselves_is_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (data, home) = (base.join("data"), base.join("home"));
        for place in [data.join("vms"), home.join(".app/lima"), home.join(".config"), home.join("documents/lima")] {
            std::fs::create_dir_all(place).unwrap();
        }
        let ours = |path: &Path| is_ours(path, &data, &home, "app");
        assert!(ours(&data.join("vms")) && ours(&home.join(".app/lima")));
        let others = [
            home.clone(),
            home.join(".config"),
            home.join("documents/lima"),
            home.join(".app"),
            home.join(".other/lima"),
            home.join(".app/lima/../../documents/lima"),
            data.clone(),
            "/".into(),
            "".into(),
            "vms".into(),
        ];
        for path in others {
            assert!(!ours(&path), "{path:?}");
        }
        // The recorded path is where the link led then; where it leads now does not count.
        std::fs::remove_dir(home.join(".app/lima")).unwrap();
        std::os::unix::fs::symlink(home.join("documents/lima"), home.join(".app/lima")).unwrap();
        assert!(!ours(&home.join(".app/lima")));
        std::fs::remove_file(home.join(".app/lima")).unwrap();
        std::fs::write(home.join(".app/lima"), "").unwrap();
        assert!(!ours(&home.join(".app/lima")));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(data.join("vms"), Some(1234), None).unwrap();
            assert!(!ours(&data.join("vms")));
        }
    }

    #[test]
    fn links_are_followed_before_the_length_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("l".repeat(MAX_LENGTH));
        std::fs::create_dir(&long).unwrap();
        std::os::unix::fs::symlink(&long, dir.path().join("s")).unwrap();
        let home = lima_home(&dir.path().join("s"), "default", dir.path(), "app").unwrap();
        assert!(home.ends_with(".app/lima"), "{home:?}");
    }

    #[test]
    fn names_lima_would_refuse_are_refused_first() {
        for good in ["default", "a", "kai-2.x_y"] {
            check_name("instance", good).unwrap();
        }
        let long = "x".repeat(80);
        for bad in ["", "a/b", "../x", "-a", "a-", "a--b", "a b", "é", "x.yaml", "x.yml", "_config", ".x", &long] {
            assert_eq!(check_name("instance", bad).unwrap_err().code(), ErrorCode::InvalidArgument, "{bad}");
        }
    }
}
