//! Removes from a text what must not leave the machine: secrets, user and host names, home directories, addresses. When in
//! doubt it is removed: a support person can ask, but nothing sent can be recalled.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

mod commands;
mod forms;
mod hosts;
mod names;
mod places;
mod rewriter;
#[cfg(test)]
mod table;
mod values;
mod web;

use names::Kind;
use rewriter::{BLANK, Rewriter, at, before, length};

use crate::env_vars;

/// A shorter value of a variable reveals nothing and would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Knows the names and secrets of this machine and user; everything else is recognised by its form.
#[derive(Debug, Default)]
pub struct Scrubber {
    /// Longest first, in lower case.
    literals: Vec<Literal>,
}

#[derive(Debug)]
struct Literal {
    text: String,
    instead: &'static str,
    /// Matches only between non-alphanumeric characters.
    word: bool,
}

impl Scrubber {
    /// `proxy` is the caller's own setting, in addition to the environment's.
    pub fn of_this_machine(proxy: Option<&str>) -> Self {
        let mut this = Self::default();
        if let Some(home) = home::home_dir() {
            this.home(&home.to_string_lossy());
            if let Ok(real) = home.canonicalize() {
                this.home(&real.to_string_lossy());
            }
        }
        for name in env_vars::USER_NAMES {
            this.user(&env_vars::get(name).unwrap_or_default());
        }
        this.user(&full_name().unwrap_or_default());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        this.host(host.split('.').next().unwrap_or_default());
        this.host(&host);
        if let Some((_, domain)) = host.split_once('.').filter(|(_, domain)| domain.contains('.')) {
            this.host(domain);
        }
        for name in machine_names() {
            this.host(&name);
        }
        for (name, value) in std::env::vars_os() {
            let (name, value) = (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
            let lower = name.to_ascii_lowercase();
            // A variable such as XDG_SESSION_DESKTOP holds the desktop's name, not a secret.
            let desktop = lower.contains("session") && !["token", "key", "secret"].iter().any(|w| lower.contains(w));
            match names::kind(&name) {
                Some(Kind::Host) => this.host(&value),
                Some(Kind::User) => this.user(&value),
                Some(_) if !desktop => this.secret(&value),
                _ if lower.ends_with("_proxy") && lower != "no_proxy" => this.proxy(&value),
                _ => {}
            }
        }
        if let Some(proxy) = proxy {
            this.proxy(proxy);
        }
        this
    }

    pub fn secret(&mut self, value: &str) {
        if value.len() >= SHORTEST_SECRET {
            self.literal(value, BLANK, false);
        }
    }

    /// Replaces the directory by `~`; its last part is the user's name.
    pub fn home(&mut self, path: &str) {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        // Root's directory, or none.
        if name.is_empty() || name == "root" {
            return;
        }
        self.literal(path, "~", true);
        self.user(name);
    }

    pub fn user(&mut self, name: &str) {
        if !places::is_system_user(name) {
            self.literal(name, places::USER, true);
        }
    }

    pub fn host(&mut self, name: &str) {
        if hosts::is_known(name) || name.starts_with('(') {
            return;
        }
        self.literal(name, hosts::HOST, true);
        // A Mac shows `Annas-MacBook-Pro` as "Anna's MacBook Pro".
        if let Some((first, rest)) = name.split_once('-') {
            let rest = rest.replace('-', " ");
            self.literal(&format!("{first} {rest}"), hosts::HOST, true);
            if let Some(owner) = first.strip_suffix('s') {
                for apostrophe in ["'", "\u{2019}"] {
                    self.literal(&format!("{owner}{apostrophe}s {rest}"), hosts::HOST, true);
                }
            }
        }
    }

    /// Adds its host, user and password.
    pub fn proxy(&mut self, url: &str) {
        let url = if url.contains("://") { Cow::Borrowed(url) } else { Cow::Owned(format!("http://{url}")) };
        let Ok(url) = Url::parse(&url) else { return self.secret(&url) };
        for part in [url.username(), url.password().unwrap_or_default()] {
            self.secret(part);
        }
        // Many proxies are simply called `proxy`.
        self.host(url.domain().filter(|&name| name != "proxy").unwrap_or_default());
    }

    fn literal(&mut self, text: &str, instead: &'static str, word: bool) {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let spaced = text.replace('%', "%25").replace(' ', "%20");
        let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let escaped = serde_json::to_string(text).unwrap_or_default().trim_matches('"').to_owned();
        for text in [text.to_owned(), decoded, spaced, encoded, escaped] {
            let text = text.to_ascii_lowercase();
            if !text.is_empty() && !self.literals.iter().any(|l| l.text == text) {
                self.literals.push(Literal { text, instead, word });
            }
        }
        self.literals.sort_by_key(|l| std::cmp::Reverse(l.text.len()));
    }

    /// Takes time linear in the text's length, whatever it holds.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = blank_pem(text);
        for literal in &self.literals {
            text = replace_literal(text, literal);
        }
        for step in [web::scrub, named, commands::scrub, forms::scrub, hosts::scrub, places::scrub] {
            text = step(&text);
        }
        text
    }
}

