//! Bytes that come in pieces, line by line.

use bytes::BytesMut;

#[derive(Default)]
pub struct Lines {
    rest: BytesMut,
    /// Where a line that is not whole yet has been looked through.
    looked: usize,
}

impl Lines {
    pub fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line, with its end.
    pub fn line(&mut self) -> Option<BytesMut> {
        let Some(end) = self.rest[self.looked..].iter().position(|b| *b == b'\n') else {
            self.looked = self.rest.len();
            return None;
        };
        Some(self.rest.split_to(std::mem::take(&mut self.looked) + end + 1))
    }

    /// What no end has come of.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    pub fn clear(&mut self) {
        self.rest.clear();
        self.looked = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(pieces in proptest::collection::vec("[a\n]{0,6}", 0..8)) {
            let (mut lines, mut whole) = (Lines::default(), Vec::new());
            for piece in &pieces {
                lines.push(piece.as_bytes());
                while let Some(line) = lines.line() {
                    whole.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            let text = pieces.concat();
            let mut expected: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
            let rest = expected.pop_if(|last| !last.ends_with('\n')).unwrap_or_default();
            prop_assert_eq!((whole, lines.rest()), (expected, rest.as_bytes()));
        }
    }
}
