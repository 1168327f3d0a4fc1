//! URLs of the web and of databases: their login, host and query.

use super::{
    hosts,
    rewriter::{BLANK, Rewriter, at, before, is_quote, length},
};

/// Schemes that name no host of the network.
const LOCAL_SCHEMES: &[&str] = &[
    "file",
    "unix",
    "npipe",
    "fd",
    "vsock",
    "containerd",
    "docker-container",
    "lima",
    "app",
    "data",
    "chrome-extension",
    "template",
    "binary",
];
/// Schemes of images, whose registry may be left out.
const IMAGE_SCHEMES: &[&str] = &["docker", "docker-image", "oci", "docker-daemon", "containers-storage"];
/// Addresses whose remaining path is a secret.
const WEBHOOKS: &[&str] =
    &["hooks.slack.com/", "/webhooks/", "/webhook/", "/webhookb2/", "api.telegram.org/bot", "hooks.zapier.com/"];

fn in_url(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>') || !b.is_ascii()
}

pub fn scrub(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&text.as_bytes()[from..], b"://") {
        let start = from + found + 3;
        from = start + url(&mut out, start);
    }
    let text = out.finish();
    let mut out = Rewriter::new(&text);
    for i in memchr::memchr_iter(b'@', text.as_bytes()) {
        login(&mut out, i);
    }
    out.finish()
}

/// Scrubs one address from after `://`; returns its length.
fn url(out: &mut Rewriter<'_>, start: usize) -> usize {
    let text = out.text;
    let scheme =
        text[..start - 3].rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c)).next().unwrap_or("");
    let mut end = start + length(text, start, in_url);
    // In nested JSON the backslash belongs to the quote after it.
    while end > start && before(text, end) == b'\\' && is_quote(at(text, end)) {
        end -= 1;
    }
    let whole = &text[start..end];
    let authority = whole.split(['/', '?', '#']).next().unwrap_or_default();
    // A password may hold a slash: what follows the colon is then not a port.
    let port = |a: &str| a.rsplit_once(':').is_none_or(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()));
    let mut host = start;
    let login = if authority.contains('@') || !port(authority) { whole.split('?').next() } else { None };
    if let Some(login) = login.and_then(|w| w.rfind('@')).or_else(|| authority.rfind('@')) {
        out.replace(start..start + login, BLANK);
        host = start + login + 1;
    }
    if !LOCAL_SCHEMES.contains(&scheme) {
        let name = host..host
            + length(text, host, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')).min(end - host);
        let image = IMAGE_SCHEMES.contains(&scheme) && !text[name.clone()].contains('.') && at(text, name.end) != b':';
        if !image && !hosts::is_known(&text[name.clone()]) {
            out.replace(name, hosts::HOST);
        }
    }
    let rest = &text[host..end];
    if let Some(hook) = WEBHOOKS.iter().filter_map(|h| rest.find(h).map(|i| i + h.len())).min() {
        out.replace(host + hook..end, BLANK);
    } else if let Some(query) = rest.find('?').or_else(|| rest.find('#').filter(|i| rest[*i..].contains('='))) {
        out.replace(host + query + 1..end, BLANK);
    }
    end - start
}

/// `user:password@host` without a scheme.
fn login(out: &mut Rewriter<'_>, i: usize) {
    let text = out.text;
    let to = &text[i + 1..];
    let host = to.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == '(');
    if !host || to.starts_with("sha256:") || to.starts_with("sha512:") {
        return;
    }
    let taken = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>/@(),".contains(c);
    let from = text[out.done()..i].rfind(taken).map_or(out.done(), |at| {
        let at = out.done() + at;
        at + text[at..].chars().next().map_or(0, char::len_utf8)
    });
    let Some((user, password)) = text[from..i].split_once(':') else { return };
    // `HTTP_PROXY=user`
    let user = user.rsplit('=').next().unwrap_or_default();
    let name = !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(&b));
    if name && !password.is_empty() {
        out.replace(i - password.len() - 1 - user.len()..i, BLANK);
    }
}