/// A Mac's other names, and the search domains of DNS.
fn machine_names() -> Vec<String> {
    let mut names = Vec::new();
    if cfg!(target_os = "macos") {
        for which in ["ComputerName", "LocalHostName"] {
            names.extend(super::system::output_of("/usr/sbin/scutil", &["--get".as_ref(), which.as_ref()]));
        }
    }
    names.extend(hosts::domains_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
    names
}

fn full_name() -> Option<String> {
    if cfg!(target_os = "macos") {
        return super::system::output_of("/usr/bin/id", &["-F".as_ref()]);
    }
    let user = env_vars::get(env_vars::USER_NAMES[0])?;
    gecos(&std::fs::read_to_string("/etc/passwd").ok()?, &user)
}

fn gecos(passwd: &str, user: &str) -> Option<String> {
    let mut fields = passwd.lines().map(|l| l.split(':')).find(|l| l.clone().next() == Some(user))?;
    let name = fields.nth(4)?.split(',').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Replaces values whose names say what they are.
fn named(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let mut words = [""; 3];
    let mut from = 0;
    while let Some(mut name) = rewriter::run(text, from, values::is_name) {
        from = name.end;
        // `\npassword`
        if before(text, name.start) == b'\\' && matches!(at(text, name.start), b'n' | b'r' | b't') {
            name.start += 1;
        }
        let word = &text[name.clone()];
        if let Some(kind) = names::kind(word)
            && let Some(value) = values::value_of(text, &name, kind, &words)
        {
            let told = &text[value.clone()];
            match kind {
                Kind::Host | Kind::User => {
                    let length = length(told, 0, values::is_name);
                    let name = &told[..length];
                    let address =
                        told[length..].starts_with("://") || !name.starts_with(|c: char| c.is_ascii_alphabetic());
                    let (known, instead) = match kind {
                        Kind::Host => (hosts::is_known(name), hosts::HOST),
                        _ => (places::is_system_user(name), places::USER),
                    };
                    if !address && !known {
                        let value = value.start..if kind == Kind::Host { value.start + length } else { value.end };
                        from = value.end;
                        out.replace(value, instead);
                    }
                }
                _ => {
                    from = value.end;
                    out.replace(value, BLANK);
                }
            }
        }
        words = [word, words[0], words[1]];
    }
    out.finish()
}

fn replace_literal(text: String, literal: &Literal) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in lower.match_indices(&literal.text) {
        let end = at + literal.text.len();
        let beside = |c: Option<char>| literal.word && c.is_some_and(char::is_alphanumeric);
        if at < done || beside(text[..at].chars().next_back()) || beside(text[end..].chars().next()) {
            continue;
        }
        out.push_str(&text[done..at]);
        out.push_str(literal.instead);
        done = end;
    }
    if done == 0 {
        return text;
    }
    out.push_str(&text[done..]);
    out
}

/// Keys and certificates. When the beginning was cut off, everything before the end is removed.
fn blank_pem(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    let find =
        |what: &str, from: usize| memchr::memmem::find(&text.as_bytes()[from..], what.as_bytes()).map(|i| from + i);
    let mut out = Rewriter::new(text);
    let (mut begin, mut end) = (find(BEGIN, 0), find(END, 0));
    while let Some(first) = begin.into_iter().chain(end).min() {
        let from = if Some(first) == begin { first } else { out.done() };
        let Some(last) = end else {
            out.replace(from..text.len(), BLANK);
            break;
        };
        // After `-----END KIND-----`.
        let after = find("-----", last + END.len()).map_or(text.len(), |close| close + 5);
        out.replace(from..after, BLANK);
        begin = begin.and_then(|b| if b < after { find(BEGIN, after) } else { begin });
        end = find(END, after);
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn noise() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~\n]{0,60}", Just(String::new()), Just("level=info msg=\"booting\"\n".into())]
    }

    /// Forms with a secret at `{}`.
    const FORMS: [&str; 34] = [
        "password: {}",
        "password: two {}",
        "Password = {}",
        "password:\n    {}",
        "password: |\n    {}",
        "DB_PASSWORD={}",
        "AWS_SECRET_ACCESS_KEY={}",
        "GITHUB_TOKEN: '{}'",
        r#""token":"{}""#,
        r#""token": "a \" {}""#,
        r#"msg="{\"identitytoken\":\"{}\"}""#,
        r#"{"auth": "{}"}"#,
        "_auth={}",
        "api-key: {}",
        "registry.apiKey={}",
        "--password {}",
        "--password={}",
        "--registry-token '{}'",
        "Authorization: Bearer {}",
        "proxy-authorization: Basic {}",
        "\"Authorization\":[\"Bearer {}\"]",
        "got Bearer {} from it",
        "Cookie: a=b; session={}",
        "https://user:{}@registry.example/v2/",
        "http://{}@proxy:3128",
        "http://user:a@{}@proxy:3128",
        "GET https://host/blob?X-Amz-Signature={}&a=b",
        "https://host/?{}",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----",
        "    -----BEGIN CERTIFICATE-----\n    AAA\n    {}\n",
        "\"-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----\\n\"",
        "{}\n-----END EC PRIVATE KEY-----\n",
        "ssh-ed25519 AAAA{} somebody@somewhere",
        "ghp_{}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_planted_secret_never_survives(
            secret in "[A-Za-z0-9]{16,40}", before in noise(), after in noise(), place in 0..FORMS.len(),
        ) {
            let text = format!("{before}\n{}\n{after}", FORMS[place].replace("{}", &secret));
            let clean = Scrubber::default().scrub(&text);
            prop_assert!(!clean.contains(&secret), "{text:?}\n{clean:?}");
        }

        #[test]
        fn a_value_of_ours_is_found_everywhere(secret in "[!-~]{8,40}", before in "[ -~]{0,40}", after in "[ -~]{0,40}") {
            let mut scrubber = Scrubber::default();
            scrubber.secret(&secret);
            let clean = scrubber.scrub(&format!("{before}{secret}{after}"));
            prop_assert!(!clean.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()), "{clean:?}");
        }

        #[test]
        fn addresses_go(
            v4 in any::<Ipv4Addr>(), v6 in any::<Ipv6Addr>(), mac in any::<[u8; 6]>(),
            left in "[ =(\\[\"/,@]", right in "[ )\\]\"/,;\n]",
        ) {
            prop_assume!(!v4.is_loopback() && !v4.is_unspecified() && !v6.is_loopback() && !v6.is_unspecified());
            let mac = mac.map(|b| format!("{b:02x}")).join(":");
            let text = format!("a{left}{v4}{right} b{left}{v6}{right} c{left}{mac}{right} {v4}:22 [{v6}]:22 {v6}%en0 v{v4}");
            let clean = Scrubber::default().scrub(&text);
            for planted in [v4.to_string(), v6.to_string(), mac] {
                prop_assert!(!clean.contains(&planted), "{planted}: {clean:?}");
            }
        }

        #[test]
        fn user_host_and_home_go(
            user in "[a-z][a-z0-9]{1,8}[!#_. -]?[A-Z]{0,3}[a-z]", host in "[A-Z][a-z]{3,9}-(Mac|PC)", tail in "[ -~]{0,20}",
        ) {
            let mut scrubber = Scrubber::default();
            scrubber.home(&format!("/Users/{user}"));
            scrubber.host(&format!("{host}.local"));
            scrubber.host(&host);
            let other = format!("/home/{}z/x", user.replace(' ', ""));
            let text = format!(
                "/Users/{user}/Library {user}:staff u_{user}_ \"{}\" {host} {host}.local {other} {} {tail}",
                user.to_uppercase(), user.replace(' ', "%20")
            );
            let clean = scrubber.scrub(&text).to_lowercase();
            let words = |text: &str, what: &str| {
                let bounded = |at: usize| {
                    !text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
                        && !text[at + what.len()..].chars().next().is_some_and(char::is_alphanumeric)
                };
                text.match_indices(what).any(|(at, _)| bounded(at))
            };
            // Our replacements are not names.
            let clean = clean.replace("<user>", "").replace("<host>", "");
            prop_assume!(!words(&format!(" {} ", tail.to_lowercase()), &user.to_lowercase()));
            for planted in [user.to_lowercase(), host.to_lowercase(), other.trim_end_matches("/x").to_lowercase()] {
                prop_assert!(!words(&clean, &planted), "{planted}: {clean:?}");
            }
        }

        #[test]
        fn any_text_is_taken(text in "\\PC{0,200}", user in "\\PC{0,5}") {
            let mut scrubber = Scrubber::default();
            scrubber.user(&user);
            scrubber.secret(&text.chars().take(9).collect::<String>());
            scrubber.scrub(&text);
        }
    }

    #[test]
    fn what_helps_stays() {
        let text = "2026-01-02T03:04:05Z level=fatal msg=\"failed to download\" error=\"expected digest sha256:\
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\" 127.0.0.1:60022 ::1 12:34:56 \
                    getty@tty1.service /Volumes/data/lima/ha.sock docker.io/library/nginx:1.27 limactl 1.2.1\n";
        assert_eq!(Scrubber::of_this_machine(None).scrub(text), text);
    }

    #[test]
    fn a_proxy_is_its_host_and_its_user() {
        let mut scrubber = Scrubber::default();
        scrubber.proxy("http://somebody:p%40ssword@proxy.corp.example:3128");
        let clean = scrubber.scrub("somebody used p@ssword and p%40ssword at proxy.corp.example, a PROXY");
        assert_eq!(clean, "<blanked> used <blanked> and <blanked> at <host>, a PROXY");
    }
}
