//! Addresses, users and their home directories.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::rewriter::{BLANK, Rewriter, at, before, length, run};

const ADDRESS: &str = "<address>";
pub const USER: &str = "<user>";
/// Suffixes of systemd units: `name@instance.service` is not an address.
const UNIT_SUFFIXES: &[&str] = &[".service", ".socket", ".device", ".timer", ".mount", ".slice", ".target", ".scope"];
/// Users that exist on every machine.
const SYSTEM_USERS: [&str; 14] = [
    "root",
    "nobody",
    "daemon",
    "syslog",
    "www-data",
    "messagebus",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "sshd",
    "bin",
    "sys",
    "admin",
    "containerd",
];

/// Whether the user's name identifies nobody.
pub fn is_system_user(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_digit() || b == b':') || SYSTEM_USERS.contains(&name)
}

pub fn scrub(text: &str) -> String {
    let text = email_addresses(text);
    let text = network_addresses(&text);
    let text = home_directories(&text);
    user_names(&text)
}

/// `somebody@example.com`, and `somebody@nas` as in a login.
fn email_addresses(text: &str) -> String {
    let mut out = Rewriter::new(text);
    for i in memchr::memchr_iter(b'@', text.as_bytes()) {
        let outside = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>()[]{},;:=/\\@".contains(c);
        let from = text[out.done()..i].rfind(outside).map_or(out.done(), |at| {
            let at = out.done() + at;
            at + text[at..].chars().next().map_or(0, char::len_utf8)
        });
        let host = &text[i + 1..];
        let host = &host[..host.find(outside).unwrap_or(host.len())];
        let host = host.trim_end_matches(['.', '-', '|', '!', '?']);
        let end = i + 1 + host.len();
        // SSH algorithms and digests also hold `@`.
        let public = host.ends_with("openssh.com") || host.ends_with("libssh.org");
        let digest = host.starts_with("sha256") || host.starts_with("sha512");
        if from == i || UNIT_SUFFIXES.iter().any(|u| host.ends_with(u)) || public || digest {
            continue;
        }
        let letters = |l: &str| l.chars().count() > 1 && l.chars().all(char::is_alphabetic);
        // `package@1.2.3` is a version.
        let domain = host.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && letters(end));
        let address = host.parse::<Ipv4Addr>().is_ok_and(|a| !a.is_loopback());
        let prompt = matches!(at(text, end), b':' | b'\'' | b'"' | b'\n') || before(text, from) == b' ';
        if domain || address {
            out.replace(from..end, ADDRESS);
        } else if prompt && !host.contains('.') && host != "localhost" && host.starts_with(char::is_alphabetic) {
            out.replace(from..end, "<user>@<host>");
        }
    }
    out.finish()
}

fn network_addresses(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let mut from = 0;
    let in_address = |b: u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'-');
    while let Some(found) = run(text, from, in_address) {
        from = found.end;
        let alone = !before(text, found.start).is_ascii_alphanumeric() && before(text, found.start) != b'_';
        let word = text[found.clone()].trim_end_matches(['.', '-']);
        let ends = !at(text, found.end).is_ascii_alphanumeric() || word.len() < found.len();
        if alone && ends && is_mac(word) {
            out.replace(found.start..found.start + word.len(), ADDRESS);
        } else if alone
            && ends
            && word.contains(':')
            && let Some(length) = ipv6(word)
        {
            let zone = if at(text, found.start + length) == b'%' {
                1 + length_of_zone(text, found.start + length + 1)
            } else {
                0
            };
            out.replace(found.start..found.start + length + zone, ADDRESS);
        } else {
            ipv4(&mut out, found.start, &text[found.clone()]);
        }
    }
    out.finish()
}

fn length_of_zone(text: &str, from: usize) -> usize {
    length(text, from, |b| b.is_ascii_alphanumeric())
}

/// Six pairs, without leading zeros on macOS, or three groups of four.
fn is_mac(word: &str) -> bool {
    let parts = |by: char, count: usize, least: usize, most: usize| {
        let part = |p: &str| (least..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_hexdigit());
        word.split(by).count() == count && word.split(by).all(part)
    };
    parts(':', 6, 1, 2) || parts('-', 6, 2, 2) || parts('.', 3, 4, 4) && word.bytes().any(|b| b.is_ascii_alphabetic())
}

/// The length of the word's IPv6 address, unless that is loopback or unspecified.
fn ipv6(word: &str) -> Option<usize> {
    // Without brackets, a port belongs to the address.
    let address = word.trim_end_matches(':');
    let address = if word.ends_with("::") { word } else { address };
    let known = address.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback() || a.is_unspecified());
    let likely = address.contains("::") || address.matches(':').count() >= 4;
    (likely && !known && address.len() > 2).then_some(address.len())
}

