//! Finds where the value after a name begins and ends, in JSON, YAML, shell words, HTTP and XML.

use std::ops::Range;

use super::{
    names::Kind,
    rewriter::{at, before, is_blank, is_quote, length, line_end},
};

/// How far the end of a value that is not a word is searched.
const MAX_SEARCH: usize = 2048;
/// The most closing characters after a name in quotes, brackets or nested JSON.
const MAX_CLOSERS: usize = 16;
/// Values that are never secrets.
const HARMLESS_VALUES: &[&str] =
    &["true", "false", "null", "none", "nil", "<nil>", "undefined", "yes", "no", "on", "off", "<blanked>"];
/// Words after `password is` or `--password` that show a sentence, not a value.
const SENTENCE_WORDS: &[&str] = &[
    "a",
    "and",
    "being",
    "correct",
    "empty",
    "expired",
    "for",
    "has",
    "in",
    "incorrect",
    "invalid",
    "is",
    "missing",
    "must",
    "needed",
    "not",
    "or",
    "required",
    "set",
    "the",
    "to",
    "too",
    "used",
    "was",
    "weak",
    "with",
    "wrong",
];
const SEPARATORS: &[&str] = &[":=", "=>", "->", "+=", "==", "=", ":", "%3D", "%3d", "%3A", "%3a"];

pub fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

/// The value of the name at `name`; `words` are the words before it, the nearest first.
pub fn value_of(text: &str, name: &Range<usize>, kind: Kind, words: &[&str]) -> Option<Range<usize>> {
    let value = match value_start(text, name, kind, words)? {
        ValueStart::Value(from) => single_value(text, name, from, kind),
        ValueStart::Word(from) => single_value(text, name, from, if kind == Kind::Phrase { Kind::Word } else { kind }),
        ValueStart::Element(from) => from..from + length(text, from, |b| b != b'<'),
        ValueStart::Block(from) => block(text, name.start, from),
    };
    // Up to an escaped end of line in JSON.
    let told = text[value.clone()].split("\\n").next().unwrap_or_default();
    let plain = told.is_empty() || HARMLESS_VALUES.iter().any(|p| p.eq_ignore_ascii_case(told));
    (!plain && !value.is_empty()).then_some(value)
}

enum ValueStart {
    Value(usize),
    /// A value without blanks.
    Word(usize),
    /// The text of an XML element.
    Element(usize),
    /// The indented lines below.
    Block(usize),
}

