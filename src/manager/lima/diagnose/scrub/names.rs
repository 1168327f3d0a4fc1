//! What a name tells about its value.

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A secret that may hold blanks.
    Phrase,
    /// A secret without blanks.
    Word,
    /// A key: a secret, unless the value is a path.
    Key,
    /// A secret up to the end of the line, as in a header.
    Line,
    Host,
    User,
}

/// Found anywhere in a name.
const PHRASES: &[&str] = &["password", "passwd", "passphrase", "passcode", "secret", "kennwort"];
/// Found anywhere in the last part of a name.
const STEMS: &[&str] = &[
    "token",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "sessionid",
    "sessionkey",
    "connectionstring",
    "authkey",
];
/// A whole word of the last part of a name.
const WORDS: &[&str] = &[
    "auth",
    "bearer",
    "chpasswd",
    "cred",
    "creds",
    "csrf",
    "jwt",
    "mnemonic",
    "otp",
    "pass",
    "passin",
    "passout",
    "pin",
    "psk",
    "pw",
    "pwd",
    "sas",
    "seed",
    "serial",
    "serialnumber",
    "session",
    "sid",
    "sig",
    "signature",
    "ssid",
    "totp",
];
const WHOLE_LINE: &[&str] = &["authorization", "cookie", "cookies", "registryauth"];
/// Words that end like `pass` but are not passwords.
const NO_PASSWORDS: [&str; 9] =
    ["askpass", "bypass", "compass", "encompass", "multipass", "overpass", "surpass", "trespass", "underpass"];
/// Words before `key` that make it no secret.
const NO_KEYS: [&str; 22] = [
    "any",
    "authorized",
    "cache",
    "dict",
    "foreign",
    "group",
    "host",
    "hot",
    "index",
    "known",
    "lock",
    "map",
    "partition",
    "press",
    "primary",
    "public",
    "registry",
    "routing",
    "row",
    "sort",
    "trusted",
    "unique",
];
/// Last words that make a value information about a secret, not a secret.
const HARMLESS: &[&str] = &[
    "age",
    "algorithm",
    "count",
    "dir",
    "enabled",
    "endpoint",
    "expired",
    "expires",
    "expiry",
    "file",
    "files",
    "helper",
    "helpers",
    "issuer",
    "kind",
    "length",
    "manager",
    "method",
    "methods",
    "mode",
    "name",
    "path",
    "policy",
    "prompt",
    "protocol",
    "provider",
    "providers",
    "required",
    "scope",
    "server",
    "service",
    "size",
    "sock",
    "socket",
    "status",
    "stdin",
    "store",
    "timeout",
    "ttl",
    "type",
    "types",
    "uri",
    "url",
];
const HOSTS: &[&str] = &[
    "computername",
    "dc",
    "dnsdomain",
    "dnsdomainname",
    "domain",
    "domainname",
    "fqdn",
    "host",
    "hostname",
    "localhostname",
    "logonserver",
    "machinename",
    "nodename",
    "servername",
    "sni",
    "userdnsdomain",
    "workgroup",
];
const USERS: &[&str] = &[
    "cn",
    "displayname",
    "email",
    "fullname",
    "gecos",
    "login",
    "logname",
    "realname",
    "sudouser",
    "user",
    "useremail",
    "username",
];
/// Each name above contains one of these: a quick first test.
const HINTS: &[&str] = &[
    "pass", "kenn", "pw", "secret", "token", "cred", "key", "sess", "string", "auth", "bear", "csrf", "jwt", "mnem",
    "otp", "pin", "psk", "sas", "seed", "ser", "sid", "sig", "cook", "hook", "host", "name", "dc", "dom", "fqdn",
    "logon", "sni", "group", "cn", "mail", "gecos", "log",
];
/// Only the end of a longer name is examined.
const MAX_LENGTH: usize = 128;

