//! `.dockerignore`: which files of a directory are not sent. The rules are those of moby/patternmatcher, which every builder
//! uses: patterns of Go's `filepath.Match`, `**`, `!` for exceptions; the last pattern that fits a path, or a directory above
//! it, counts.

use crate::error::{Error, Result};

/// The patterns of one file.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    exception: bool,
    /// As cleaned, for what could lie below a directory.
    text: String,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Exact,
    /// `x**`
    Prefix,
    /// `**x`
    Suffix,
    Tokens(Vec<Token>),
}

#[derive(Debug)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `**` at the end.
    All,
    /// `**` before something: any directories, or none.
    Dirs,
    /// Unlike the others it takes a slash, too.
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

/// The longest line that Go's scanner reads.
const LONGEST_LINE: usize = 64 << 10;

impl Ignore {
    /// `name` is the file's, for the error.
    pub(super) fn parse(text: &[u8], name: &str) -> Result<Self> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut patterns = Vec::new();
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let wrong = |problem: &str| Error::invalid("context", format!("{name}, line {}: {problem}", number + 1));
            if line.len() >= LONGEST_LINE {
                return Err(wrong("is too long"));
            }
            let line = String::from_utf8_lossy(line);
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (exception, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let clean = clean(&if cfg!(windows) { line.replace('\\', "/") } else { line.to_owned() });
            if line.is_empty() || exception && clean == "/" {
                return Err(wrong("`!` alone is no pattern"));
            }
            let text = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
            patterns.push(Pattern::new(text, exception).ok_or_else(|| wrong("is no pattern"))?);
        }
        Ok(Self { patterns })
    }

    /// A path is left out. It has slashes, and none at its beginning or end.
    pub(super) fn ignores(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.exception == ignored && (pattern.fits(path) || above.clone().any(|dir| pattern.fits(dir))) {
                ignored = !pattern.exception;
            }
        }
        ignored
    }

    /// Something in a directory that is left out may be sent nevertheless.
    pub(super) fn has_exceptions_below(&self, dir: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception && pattern.may_lead_below(dir))
    }
}

impl Pattern {
    /// `None` for what `filepath.Match` does not take.
    fn new(text: &str, exception: bool) -> Option<Self> {
        let mut shape = Shape::Exact;
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    let at_end = chars.peek().is_none();
                    tokens.push(if at_end { Token::All } else { Token::Dirs });
                    shape = match shape {
                        _ if first => Shape::Suffix,
                        Shape::Exact if at_end => Shape::Prefix,
                        _ => Shape::Tokens(Vec::new()),
                    };
                }
                '*' | '?' | '[' => {
                    tokens.push(match c {
                        '*' => Token::Any,
                        '?' => Token::One,
                        _ => class(&mut chars)?,
                    });
                    shape = Shape::Tokens(Vec::new());
                }
                '\\' => {
                    tokens.push(Token::Char(chars.next()?));
                    shape = Shape::Tokens(Vec::new());
                }
                c => tokens.push(Token::Char(c)),
            }
            first = false;
        }
        if let Shape::Tokens(all) = &mut shape {
            *all = tokens;
        }
        Some(Self { exception, text: text.to_owned(), shape })
    }

    fn fits(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact => path == self.text,
            Shape::Prefix => self.text.strip_suffix("**").is_some_and(|start| path.starts_with(start)),
            Shape::Suffix => self
                .text
                .strip_prefix("**")
                .is_some_and(|end| path.ends_with(end) || end.strip_prefix('/').is_some_and(|name| path == name)),
            Shape::Tokens(tokens) => fits(tokens, path),
        }
    }

    fn may_lead_below(&self, dir: &str) -> bool {
        let mut parts = self.text.split('/');
        for name in dir.split('/') {
            match parts.next() {
                Some(part) if part.contains(['*', '?', '[', '\\']) => return true,
                Some(part) if part == name => {}
                _ => return false,
            }
        }
        parts.next().is_some()
    }
}