fn value_start(text: &str, name: &Range<usize>, kind: Kind, words: &[&str]) -> Option<ValueStart> {
    let secret = !matches!(kind, Kind::Host | Kind::User);
    let flag = text[name.clone()].starts_with('-');
    let variable = !text[name.clone()].bytes().any(|b| b.is_ascii_lowercase());
    let rest = &text[name.end..];
    if secret && before(text, name.start) == b'<' {
        let tag = &rest[..length(rest, 0, |b| !matches!(b, b'<' | b'>' | b'\n'))];
        if at(rest, tag.len()) == b'>' && !tag.ends_with('/') && (tag.is_empty() || is_blank(at(tag, 0))) {
            return Some(ValueStart::Element(name.end + tag.len() + 1));
        }
    }
    if let Some(string) = rest.strip_prefix("</key>").map(str::trim_start).and_then(|r| r.strip_prefix("<string>")) {
        return Some(ValueStart::Element(text.len() - string.len()));
    }
    let closed = length(rest, 0, |b| is_quote(b) || matches!(b, b'\\' | b']' | b')'));
    if closed > MAX_CLOSERS {
        return None;
    }
    let quoted = rest[..closed].bytes().any(is_quote);
    let gap = length(rest, closed, is_blank);
    let next = &rest[closed + gap..];
    let behind = |separator: usize| {
        let from = name.end + closed + gap + separator;
        from + length(text, from, is_blank)
    };
    if let Some(separator) = SEPARATORS.iter().find(|s| next.starts_with(**s)) {
        // `secret://`, `crate::secret::Secret`
        if *separator == ":" && (next.starts_with("://") || next.starts_with("::")) {
            return None;
        }
        let from = behind(separator.len());
        let indicator = length(text, from, |b| matches!(b, b'|' | b'>' | b'+' | b'-'));
        return match at(text, from + indicator) {
            b'\n' | b'\r' if !flag && (indicator == 0 || matches!(at(text, from), b'|' | b'>')) => {
                Some(ValueStart::Block(from + indicator))
            }
            // An argument, or a variable before a command.
            _ if flag || variable && *separator == "=" && gap == 0 && from == name.end + closed + 1 => {
                Some(ValueStart::Word(from))
            }
            _ => Some(ValueStart::Value(from)),
        };
    }
    // `{"name":"DB_PASS","value":"…"}`, also in YAML and XML.
    if secret {
        let between = length(rest, 0, |b| is_quote(b) || b.is_ascii_whitespace() || matches!(b, b'\\' | b',' | b';'));
        let word = rest.get(between..between + 5).unwrap_or_default();
        if between > 0 && between < MAX_SEARCH && word.eq_ignore_ascii_case("value") {
            let from = between + 5 + length(rest, between + 5, |b| is_quote(b) || is_blank(b) || b == b'\\');
            if matches!(at(rest, from), b':' | b'=') {
                return Some(ValueStart::Value(name.end + from + 1 + length(rest, from + 1, is_blank)));
            }
        }
    }
    // A pair in quotes, or a function call.
    let opens = |from: usize| is_quote(at(text, from + length(text, from, |b| b == b'\\')));
    for (separator, may) in [(b',', quoted), (b'(', !quoted && gap == 0)] {
        if may && at(next, 0) == separator && secret && opens(behind(1)) {
            return Some(ValueStart::Value(behind(1)));
        }
    }
    if closed > 0 && !(quoted && flag) {
        return None;
    }
    let from = name.end + closed + gap;
    // A separate argument, also in a list of quoted arguments.
    let apart = gap > 0 || (quoted && at(next, 0) == b',');
    if !apart || matches!(at(text, from), b'\n' | b'\r') {
        return None;
    }
    let word = &text[from..from + length(text, from, |b| b.is_ascii_alphabetic())];
    let set = words.iter().take(2).any(|w| ["set", "setx", "SET", "SETX"].contains(w));
    let netrc = words.get(1).is_some_and(|w| *w == "login");
    if secret && (flag || set || netrc) && at(text, from) != b'-' && !SENTENCE_WORDS.contains(&word) {
        return Some(ValueStart::Word(from + length(text, from, |b| is_blank(b) || b == b',')));
    }
    if !matches!(kind, Kind::Phrase | Kind::Word) {
        return None;
    }
    // `PASSWORD 'x'`, `the password is x`
    if matches!(at(text, from), b'"' | b'\'') && length(text, from + 1, |b| !is_quote(b) && b != b'\n') > 0 {
        return Some(ValueStart::Value(from));
    }
    let is = from + word.len() + length(text, from + word.len(), is_blank);
    let said = &text[is..is + length(text, is, |b| b.is_ascii_alphabetic())];
    (word == "is" && kind == Kind::Phrase && !SENTENCE_WORDS.contains(&said)).then_some(ValueStart::Word(is))
}

fn single_value(text: &str, name: &Range<usize>, from: usize, kind: Kind) -> Range<usize> {
    // String prefixes of Python and Rust.
    let prefix = usize::from(matches!(at(text, from), b'b' | b'r' | b'u' | b'f') && is_quote(at(text, from + 1)));
    let from = from + prefix;
    let escapes = length(text, from, |b| b == b'\\');
    let open = from + escapes;
    if is_quote(at(text, open)) {
        return quoted(text, open + 1, at(text, open), escapes);
    }
    if let b'[' | b'{' | b'(' = at(text, from) {
        return from + 1..bracket(text, from);
    }
    if kind == Kind::Line {
        return from..header(text, name, from);
    }
    let value = from..word(text, from, kind == Kind::Phrase);
    // The path of a key is not a secret.
    let path = |v: &str| v.starts_with(['/', '~']) || v.starts_with("./");
    let directory = ["PWD", "OLDPWD"].contains(&&text[name.clone()]);
    if (kind == Kind::Key || directory) && path(&text[value.clone()]) { from..from } else { value }
}

/// Searches until `ends` is true, else to the end of the line. Looks at most at what is skipped and [`MAX_SEARCH`] more.
fn search(text: &str, from: usize, mut ends: impl FnMut(usize) -> bool) -> (usize, bool) {
    let mut line = None;
    for (i, b) in text.bytes().enumerate().skip(from) {
        if ends(i) {
            return (i, true);
        }
        if matches!(b, b'\n' | b'\r') && line.is_none() {
            line = Some(i);
        }
        if let Some(line) = line.filter(|_| i > from + MAX_SEARCH) {
            return (line, false);
        }
    }
    (line.unwrap_or(text.len()), false)
}