pub fn kind(name: &str) -> Option<Kind> {
    let name = name.get(name.len().saturating_sub(MAX_LENGTH)..).unwrap_or(name);
    let lower = name.to_ascii_lowercase();
    if !HINTS.iter().any(|hint| lower.contains(hint)) {
        return None;
    }
    let words = words(name);
    let last = words.last()?;
    let all = words.concat();
    // `auth.docker.io` is not `auth`.
    let part = name.trim_end_matches(['.', '-']).rsplit('.').next().map(self::words).unwrap_or_default();
    let joined = part.concat();
    if part.iter().any(|w| WHOLE_LINE.contains(&w.as_str())) || joined.ends_with(WHOLE_LINE[3]) {
        return Some(Kind::Line);
    }
    if part.iter().any(|w| w == "webhook") {
        return Some(Kind::Word);
    }
    if HARMLESS.contains(&last.as_str()) && !HOSTS.contains(&joined.as_str()) && !USERS.contains(&joined.as_str()) {
        return None;
    }
    if PHRASES.iter().any(|p| all.contains(p)) {
        return Some(Kind::Phrase);
    }
    let password = |w: &String| {
        (w.ends_with("pass") || w.ends_with("pwd") || w.ends_with("rootpw")) && !NO_PASSWORDS.contains(&w.as_str())
    };
    if part.iter().any(|w| WORDS.contains(&w.as_str()) || password(w)) || STEMS.iter().any(|s| joined.contains(s)) {
        return Some(Kind::Word);
    }
    if words.len() > 1
        && ["key", "keys"].contains(&last.as_str())
        && !NO_KEYS.contains(&words[words.len() - 2].as_str())
    {
        return Some(Kind::Key);
    }
    if HOSTS.contains(&joined.as_str()) {
        return Some(Kind::Host);
    }
    USERS.contains(&joined.as_str()).then_some(Kind::User)
}

/// `DB_PASS`, `dbPass` and `db-pass` are the same two words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let bytes = name.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| bytes[i]);
        let after = bytes.get(i + 1);
        let begins = b.is_ascii_uppercase()
            && before.is_some_and(|p| {
                p.is_ascii_lowercase() || p.is_ascii_digit() || after.is_some_and(u8::is_ascii_lowercase)
            });
        if !b.is_ascii_alphanumeric() || begins {
            words.push(String::new());
        }
        if let (true, Some(word)) = (b.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(b.to_ascii_lowercase().into());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_speak() {
        for word in PHRASES.iter().chain(STEMS).chain(WORDS).chain(WHOLE_LINE).chain(HOSTS).chain(USERS) {
            assert!(HINTS.iter().any(|h| word.contains(h)), "{word}");
        }
        let cases: [(&[&str], Option<Kind>); 7] = [
            (
                &["password", "DB_PASSWORD", "dbPassword", "spring.datasource.password", "client_secret", "secrets.db"],
                Some(Kind::Phrase),
            ),
            (
                &[
                    "DB_PASS",
                    "MYSQL_PWD",
                    "pass",
                    "dbpass",
                    "rootpw",
                    "pw",
                    "identitytoken",
                    "GITHUB_TOKEN",
                    "_auth",
                    "_authToken",
                    "apiKey",
                    "api-key",
                    "x-api-key",
                    "AWS_ACCESS_KEY_ID",
                    "SSHPASS",
                    "psk",
                    "JSESSIONID",
                    "sessionToken",
                    "SLACK_WEBHOOK_URL",
                    "X-Amz-Signature",
                    "sig",
                    "connectionString",
                    "creds",
                ],
                Some(Kind::Word),
            ),
            (&["AccountKey", "SharedAccessKey", "tls.key", "ENCRYPTION_KEY", "PrivateKey", "APIKeys"], None),
            (&["Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "X-Registry-Auth"], Some(Kind::Line)),
            (
                &[
                    "author",
                    "bypass",
                    "compass",
                    "passed",
                    "PASSWORD_FILE",
                    "password-stdin",
                    "token_type",
                    "credsStore",
                    "SSH_AUTH_SOCK",
                    "public_key",
                    "key",
                    "auth.docker.io",
                    "keyboard",
                    "monkey",
                    "compassion",
                    "tokenizer_count",
                    "authenticated",
                    "hostagent",
                    "hostSocket",
                    "userdata",
                ],
                None,
            ),
            (
                &["host", "hostname", "HostName", "COMPUTERNAME", "USERDNSDOMAIN", "server_name", "domain"],
                Some(Kind::Host),
            ),
            (&["user", "Username", "user_name", "email"], Some(Kind::User)),
        ];
        for (names, wanted) in cases {
            for name in names {
                let found = kind(name);
                if names[0] == "AccountKey" {
                    assert!(matches!(found, Some(Kind::Key | Kind::Word)), "{name}: {found:?}");
                } else {
                    assert_eq!(found, wanted, "{name}");
                }
            }
        }
    }
}
