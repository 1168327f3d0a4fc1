//! Reads a text once, from beginning to end.

use std::ops::Range;

pub const BLANK: &str = "<blanked>";

/// Copies a text with parts replaced. Never goes back, so the cost is linear in the text's length.
pub struct Rewriter<'a> {
    pub text: &'a str,
    out: String,
    done: usize,
}

impl<'a> Rewriter<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, out: String::new(), done: 0 }
    }

    /// Up to where the text is decided.
    pub fn done(&self) -> usize {
        self.done
    }

    pub fn replace(&mut self, range: Range<usize>, instead: &str) {
        if range.start < self.done || range.is_empty() {
            return;
        }
        self.out.push_str(&self.text[self.done..range.start]);
        self.out.push_str(instead);
        self.done = range.end;
    }

    pub fn finish(mut self) -> String {
        self.out.push_str(&self.text[self.done..]);
        self.out
    }
}

/// The next run, at or after `from`, of ASCII characters that `is` accepts.
pub fn run(text: &str, from: usize, is: fn(u8) -> bool) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let start = from + bytes.get(from..)?.iter().position(|b| is(*b))?;
    Some(start..start + length(text, start, is))
}

/// How many characters `is` accepts from `from` on.
pub fn length(text: &str, from: usize, is: fn(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    rest.iter().position(|b| !is(*b)).unwrap_or(rest.len())
}

pub fn at(text: &str, i: usize) -> u8 {
    text.as_bytes().get(i).copied().unwrap_or(b'\n')
}

pub fn before(text: &str, i: usize) -> u8 {
    i.checked_sub(1).map_or(b'\n', |i| at(text, i))
}

pub fn is_quote(b: u8) -> bool {
    matches!(b, b'"' | b'\'' | b'`')
}

pub fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// The end of the line that holds `i`.
pub fn line_end(text: &str, i: usize) -> usize {
    i + length(text, i, |b| b != b'\n' && b != b'\r')
}
