//! Command lines, in which a secret follows a short option or none.

use std::ops::Range;

use super::rewriter::{BLANK, Rewriter, is_quote, line_end, run};

/// Programs whose `-p` is a password.
const PASSWORD_BY_P: [&str; 10] =
    ["login", "sshpass", "mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "mongo", "mongosh", "7z"];
/// Programs whose `-u` is a user and a password.
const USER_BY_U: [&str; 9] = ["curl", "ctr", "http", "https", "xh", "curlie", "wget", "lftp", "smbclient"];
/// Commands whose `-u` is a user and a group.
const GROUP_BY_U: [&str; 4] = ["run", "exec", "create", "compose"];
const OTHER_PASSWORD_OPTIONS: &[(&str, &str)] = &[
    ("redis-cli", "-a"),
    ("ldapsearch", "-w"),
    ("ldapadd", "-w"),
    ("ldapmodify", "-w"),
    ("sqlcmd", "-P"),
    ("http", "-a"),
];
/// Options and programs that read a secret from a pipe.
const STDIN_SECRETS: &[&str] = &["--password-stdin", "--with-token", "--stdin", "--pass-stdin", "chpasswd", "-S"];

pub fn scrub(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let mut from = 0;
    while from < text.len() {
        let end = line_end(text, from);
        let line = &text[from..end];
        // Most lines have no option.
        if line.contains('-') || line.contains("/p:") || line.contains("chpasswd") {
            options(&mut out, from..end);
        }
        if let Some(at) = find(line, "identified") {
            identified(&mut out, from + at..end);
        }
        from = end + 1;
    }
    out.finish()
}

fn find(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_argument(b: u8) -> bool {
    !b.is_ascii_whitespace() && !is_quote(b) && !matches!(b, b',' | b'[' | b']' | b'(' | b')' | b'\\')
}

#[derive(Default)]
struct Program {
    password: bool,
    user: bool,
    group: bool,
    other: Option<&'static str>,
    /// Where what `echo` prints begins.
    prints: Option<usize>,
    /// What `echo` printed into a pipe.
    printed: Option<Range<usize>>,
}

fn options(out: &mut Rewriter<'_>, line: Range<usize>) {
    let text = out.text;
    let mut program = Program::default();
    let mut at = line.start;
    let mut blank_next = false;
    let mut user_next = false;
    while let Some(found) = run(text, at, is_argument).filter(|r| r.start < line.end) {
        at = found.end;
        let argument = &text[found.clone()];
        let name = argument.rsplit(['/', '\\']).next().unwrap_or(argument).trim_end_matches(".exe");
        if blank_next || user_next {
            let value = if user_next {
                pair(argument, &program).map(|i| found.start + i..found.end)
            } else {
                Some(found.clone())
            };
            (blank_next, user_next) = (false, false);
            if let Some(value) = value.filter(|_| !argument.starts_with('<')) {
                out.replace(value, BLANK);
                continue;
            }
        }
        if ["|", "||", "&&", ";", "&"].contains(&argument) {
            let printed = program.prints.filter(|_| argument == "|").map(|from| from..found.start);
            program = Program { printed: printed.or(program.printed), ..Program::default() };
        } else if name == "echo" || name == "printf" {
            program.prints = Some(found.end);
        } else if STDIN_SECRETS.contains(&name) {
            if let Some(printed) = program.printed.take() {
                let words = text[printed.clone()].trim();
                let from = printed.start + text[printed.clone()].find(words).unwrap_or(0);
                out.replace(from..from + words.len(), BLANK);
            }
        } else if let Some(option) = argument.strip_prefix("--") {
            let (option, value) = option.split_once('=').map_or((option, None), |(o, v)| (o, Some(v)));
            if ["user", "creds", "src-creds", "dest-creds", "proxy-user"].contains(&option) {
                match value {
                    None => user_next = true,
                    Some(value) => {
                        if let Some(i) = pair(value, &program) {
                            out.replace(found.end - value.len() + i..found.end, BLANK);
                        }
                    }
                }
            }
        } else if program.other.is_some_and(|o| o == argument) || program.password && argument == "-p" {
            blank_next = true;
        } else if program.password && argument.starts_with("-p") {
            let from = found.start + 2 + usize::from(argument.as_bytes().get(2) == Some(&b'='));
            out.replace(from..found.end, BLANK);
        } else if argument == "-u" || argument == "-U" {
            user_next = true;
        } else if program.user
            && let Some(value) = user_in_cluster(argument)
        {
            match pair(value, &program) {
                Some(i) => out.replace(found.end - value.len() + i..found.end, BLANK),
                None => user_next = value.is_empty(),
            }
        } else if let Some(password) = argument.strip_prefix("/p:") {
            out.replace(found.end - password.len()..found.end, BLANK);
        } else {
            let other = OTHER_PASSWORD_OPTIONS.iter().find(|(p, _)| *p == name).map(|(_, option)| *option);
            program.other = other.or(program.other);
            program.password |= PASSWORD_BY_P.contains(&name);
            program.user |= USER_BY_U.contains(&name);
            if GROUP_BY_U.contains(&name) {
                program =
                    Program { group: true, printed: program.printed, prints: program.prints, ..Program::default() };
            }
        }
    }
}

/// What follows the `u` of `-sSu`.
fn user_in_cluster(argument: &str) -> Option<&str> {
    let letters = argument.strip_prefix('-')?;
    let at = letters.find(['u', 'U'])?;
    letters[..at].bytes().all(|b| b.is_ascii_alphabetic()).then(|| &letters[at + 1..])
}

/// Where the password of `user:password` begins; `None` for a user and a group.
fn pair(argument: &str, program: &Program) -> Option<usize> {
    let (user, password) = argument.split_once([':', '%'])?;
    let numbers = password.bytes().all(|b| b.is_ascii_digit());
    let group = !program.user && (program.group || numbers || user == password);
    (!group && !password.is_empty()).then_some(user.len() + 1)
}

/// `IDENTIFIED BY 'x'`, `IDENTIFIED WITH method BY 'x'`
fn identified(out: &mut Rewriter<'_>, range: Range<usize>) {
    let text = &out.text[range.clone()];
    let Some(by) = find(text, " by ") else { return };
    let rest = &text[by + 4..];
    let value = rest.trim_start();
    let start = range.start + by + 4 + rest.len() - value.len();
    let end = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => value[1..].find(quote).map_or(value.len(), |i| i + 2),
        _ => value.find([' ', ';', ',']).unwrap_or(value.len()),
    };
    out.replace(start..start + end, BLANK);
}
