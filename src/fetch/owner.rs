//! Whose a directory is. Root follows and writes whatever lies in it: where somebody else can put a link there, he has
//! root's powers.

use std::path::Path;

use crate::error::Result;
#[cfg(unix)]
use crate::error::{Error, ErrorCode};

/// As root: `PERMISSION_DENIED` unless root alone can change what lies in `dir`, and what the way to it leads through. What
/// is not there yet will be root's. Another user's process is not checked: it has no powers that somebody could gain.
#[cfg(unix)]
pub fn check(dir: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() { walk(dir, LINKS) } else { Ok(()) }
}

#[cfg(not(unix))]
pub fn check(_: &Path) -> Result<()> {
    Ok(())
}

/// As many as Linux follows.
#[cfg(unix)]
const LINKS: u32 = 40;

#[cfg(unix)]
fn walk(dir: &Path, links: u32) -> Result<()> {
    use std::{fs, os::unix::fs::MetadataExt, path::Component};

    let mut at = std::path::PathBuf::from("/");
    let mut rest = dir.components();
    look(&at, &fs::metadata("/").map_err(|e| Error::io(e, "Cannot look at", &at))?, dir == at)?;
    while let Some(part) = rest.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => {
                at.pop();
                continue;
            }
            _ => continue,
        };
        let next = at.join(name);
        let meta = match fs::symlink_metadata(&next) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(e, "Cannot look at", &next)),
        };
        if !meta.is_symlink() {
            look(&next, &meta, rest.as_path().as_os_str().is_empty())?;
            at = next;
            continue;
        }
        if meta.uid() != 0 {
            return Err(others(&next, &format!("is a link of another user's (number {})", meta.uid())));
        }
        let Some(links) = links.checked_sub(1) else {
            return Err(Error::new(ErrorCode::InvalidArgument, format!("{} has too many links", dir.display())));
        };
        let target = fs::read_link(&next).map_err(|e| Error::io(e, "Cannot look at", &next))?;
        return walk(&at.join(target).join(rest.as_path()), links);
    }
    Ok(())
}

/// On the way, what is in a directory that all may write to is safe where only its owner can rename it; where we write, it
/// is not.
#[cfg(unix)]
fn look(path: &Path, meta: &std::fs::Metadata, last: bool) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    if meta.uid() != 0 {
        return Err(others(path, &format!("belongs to another user (number {})", meta.uid())));
    }
    let open = meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && meta.gid() != 0);
    let sticky = meta.mode() & 0o1000 != 0;
    if open && (last || !sticky) { Err(others(path, "can be changed by others")) } else { Ok(()) }
}

#[cfg(unix)]
fn others(path: &Path, how: &str) -> Error {
    Error::new(ErrorCode::PermissionDenied, format!("{} {how}, and root does not work there", path.display()))
        .detail("path", path.display().to_string())
        .hint(
            "Run the application as the user whose directory it is, or choose a directory that root alone can change.",
        )
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown, symlink},
    };

    use super::*;

    #[test]
    fn root_works_only_where_nobody_else_can_put_a_link() {
        if !rustix::process::geteuid().is_root() {
            crate::skip::skip_without_root("who alone is refused");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        let dir = base.join("a/b");
        check(&dir).unwrap();
        fs::create_dir_all(&dir).unwrap();
        check(&dir).unwrap();
        let refused = |path: &Path, named: &Path| {
            let e = check(path).unwrap_err();
            assert_eq!(e.code(), ErrorCode::PermissionDenied, "{e}");
            assert_eq!(e.details()["path"], named.display().to_string());
        };
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

        // Somebody else's, itself or above.
        chown(&dir, Some(1234), None).unwrap();
        refused(&dir, &dir);
        chown(&dir, Some(0), None).unwrap();
        chown(base.join("a"), Some(1234), None).unwrap();
        refused(&dir, &base.join("a"));
        refused(&dir.join("not/there/yet"), &base.join("a"));
        chown(base.join("a"), Some(0), None).unwrap();

        // Root's, but open.
        for open in [0o777, 0o757] {
            mode(&base.join("a"), open);
            refused(&dir, &base.join("a"));
        }
        mode(&base.join("a"), 0o1777);
        check(&dir).unwrap();
        refused(&base.join("a"), &base.join("a"));
        mode(&base.join("a"), 0o775);
        check(&dir).unwrap();
        chown(base.join("a"), None, Some(1234)).unwrap();
        refused(&dir, &base.join("a"));
        chown(base.join("a"), None, Some(0)).unwrap();

        // An administrator's link leads where it leads; somebody else's does not lead at all.
        symlink("a/../a", base.join("link")).unwrap();
        check(&base.join("link/b")).unwrap();
        chown(&dir, Some(1234), None).unwrap();
        refused(&base.join("link/b"), &dir);
        chown(&dir, Some(0), None).unwrap();
        std::os::unix::fs::lchown(base.join("link"), Some(1234), None).unwrap();
        refused(&base.join("link/b"), &base.join("link"));
        symlink("loop", base.join("loop")).unwrap();
        assert_eq!(check(&base.join("loop")).unwrap_err().code(), ErrorCode::InvalidArgument);
    }
}
