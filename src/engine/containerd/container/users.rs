//! Which numbers a user of a container has, by the container's own files, as Docker reads them
//! (github.com/moby/sys `user/user.go`, GetExecUser).

use serde_json::{Value, json};

use super::super::prelude::*;

/// The kernel's largest that no program takes for a negative one.
const LARGEST: u32 = i32::MAX as u32;
/// Longer files are read so far.
const MOST: &str = "4194304";

/// The two files of the container whose process is `$1`, each ended by a NUL. A link may lead out of the container's own root,
/// and is not followed, nor is one that takes the place of what was looked at: only what lies there itself is read.
const READ: &str = r#"cd "/proc/$1/root" && root=$(stat -c %d:%i .) || exit 1
there=
if [ ! -L etc ] && cd ./etc 2>/dev/null && [ "$(stat -c %d:%i ..)" = "$root" ]; then there=yes; fi
for f in passwd group; do
  if [ "$there" ] && [ ! -L "$f" ] && [ -f "$f" ]; then {
    if [ "$(stat -c %d:%i "$f")" = "$(stat -L -c %d:%i /proc/self/fd/3)" ]; then head -c "$2" <&3 | tr -d '\0'; fi
  } 3<"$f"; fi
  printf '\0'
done"#;

/// `user` as in a container's specification.
pub(super) async fn resolve(c: &Containerd, pid: u32, user: &str) -> Result<Value> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    if let (Some(uid), Some(gid)) = (number(name), group.and_then(number)) {
        return Ok(of(uid, gid, &[]));
    }
    let command = c.inside(["sh", "-c", READ, "sh", &pid.to_string(), MOST]);
    let out = c.guest().run(command).await?.checked("sh")?;
    let mut files = out.split(|b| *b == 0).map(String::from_utf8_lossy);
    let (passwd, groups) = (files.next().unwrap_or_default(), files.next().unwrap_or_default());
    find(name, group, &passwd, &groups).map_err(|problem| Error::invalid("user", problem))
}

fn number(word: &str) -> Option<u32> {
    word.parse().ok().filter(|n| *n <= LARGEST && word.bytes().all(|b| b.is_ascii_digit()))
}

fn of(uid: u32, gid: u32, more: &[u32]) -> Value {
    let mut user = json!({ "uid": uid, "gid": gid });
    if !more.is_empty() {
        user["additionalGids"] = json!(more);
    }
    user
}

/// The fields of each line.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|l| l.split(':').collect())
}

