//! What must not leave the machine is taken out of a text: secrets, user and host names, home directories, addresses.
//! Where it is not certain, out it goes: a support person can ask, and what was sent cannot be called back.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use regex_lite::{Captures, Regex};
use url::Url;

use crate::env_vars;

const BLANK: &str = "<blanked>";
const ADDRESS: &str = "<address>";
/// A shorter value of a variable says nothing, and would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Knows what is this machine's and this user's own; everything else is recognised by its form.
#[derive(Debug, Default)]
pub struct Scrubber {
    /// Longest first, in lower case.
    literals: Vec<Literal>,
}

#[derive(Debug)]
struct Literal {
    text: String,
    instead: &'static str,
    /// Found only where no letter or digit is beside it.
    word: bool,
}

impl Scrubber {
    /// `proxy` is the caller's own setting, beside those of the environment.
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
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        this.host(host.split('.').next().unwrap_or_default());
        this.host(&host);
        for (name, value) in std::env::vars_os() {
            let (name, value) = (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
            let lower = name.to_ascii_lowercase();
            if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
                this.secret(&value);
            } else if lower.ends_with("_proxy") && lower != "no_proxy" {
                this.proxy(&value);
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

    /// The directory becomes `~`, and its name is the user's.
    pub fn home(&mut self, path: &str) {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        // Without a user it is the root directory.
        if name.is_empty() || name == "root" {
            return;
        }
        self.literal(path, "~", true);
        self.user(name);
    }

    pub fn user(&mut self, name: &str) {
        if name != "root" {
            self.literal(name, "<user>", true);
        }
    }

    pub fn host(&mut self, name: &str) {
        if name != "localhost" {
            self.literal(name, "<host>", true);
        }
    }

    /// Its host, user and password.
    pub fn proxy(&mut self, url: &str) {
        let url = if url.contains("://") { Cow::Borrowed(url) } else { Cow::Owned(format!("http://{url}")) };
        let Ok(url) = Url::parse(&url) else { return self.secret(&url) };
        for part in [url.username(), url.password().unwrap_or_default()] {
            self.secret(part);
        }
        // Many a proxy is simply called so.
        self.host(url.domain().filter(|&name| name != "proxy").unwrap_or_default());
    }

    fn literal(&mut self, text: &str, instead: &'static str, word: bool) {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let encoded = text.replace('%', "%25").replace(' ', "%20");
        for text in [text.to_owned(), decoded, encoded] {
            let text = text.to_ascii_lowercase();
            if !text.is_empty() && !self.literals.iter().any(|l| l.text == text) {
                self.literals.push(Literal { text, instead, word });
            }
        }
        self.literals.sort_by_key(|l| std::cmp::Reverse(l.text.len()));
    }

    pub fn scrub(&self, text: &str) -> String {
        let mut text = blank_pem(text);
        for literal in &self.literals {
            text = replace_literal(text, literal);
        }
        for (regex, instead) in RULES.iter() {
            if let Cow::Owned(changed) = regex.replace_all(&text, *instead) {
                text = changed;
            }
        }
        text
    }
}

/// In a variable's name: its value is a secret.
const SECRET_WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "credential",
    "auth",
];

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

/// Keys and certificates. Of one whose beginning was cut off nothing is left either.
fn blank_pem(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    let mut out = String::new();
    let mut rest = text;
    loop {
        let (begin, end) = (rest.find(BEGIN), rest.find(END));
        let Some(first) = begin.into_iter().chain(end).min() else {
            out.push_str(rest);
            return out;
        };
        if Some(first) == begin {
            out.push_str(&rest[..first]);
        }
        out.push_str(BLANK);
        let Some(end) = end else { return out };
        // Behind the line `-----END KIND-----`.
        let after = end + END.len();
        rest = rest[after..].find("-----").map_or("", |close| &rest[after + close + 5..]);
    }
}

/// What takes the place of a find.
type Instead = fn(&Captures<'_>) -> String;

/// Applied in this order.
static RULES: LazyLock<Vec<(Regex, Instead)>> = LazyLock::new(|| {
    // The value behind a name: in quotes, in quotes that are escaped (JSON in a log line of JSON), or a word.
    const VALUE: &str = r#"("(?:[^"\\]|\\.)*"|\\+"[\s\S]*?\\+"|'[^']*'|[^\s"'\\,;&}]+)"#;
    const BETWEEN: &str = r#"[\\"']*\s*[:=]\s*(?:[|>][+-]?\s+)?"#;
    let rules: Vec<(String, Instead)> = vec![
        // `scheme://user:password@`, and what is behind a question mark.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@"#.into(), |c| format!("{}{BLANK}@", &c[1])),
        (r#"(://[^\s"'?<>]*)\?[^\s"'<>]*"#.into(), |c| format!("{}?{BLANK}", &c[1])),
        (r#"(?i)((?:authorization|cookie|x-registry-auth)[\\"']*\s*[:=]\s*)[^\r\n]*"#.into(), |c| {
            format!("{}{BLANK}", &c[1])
        }),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}".into(), |c| format!("{} {BLANK}", &c[1])),
        // These may be several words.
        (format!(r"(?i)([\w.-]*(?:password|passwd|passphrase|secret)[\w.-]*{BETWEEN}){VALUE}([^\r\n,;&}}]*)"), |c| {
            let value = &c[2];
            let rest = if value.starts_with(['"', '\'', '\\']) { &c[3] } else { "" };
            format!("{}{BLANK}{rest}", &c[1])
        }),
        (
            format!(
                r"(?i)([\w.-]*(?:token|api[_-]?key|access[_-]?key|private[_-]?key|credential|session|\bauth|_auth|\bpwd|\bsig|signature)[\w.-]*{BETWEEN}){VALUE}"
            ),
            |c| format!("{}{BLANK}", &c[1]),
        ),
        (
            format!(
                r"(?i)(--?[a-z0-9-]*(?:password|passphrase|token|secret|api-key|credentials?)[a-z0-9-]*(?:=|\s+)){VALUE}"
            ),
            |c| format!("{}{BLANK}", &c[1]),
        ),
        (
            concat!(
                r"\b(?:gh[a-z]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|A[KS]IA[A-Z0-9]{12,}|xox[a-z]-[\w-]{10,}",
                r"|npm_[A-Za-z0-9]{16,}|dckr_[a-z]+_[\w-]{16,}|sk-[\w-]{16,}|eyJ[\w-]{8,}(?:\.[\w-]*)+)"
            )
            .into(),
            |_| BLANK.into(),
        ),
        (r"((?:sk-)?(?:ssh|ecdsa)-[\w.@-]+)\s+AAAA\S+(?:[ \t]+\S+)?".into(), |c| format!("{} {BLANK}", &c[1])),
        // Keys, and what else looks random and is not a digest in hexadecimal.
        (r"[A-Za-z0-9+/_-]{40,}=*".into(), |c| {
            let count = |of: fn(&char) -> bool| c[0].chars().filter(of).count();
            let random = [char::is_ascii_uppercase, char::is_ascii_lowercase, char::is_ascii_digit]
                .into_iter()
                .all(|of: fn(&char) -> bool| count(of) >= 3);
            if random { BLANK.into() } else { c[0].to_owned() }
        }),
        (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+".into(), |c| {
            let unit = [".service", ".socket", ".device", ".timer", ".mount"].iter().any(|u| c[0].ends_with(u));
            if unit { c[0].to_owned() } else { ADDRESS.into() }
        }),
        (r"(?i)\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b".into(), |_| ADDRESS.into()),
        (r"\d{1,3}(?:\.\d{1,3}){3}".into(), |c| {
            let keep = c[0].parse::<Ipv4Addr>().map_or(true, |a| a.is_loopback() || a.is_unspecified());
            if keep { c[0].to_owned() } else { ADDRESS.into() }
        }),
        (r"(^|[^0-9A-Za-z:])([0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]*:[0-9A-Fa-f:]*(?:%\w+)?)".into(), |c| {
            let text = c[2].split('%').next().unwrap_or_default();
            let known = text.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback() || a.is_unspecified());
            let likely = text.contains("::") || text.matches(':').count() >= 4;
            if likely && !known { format!("{}{ADDRESS}", &c[1]) } else { c[0].to_owned() }
        }),
        (r#"(/(?:Users|home)/)[^/\s"':,;<>]+"#.into(), |c| format!("{}<user>", &c[1])),
        (r#"(?i)([a-z]:\\+Users\\+)[^\\\s"']+"#.into(), |c| format!("{}<user>", &c[1])),
    ];
    // They are constants: a test sees each of them compiled.
    rules.into_iter().filter_map(|(text, instead)| Some((Regex::new(&text).ok()?, instead))).collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_rule_is_there() {
        assert_eq!(RULES.len(), 16);
    }

    fn noise() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~\n]{0,60}", Just(String::new()), Just("level=info msg=\"booting\"\n".into())]
    }

    /// Each with its secret in the place of `{}`.
    const PLACES: [&str; 34] = [
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
            secret in "[A-Za-z0-9]{16,40}", before in noise(), after in noise(), place in 0..PLACES.len(),
        ) {
            let text = format!("{before}\n{}\n{after}", PLACES[place].replace("{}", &secret));
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
            // `~` and what we write in its place are no names.
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