/// From after the quote to the closing one, which has as many backslashes before it. A quote that is never closed was cut
/// off, or is not a quote.
fn quoted(text: &str, from: usize, quote: u8, escapes: usize) -> Range<usize> {
    let mut slashes = 0;
    let (end, closed) = search(text, from, |i| {
        let b = at(text, i);
        // In unescaped text a backslash escapes the quote after it.
        if b == quote && (if escapes == 0 { slashes % 2 == 0 } else { slashes <= escapes }) {
            return true;
        }
        slashes = if b == b'\\' { slashes + 1 } else { 0 };
        false
    });
    from..if closed { end - slashes.min(escapes) } else { end }
}

/// Up to the bracket that closes the one at `from`.
fn bracket(text: &str, from: usize) -> usize {
    let mut depth = 0;
    let fellow = |i| {
        match at(text, i) {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    search(text, from, fellow).0
}

/// Up to a quote like the one before the header's name, else the whole line.
fn header(text: &str, name: &Range<usize>, from: usize) -> usize {
    let quote = before(text, name.start);
    if !is_quote(quote) {
        return line_end(text, from);
    }
    let escapes = text[..name.start - 1].bytes().rev().take_while(|b| *b == b'\\').count();
    let value = quoted(text, from, quote, escapes);
    from + length(&text[..value.end], from, |b| b != b'\n' && b != b'\r')
}

fn word(text: &str, from: usize, phrase: bool) -> usize {
    let mut i = from;
    while i < text.len() {
        let b = at(text, i);
        let after = i + 1 + length(text, i + 1, is_blank);
        match b {
            b'\n' | b'\r' => break,
            _ if is_blank(b) => {
                let next = i + length(text, i, is_blank);
                if !phrase || is_next_name(text, next) {
                    break;
                }
                i = next;
                continue;
            }
            b',' | b';' | b'&' if is_next_name(text, after) => break,
            b'%' if text[i..].starts_with("%26") => break,
            b'<' if at(text, i + 1) == b'/' => break,
            b'\\' if phrase && i > from && matches!(at(text, i + 1), b'n' | b'r') => break,
            b'\\' if i > from && closes(text, i + length(text, i, |b| b == b'\\')) => break,
            _ if is_quote(b) && i > from && closes(text, i) => break,
            _ => {}
        }
        i += 1;
    }
    // Without brackets that close something opened before the value.
    let value = text[from..i].trim_end_matches(['}', ']', ')', ',', ';']);
    if value.is_empty() { i } else { from + value.len() }
}

/// Whether the quote at `i` closes the text around the value.
fn closes(text: &str, i: usize) -> bool {
    is_quote(at(text, i)) && (at(text, i + 1).is_ascii_whitespace() || b",;:)]}\\\"'".contains(&at(text, i + 1)))
}

/// `name=` or `"name":`
fn is_next_name(text: &str, from: usize) -> bool {
    let from = from + length(text, from, |b| is_quote(b) || b == b'\\').min(MAX_CLOSERS);
    let end = from + length(text, from, is_name).min(MAX_SEARCH);
    let end_quoted = end + length(text, end, |b| is_quote(b) || b == b'\\').min(MAX_CLOSERS);
    end > from && matches!(at(text, end_quoted), b'=' | b':')
}

/// The lines below that are indented more than the name's line.
fn block(text: &str, name: usize, from: usize) -> Range<usize> {
    let line = text[..name].rfind('\n').map_or(0, |i| i + 1);
    let indent = length(text, line, |b| is_blank(b) || b == b'-');
    let end = |i: usize| i + length(text, i, |b| b == b'\r') + 1;
    let mut next = end(from);
    let first = next + length(text, next, is_blank);
    let mut last = None;
    while next < text.len() {
        let blanks = length(text, next, is_blank);
        let stop = line_end(text, next);
        let empty = next + blanks == stop;
        if !empty && blanks <= indent {
            break;
        }
        if !empty {
            last = Some(stop);
        }
        next = end(stop);
    }
    last.map_or(from..from, |last| first.min(last)..last)
}