/// What follows a `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    fn one(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
        match chars.next()? {
            '-' | ']' => None,
            '\\' => chars.next(),
            c => Some(c),
        }
    }
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { low };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
    Some(Token::Class { not, ranges })
}

/// Whether all tokens make up all of the path. From the end on, `rest[p]` says whether the tokens behind take the path from `p`.
fn fits(tokens: &[Token], path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    let length = path.len();
    let mut rest = vec![false; length + 1];
    rest[length] = true;
    for token in tokens.iter().rev() {
        let mut now = vec![false; length + 1];
        // Behind a slash further on the rest fits.
        let mut behind = false;
        for p in (0..=length).rev() {
            let c = path.get(p).copied();
            let one = p < length && rest[p + 1];
            now[p] = match token {
                Token::Char(wanted) => one && c == Some(*wanted),
                Token::One => one && c != Some('/'),
                Token::Class { not, ranges } => {
                    one && c.is_some_and(|c| *not != ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)))
                }
                Token::Any => rest[p] || p < length && c != Some('/') && now[p + 1],
                Token::All => rest[p] || p < length && now[p + 1],
                Token::Dirs => {
                    behind |= c == Some('/') && one;
                    rest[p] || behind
                }
            };
        }
        rest = now;
    }
    rest[0]
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What moby/patternmatcher v0.6.1 says (`ignorefile.ReadAll`, then `MatchesOrParentMatches`): a file's lines, a path, and
    /// whether it is left out, or that the file is refused.
    #[cfg(unix)]
    #[test]
    fn as_the_reference() {
        let rows = include_str!("../../../tests/fixtures/dockerignore.jsonl");
        let mut count = 0;
        for row in rows.lines() {
            let (file, path, answer): (String, String, Option<bool>) = serde_json::from_str(row).unwrap();
            let ours = Ignore::parse(file.as_bytes(), ".dockerignore").ok().map(|ignore| ignore.ignores(&path));
            assert_eq!(ours, answer, "{row}");
            count += 1;
        }
        assert!(count > 1000, "{count} rows");
    }

    proptest! {
        /// Whoever does not go below a directory without exceptions misses nothing.
        #[test]
        fn nothing_below_a_directory_without_exceptions_is_sent(
            lines in prop::collection::vec("!?(a|b|\\*|\\*\\*|a\\?|\\[ab\\])(/(a|b|\\*|\\*\\*|b\\*)){0,3}", 1..6),
            dir in "(a|b)(/(a|b)){0,2}",
            below in "(a|b)(/(a|b)){0,2}",
        ) {
            let ignore = Ignore::parse(lines.join("\n").as_bytes(), ".dockerignore").unwrap();
            if ignore.ignores(&dir) && !ignore.has_exceptions_below(&dir) {
                let path = format!("{dir}/{below}");
                prop_assert!(ignore.ignores(&path), "{path}");
            }
        }

        #[test]
        fn any_file_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200), path in "[a-c/*?]{1,20}") {
            if let Ok(ignore) = Ignore::parse(&text, ".dockerignore") {
                ignore.ignores(&path);
            }
        }
    }

    #[test]
    fn the_error_names_the_file_and_the_line() {
        for (text, line) in [("a\n!\n", 2), ("[a", 1), ("# [\n\n[]", 3), ("[b-a]", 1)] {
            let e = Ignore::parse(text.as_bytes(), "x.dockerignore").unwrap_err();
            assert_eq!(e.details()["field"], "context");
            assert!(e.message().contains(&format!("x.dockerignore, line {line}:")), "{}", e.message());
        }
    }

    #[test]
    fn a_pattern_that_would_take_a_regular_expression_long() {
        let stars = "a*".repeat(200) + "b";
        let ignore = Ignore::parse(stars.as_bytes(), ".dockerignore").unwrap();
        assert!(!ignore.ignores(&"a".repeat(4000)));
    }
}