fn find(name: &str, group: Option<&str>, passwd: &str, groups: &str) -> std::result::Result<Value, String> {
    let as_number = number(name);
    let fits =
        |row: &Vec<&str>| row.len() >= 4 && (row[0] == name || as_number.is_some_and(|n| number(row[2]) == Some(n)));
    let row = rows(passwd).find(fits);
    let (uid, gid, known) = match (&row, as_number) {
        (Some(row), _) => {
            let of = |i: usize| number(row[i]).ok_or_else(|| format!("the container's user {} has no number", row[0]));
            (of(2)?, of(3)?, Some(row[0]))
        }
        (None, Some(uid)) => (uid, 0, None),
        (None, None) => return Err(format!("unable to find user {name}: the container has none of that name")),
    };
    let Some(group) = group.filter(|g| !g.is_empty()) else {
        let is_member = |row: &Vec<&str>| {
            row.len() >= 4 && known.is_some_and(|known| row[3].split(',').any(|member| member == known))
        };
        let more: Vec<u32> = rows(groups).filter(is_member).filter_map(|row| number(row[2])).collect();
        return Ok(of(uid, gid, &more));
    };
    let named = rows(groups).find(|row| row.len() >= 3 && row[0] == group).and_then(|row| number(row[2]));
    let gid = named.or_else(|| number(group));
    let gid = gid.ok_or_else(|| format!("unable to find group {group}: the container has none of that name"))?;
    Ok(of(uid, gid, &[]))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let (passwd, groups) = data.split_at(data.len() / 2);
    let (passwd, groups) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(groups));
    for (name, group) in [("root", None), ("7", Some("staff")), ("www-data", Some("")), ("x", Some("9"))] {
        _ = find(name, group, &passwd, &groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# no user\nwww:x:33:34::/var/www:/bin/false\n100:x:7:8::/:\nbroken:x\n";
    const GROUPS: &str = "root:x:0:\nwww:x:34:\nadm:x:4:syslog,www\nstaff:x:50:www\n";

    /// The script looks into `/proc/<pid>/root`: here, that of a process whose root is this machine's.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_out_of_the_container_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(dir.path().join("secret"), "root:x:1:1::/:\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), etc.join("passwd")).unwrap();
        std::fs::write(etc.join("group"), "wheel:x:9:\n\0").unwrap();
        let script = READ.replace("/proc/$1/root", &dir.path().display().to_string());
        let run = |script: &str| {
            let out = std::process::Command::new("sh").args(["-c", script, "sh", "1", MOST]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        let read = || run(&script);
        assert_eq!(read(), "\0wheel:x:9:\n\0");
        // What the container does after each look.
        let after = |look: &str, there: &str| {
            let mut parts = script.splitn(2, look);
            let (before, rest) = (parts.next().unwrap(), parts.next().expect(look));
            run(&format!("{before}{look} {there}; {rest}"))
        };
        let link = format!("ln -sfn {0}/secret {0}/etc/group", dir.path().display());
        let file = format!("rm {0}/etc/group; echo wheel:x:9: >{0}/etc/group", dir.path().display());
        assert_eq!(after("[ -f \"$f\" ]; then", &link), "\0\0");
        std::fs::remove_file(etc.join("group")).unwrap();
        std::fs::write(etc.join("group"), "wheel:x:9:\n").unwrap();
        let there_and_back = script.replacen("then {", &format!("then {link}; {{ {file};"), 1);
        assert_eq!(run(&there_and_back), "\0\0");
        let elsewhere = dir.path().join("host").join("etc");
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("group"), "root:x:1:\n").unwrap();
        let turn = format!("mv {0}/etc {0}/real && ln -s {0}/host/etc {0}/etc", dir.path().display());
        assert_eq!(run(&script.replacen("&& cd ./etc", &format!("&& {turn} && cd ./etc"), 1)), "\0\0");
        std::fs::remove_file(&etc).unwrap();
        std::os::unix::fs::symlink("real", &etc).unwrap();
        assert_eq!(read(), "\0\0");
    }

    #[test]
    fn numbers_by_the_containers_own_files() {
        for (name, group, user) in [
            ("root", None, json!({ "uid": 0, "gid": 0 })),
            ("www", None, json!({ "uid": 33, "gid": 34, "additionalGids": [4, 50] })),
            ("33", None, json!({ "uid": 33, "gid": 34, "additionalGids": [4, 50] })),
            // With a group there are no others.
            ("www", Some("staff"), json!({ "uid": 33, "gid": 50 })),
            ("www", Some("7"), json!({ "uid": 33, "gid": 7 })),
            ("1234", None, json!({ "uid": 1234, "gid": 0 })),
            // A name goes before a number.
            ("100", None, json!({ "uid": 7, "gid": 8 })),
        ] {
            assert_eq!(find(name, group, PASSWD, GROUPS), Ok(user), "{name}:{group:?}");
        }
        for (name, group) in
            [("nobody", None), ("broken", None), ("www", Some("nosuch")), ("4294967295", None), ("-1", None)]
        {
            assert!(find(name, group, PASSWD, GROUPS).is_err(), "{name}:{group:?}");
        }
        assert_eq!(find("0", None, "", ""), Ok(json!({ "uid": 0, "gid": 0 })));
    }
}
