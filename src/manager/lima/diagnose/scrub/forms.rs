//! Secrets with a form of their own, recognised in any context.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

use super::rewriter::{BLANK, Rewriter, at, before, is_blank, length, run};

/// The characters that follow a token's prefix.
#[derive(Clone, Copy)]
enum Body {
    /// Letters and digits.
    Plain,
    /// Letters, digits, `_` and `-`.
    Wide,
    /// Also the characters that join parts.
    Parts,
    Hex,
}
use Body::{Hex, Parts, Plain, Wide};

/// A token's prefix, and how many characters of which kind follow at least.
const TOKEN_PREFIXES: &[(&str, usize, Body)] = &[
    // GitHub, GitLab, Bitbucket, Atlassian
    ("ghp_", 16, Plain),
    ("gho_", 16, Plain),
    ("ghu_", 16, Plain),
    ("ghs_", 16, Plain),
    ("ghr_", 16, Plain),
    ("github_pat_", 16, Wide),
    ("glpat-", 16, Wide),
    ("gldt-", 16, Wide),
    ("glrt-", 16, Wide),
    ("glptt-", 16, Wide),
    ("glcbt-", 16, Wide),
    ("glft-", 16, Wide),
    ("glsoat-", 16, Wide),
    ("glagent-", 16, Wide),
    ("gloas-", 16, Wide),
    ("ATATT3", 20, Wide),
    ("ATBB", 20, Plain),
    ("ATCTT3", 20, Wide),
    // Amazon, Google, Azure, Alibaba, Tencent, DigitalOcean, Heroku, Fly, Cloudflare
    ("AKIA", 12, Plain),
    ("ASIA", 12, Plain),
    ("ABIA", 12, Plain),
    ("ACCA", 12, Plain),
    ("AROA", 12, Plain),
    ("AIDA", 12, Plain),
    ("AIza", 30, Wide),
    ("ya29.", 16, Wide),
    ("GOCSPX-", 16, Wide),
    ("1//0", 20, Wide),
    ("LTAI", 12, Plain),
    ("AKID", 16, Plain),
    ("dop_v1_", 16, Hex),
    ("doo_v1_", 16, Hex),
    ("dor_v1_", 16, Hex),
    ("HRKU-", 16, Wide),
    ("fo1_", 16, Wide),
    ("fm1_", 16, Wide),
    ("fm2_", 16, Parts),
    ("v1.0-", 100, Wide),
    // Payment
    ("sk_live_", 8, Plain),
    ("sk_test_", 8, Plain),
    ("rk_live_", 8, Plain),
    ("rk_test_", 8, Plain),
    ("pk_live_", 8, Plain),
    ("whsec_", 8, Parts),
    ("sq0atp-", 16, Wide),
    ("sq0csp-", 16, Wide),
    ("shpat_", 16, Hex),
    ("shpss_", 16, Hex),
    ("shpca_", 16, Hex),
    ("shppa_", 16, Hex),
    ("access_token$production$", 8, Plain),
    // Chat and mail
    ("xoxa-", 10, Wide),
    ("xoxb-", 10, Wide),
    ("xoxc-", 10, Wide),
    ("xoxd-", 10, Wide),
    ("xoxe-", 10, Wide),
    ("xoxe.", 10, Parts),
    ("xoxo-", 10, Wide),
    ("xoxp-", 10, Wide),
    ("xoxr-", 10, Wide),
    ("xoxs-", 10, Wide),
    ("xapp-", 10, Wide),
    ("SG.", 20, Parts),
    ("key-", 32, Hex),
    ("xkeysib-", 16, Wide),
    ("SK", 32, Hex),
    ("AC", 32, Hex),
    // Packages and images
    ("npm_", 16, Plain),
    ("pypi-", 16, Wide),
    ("dckr_pat_", 16, Wide),
    ("dckr_oat_", 16, Wide),
    ("rubygems_", 16, Hex),
    ("AKCp", 16, Plain),
    ("cio", 32, Plain),
    ("oy2", 43, Plain),
    // Models
    ("sk-", 16, Wide),
    ("hf_", 16, Plain),
    ("r8_", 16, Plain),
    ("gsk_", 16, Plain),
    ("nvapi-", 16, Wide),
    ("pplx-", 16, Plain),
    // Operation
    ("hvs.", 16, Wide),
    ("hvb.", 16, Wide),
    ("hvr.", 16, Wide),
    ("tskey-", 10, Wide),
    ("SWMTKN-", 16, Wide),
    ("glsa_", 16, Wide),
    ("glc_", 16, Parts),
    ("NRAK-", 16, Plain),
    ("pul-", 32, Hex),
    ("dapi", 32, Hex),
    ("AGE-SECRET-KEY-", 8, Plain),
    ("lin_api_", 16, Plain),
    ("ops_", 40, Parts),
    // Others
    ("sntrys_", 16, Parts),
    ("sntryu_", 16, Hex),
    ("phc_", 16, Plain),
    ("phx_", 16, Plain),
    ("PMAK-", 16, Wide),
    ("figd_", 16, Wide),
    ("ntn_", 16, Plain),
    ("secret_", 32, Plain),
    ("dp.pt.", 16, Plain),
    ("dp.st.", 16, Parts),
    ("sbp_", 16, Hex),
    ("CFPAT-", 16, Wide),
    ("sha256~", 32, Wide),
    ("EAACEdEose0cBA", 8, Plain),
    ("eyJ", 8, Parts),
];
/// Prefixes of password hashes, as `crypt` and its like write them.
const HASH_PREFIXES: &[&str] = &["$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$apr1$", "$argon2", "$pbkdf2"];
/// A secret follows them, unless an ordinary word does.
const AUTH_SCHEMES: &[&str] = &["bearer", "basic", "negotiate", "ntlm"];

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_-.~+/=$".contains(&b)
}