fn ipv4(out: &mut Rewriter<'_>, start: usize, run: &str) {
    let digits = |b: u8| b.is_ascii_digit() || b == b'.';
    let mut from = 0;
    while let Some(found) = super::rewriter::run(run, from, digits) {
        from = found.end;
        let mut parts: Vec<(usize, &str)> = Vec::new();
        let mut at = found.start;
        for part in run[found.clone()].split('.') {
            parts.push((at, part));
            at += part.len() + 1;
        }
        let mut i = 0;
        while i + 4 <= parts.len() {
            let four = &parts[i..i + 4];
            let begin = four[0].0 + four[0].1.len().saturating_sub(3);
            let end = four[3].0 + four[3].1.len().min(3);
            let text = &run[begin..end];
            let shaped = four.iter().all(|p| !p.1.is_empty()) && four[1..3].iter().all(|p| p.1.len() <= 3);
            let keep = text.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback() || a.is_unspecified());
            if shaped && !keep && text.parse::<Ipv4Addr>().is_ok() {
                out.replace(start + begin..start + end, ADDRESS);
            }
            i += if shaped { 4 } else { 1 };
        }
    }
}

/// The name in `/home/name`, `/Users/Two Names/` and `C:\Users\name`, also with encoded slashes.
fn home_directories(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let mut from = 0;
    while let Some(found) = run(text, from, |b| b.is_ascii_alphanumeric()) {
        from = found.end;
        let word = &text[found.clone()];
        // `%2FUsers`
        let encoded = before(text, found.start) == b'%';
        let word = if encoded { word.get(2..).unwrap_or_default() } else { word };
        if !(word.eq_ignore_ascii_case("users") || word == "home")
            || !(encoded || matches!(before(text, found.start), b'/' | b'\\'))
        {
            continue;
        }
        let rest = &text[found.end..];
        let slashes = if rest.starts_with("%2F") || rest.starts_with("%2f") || rest.starts_with("%5C") {
            3
        } else {
            length(rest, 0, |b| matches!(b, b'/' | b'\\'))
        };
        let name = home_name(&rest[slashes..]);
        if slashes > 0 && !name.is_empty() && !["Shared", "Public", "linuxbrew"].contains(&name) {
            let start = found.end + slashes;
            out.replace(start..start + name.len(), USER);
            from = start + name.len();
        }
    }
    out.finish()
}

fn home_name(rest: &str) -> &str {
    let stops = |c: char| c.is_control() || c.is_whitespace() || "/\\\"':,;<>|%".contains(c);
    let mut end = 0;
    loop {
        end += rest[end..].find(stops).unwrap_or(rest.len() - end);
        let next = &rest[end..];
        let further = if next.starts_with("%20") {
            3
        } else if next.starts_with(' ') && next[1..].starts_with(char::is_uppercase) {
            // Either another part of the name, or of the sentence.
            let word = next[1..].find(stops).map_or(next.len(), |i| i + 1);
            if matches!(next[word..].chars().next(), Some('/' | '\\' | ' ')) { word } else { 0 }
        } else {
            0
        };
        if further == 0 || end == 0 {
            return &rest[..end];
        }
        end += further;
    }
}

/// `uid=501(name)`, the users in sshd's messages, and the host in front of its key.
fn user_names(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let is_user = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || !b.is_ascii();
    for i in memchr::memchr_iter(b'(', text.as_bytes()) {
        let digits = text[..i].bytes().rev().take_while(u8::is_ascii_digit).take(10).count();
        let name = i + 1..i + 1 + length(text, i + 1, is_user);
        let id = text[..i - digits].ends_with("id=");
        if digits > 0 && id && at(text, name.end) == b')' && !is_system_user(&text[name.clone()]) {
            out.replace(name, USER);
        }
    }
    let text = out.finish();
    let mut out = Rewriter::new(&text);
    for (start, line) in lines(&text) {
        for found in memchr::memmem::find_iter(line.as_bytes(), b" for ") {
            let words = &line[found + 5..];
            let told = words.strip_prefix("invalid ").unwrap_or(words);
            let told = told.strip_prefix("user ").unwrap_or(told);
            let name = &told[..length(told, 0, is_user)];
            let known = ["from ", "(uid=", "by "].iter().any(|k| told[name.len()..].trim_start().starts_with(k));
            if known && !is_system_user(name) {
                let at = start + line.len() - told.len();
                out.replace(at..at + name.len(), USER);
            }
        }
        // `ssh.config`
        if let Some(name) = line.trim_start().strip_prefix("User ").filter(|n| !n.contains(' ') && !is_system_user(n)) {
            let at = start + line.len() - name.len();
            out.replace(at..at + name.len(), USER);
        }
        let mut words = line.splitn(4, ' ');
        let (host, kind, key) = (words.next().unwrap_or_default(), words.next(), words.next());
        if kind.is_some_and(|k| k.starts_with("ssh-") || k.starts_with("ecdsa-")) && key == Some(BLANK) {
            out.replace(start..start + host.len(), super::hosts::HOST);
        }
    }
    out.finish()
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line.trim_end()))
    })
}
