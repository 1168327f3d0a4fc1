//! Variables for a process that nerdctl starts, past every argument vector: those are everybody's to read in `/proc`, and sudo
//! logs them. nerdctl reads them from a file, a line each; the file is a pipe that a shell around it fills from its own
//! standard input, before what the process gets of it (docs/reference/nerdctl.md#variables-for-containers).

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result},
    process::Command,
};

/// Reads lines for the file, up to an empty one; then names with their values, escaped, up to an empty one; and becomes the
/// program. What is left of its input is the program's.
const WITH_VARIABLES: &str = r#"
file=
while IFS= read -r line && [ -n "$line" ]; do
  file=$file$line'
'
done
while IFS= read -r name && [ -n "$name" ]; do
  IFS= read -r value
  value=$(printf '%bx' "$value")
  export "$name=${value%x}"
done
exec "$@" 3<<FILE
$file
FILE
"#;
/// Go reads lines of less than 64 KiB (bufio.MaxScanTokenSize).
const LINE: usize = 60 * 1024;

/// Beginnings and names of variables that a shell, a loader, Go or nerdctl itself heeds: the application's must not reach
/// those, for they run as root.
const HEEDED_BEGINNINGS: &str = "BASH BUILDKIT CNI CONTAINERD DOCKER DYLD_ GCONV_ GLIBC_ GO LC_ LD_ LIMA_RUNTIME MALLOC_ NERDCTL \
    NETCONFPATH NLS NSS_ ROOTLESSKIT SSL_ SUDO XDG_";
const HEEDED: &str = "_ CDPATH ENV EUID FUNCNAME GROUPS HISTFILE HOME HOSTALIASES IFS LANG LANGUAGE LINENO LOCALDOMAIN LOCPATH \
    LOGNAME NOTIFY_SOCKET OLDPWD OPTARG OPTIND PATH PPID PS4 PWD RANDOM RES_OPTIONS SECONDS SHELL SHELLOPTS \
    SHLVL TERM TERMINFO TMPDIR TZ TZDIR UID USER file line name value";

/// How nerdctl gets a variable.
enum Way {
    /// As a line of the file.
    Line,
    /// From its own environment: a line holds no newline, and loses white space at its end.
    Own,
}

fn way(name: &str, value: &str) -> Option<Way> {
    let line = format!("{name}={value}");
    if line.len() < LINE && line.trim() == line && !line.starts_with('#') && !line.contains('\n') {
        return Some(Way::Line);
    }
    let plain = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    let upper = name.to_ascii_uppercase();
    let heeded = HEEDED.split(' ').any(|heeded| heeded == name || heeded == upper)
        || HEEDED_BEGINNINGS.split(' ').any(|beginning| upper.starts_with(beginning))
        || upper.ends_with("_PROXY");
    (name.chars().enumerate().all(plain) && !heeded).then_some(Way::Own)
}

/// The flags of `nerdctl exec` or `create` that name the variables.
pub(crate) fn flags(env: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    for (name, value) in env {
        match way(name, value) {
            Some(Way::Line) => {}
            Some(Way::Own) => flags.push(format!("--env={name}")),
            None => {
                let problem = "nerdctl takes no value with newlines, or white space at its end, under this name";
                return Err(Error::invalid(format!("env.{name}"), problem));
            }
        }
    }
    if !env.is_empty() {
        flags.push("--env-file=/proc/self/fd/3".to_owned());
    }
    Ok(flags)
}

/// The command with these variables, whose names are among its arguments by [`flags`].
pub(crate) fn with(command: Command, env: &BTreeMap<String, String>) -> Command {
    if env.is_empty() {
        return command;
    }
    let (mut lines, mut own) = (String::new(), String::new());
    for (name, value) in env {
        match way(name, value) {
            Some(Way::Own) => {
                let escaped = value.replace('\\', r"\\").replace('\n', r"\n");
                own.extend([name, "\n", escaped.as_str(), "\n"]);
            }
            _ => lines.extend([name, "=", value.as_str(), "\n"]),
        }
    }
    let shell = ["/bin/sh", "-c", WITH_VARIABLES, "sh"].map(|word| word.as_bytes().to_vec());
    let input = [format!("{lines}\n{own}\n").as_bytes(), &command.input].concat();
    let mut env = command.env;
    // nerdctl's wrapper of a daemon of ours drops what else it finds.
    env.push(("LIMA_RUNTIME_ENVIRONMENT".to_owned(), b"clean".to_vec()));
    Command { argv: shell.into_iter().chain(command.argv).collect(), input: input.into(), env, ..command }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::guest::{Guest, local::LocalGuest};

    /// Stands in for nerdctl: prints the lines of its file and the values of the variables it was told to take.
    const PROGRAM: &str = r#"
for arg; do
  case $arg in
    --env-file=*) cat "${arg#--env-file=}" ;;
    --env=*) eval "printf '%s=%s\0' ${arg#--env=} \"\$${arg#--env=}\"" ;;
  esac
done
printf 'input:'; cat"#;

    #[tokio::test]
    async fn values_come_as_they_are_and_stand_in_no_argument() {
        let env: BTreeMap<String, String> = [
            ("PLAIN", "secret-1"),
            ("EMPTY", ""),
            ("LINES", "secret-2\n\\n\\\\'\"$(id)`id`\n\n"),
            ("BLANK", "secret-3 \t"),
            ("CR", "secret-4\r\nx"),
            ("with.dots", "secret-5 # not a comment"),
            ("UNICODE", "żółw 🐋\u{a0}"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
        let mut args = vec!["/bin/sh".to_owned(), "-c".into(), PROGRAM.into(), "sh".into()];
        args.extend(flags(&env).unwrap());
        let command = with(Command::new(args).input("the rest"), &env);
        let words = command.argv.concat();
        assert!(!words.windows(6).any(|w| w == b"secret"));
        let out = LocalGuest::new("/nonexistent.sock").run(command).await.unwrap().checked("sh").unwrap();
        let text = String::from_utf8(out).unwrap();
        for (name, value) in &env {
            let end = if matches!(way(name, value), Some(Way::Own)) { '\0' } else { '\n' };
            assert!(text.contains(&format!("{name}={value}{end}")), "{name} in {text:?}");
        }
        assert!(text.ends_with("input:the rest"));
    }

    #[test]
    fn what_nerdctl_or_a_shell_heeds_is_not_given_to_it() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for name in [
            "LD_PRELOAD",
            "PATH",
            "https_proxy",
            "NERDCTL_TOML",
            "DOCKER_CONFIG",
            "GODEBUG",
            "IFS",
            "file",
            "a-b",
            "a.b",
        ] {
            assert!(flags(&one(name, "one line")).is_ok(), "in the file it is the container's alone");
            let e = flags(&one(name, "two\nlines")).unwrap_err();
            assert_eq!(e.details()["field"], format!("env.{name}"));
        }
        assert_eq!(flags(&one("KEY", "two\nlines")).unwrap(), ["--env=KEY", "--env-file=/proc/self/fd/3"]);
        assert!(flags(&one("BIG", &"x".repeat(100_000))).is_ok() && flags(&BTreeMap::new()).unwrap().is_empty());
    }
}