impl Body {
    fn takes(self, b: u8) -> bool {
        match self {
            Plain => b.is_ascii_alphanumeric(),
            Wide => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'),
            Parts => b.is_ascii_alphanumeric() || b"_-.~+/=".contains(&b),
            Hex => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        }
    }
}

pub fn scrub(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let (mut from, mut last) = (0, 0..0);
    while let Some(found) = run(text, from, is_token) {
        from = found.end;
        let word = &text[found.clone()];
        let behind = text[last.end..found.start].bytes().all(is_blank) && last.end < found.start;
        let scheme = &text[last.clone()];
        if behind && AUTH_SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme)) && is_credential(scheme, word) {
            out.replace(found.clone(), BLANK);
        } else if behind && word.starts_with("AAAA") && is_ssh_key(scheme) {
            // Including its comment, which names a user and a host.
            let comment = found.end + length(text, found.end, is_blank);
            let comment_end = comment + length(text, comment, |b| !b.is_ascii_whitespace() && b != b'"' && b != b'\'');
            out.replace(found.start..if comment > found.end { comment_end } else { found.end }, BLANK);
        } else if is_telegram(text, found.start, word) || (length(word, 0, |b| b != b'=') >= 40 && is_random(word)) {
            out.replace(found.clone(), BLANK);
        } else {
            tokens(&mut out, found.start, word);
        }
        last = found;
    }
    out.finish()
}

/// Finds tokens by their prefix, at the beginning of each part of `run`.
fn tokens(out: &mut Rewriter<'_>, start: usize, run: &str) {
    let bytes = run.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let part = &bytes[i..];
        // A hardware key's name begins like an `sk-` token.
        let name = part.starts_with(b"sk-ssh-") || part.starts_with(b"sk-ecdsa-");
        let hash = HASH_PREFIXES.iter().any(|h| part.starts_with(h.as_bytes()));
        let token = TOKEN_PREFIXES.iter().find_map(|(prefix, least, body)| {
            let rest = part.strip_prefix(prefix.as_bytes()).filter(|_| !name)?;
            let length = rest.iter().position(|b| !body.takes(*b)).unwrap_or(rest.len());
            (length >= *least).then_some(prefix.len() + length)
        });
        let length = if hash { Some(part.len()).filter(|l| *l > 8) } else { token };
        if let Some(length) = length {
            out.replace(start + i..start + i + length, BLANK);
            i += length;
        }
        // Continue after the next separator.
        i += bytes[i..]
            .iter()
            .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
            .map_or(bytes.len(), |at| if bytes[i + at] == b'$' && at > 0 { at } else { at + 1 });
    }
}

fn is_credential(scheme: &str, word: &str) -> bool {
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64_STANDARD_NO_PAD.decode(word.trim_end_matches('='));
        return decoded.is_ok_and(|d| d.contains(&b':')) || (word.len() >= 16 && !is_word(word));
    }
    word.len() >= 8 && !is_word(word)
}

/// Whether it is an ordinary word, as in `bearer authentication` or `Basic information`.
fn is_word(word: &str) -> bool {
    let tail = word.get(1..).unwrap_or_default().trim_end_matches(['.', ':', '-']);
    word.len() <= 24 && tail.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.contains('=')
}

fn is_ssh_key(kind: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|k| kind.starts_with(k))
}

/// `123456789:AA…`
fn is_telegram(text: &str, start: usize, word: &str) -> bool {
    word.starts_with("AA")
        && word.len() >= 35
        && before(text, start) == b':'
        && at(text, start.saturating_sub(2)).is_ascii_digit()
}

/// Upper case, lower case and digits mixed at random; not a digest, which is hexadecimal, and not a path.
fn is_random(run: &str) -> bool {
    run.split(['.', '~', '=', '$']).filter(|part| part.len() >= 40).any(|part| {
        let count = |of: fn(&u8) -> bool| part.bytes().filter(of).count();
        let classes: [fn(&u8) -> bool; 3] = [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit];
        let class = |b: u8| classes.iter().position(|of| of(&b));
        let changes = part.as_bytes().windows(2).filter(|w| class(w[0]) != class(w[1])).count();
        let [large, small, digits] = classes.map(count);
        let spoken = |s: &&str| s.len() > 2 && s[1..].bytes().all(|b| b.is_ascii_lowercase());
        let path = part.split(['/', '-', '_']).filter(spoken).count() > 1;
        large >= 3 && small >= 3 && (digits >= 3 || changes * 8 >= part.len() * 3) && !path
    })
}
