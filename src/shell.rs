//! Words for a POSIX shell: the only place that quotes one. What is quoted there is attacked in `guest/ssh/quote.rs`.

/// Not by the crate shlex: it would replace two lines, and answers with an error for the NUL that `Command` refuses before.
/// Within single quotes a POSIX shell interprets nothing; only the single quote itself cannot stand there.
pub(crate) fn quote(word: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = word.split(|b| *b == b'\'').collect();
    [b"'", &pieces.join(&b"'\\''"[..])[..], b"'"].concat()
}

pub(crate) fn quoted(word: &str) -> String {
    String::from_utf8_lossy(&quote(word.as_bytes())).into_owned()
}
