//! Pieces that arrive, as a stream for a thread that may block.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};

/// `next` gives a piece, `Some(None)` at the end of the stream, and `None` when the rest will not come: what is left in the
/// middle has not ended.
pub struct Pieces<F> {
    next: F,
    piece: Bytes,
    ended: bool,
}

impl<F: FnMut() -> Option<Option<Bytes>>> Pieces<F> {
    pub fn new(next: F) -> Self {
        Self { next, piece: Bytes::new(), ended: false }
    }
}

impl<F: FnMut() -> Option<Option<Bytes>>> BufRead for Pieces<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match (self.next)() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => return Err(io::Error::other(crate::call::aborted())),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, n: usize) {
        self.piece.advance(n);
    }
}

impl<F: FnMut() -> Option<Option<Bytes>>> Read for Pieces<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = piece.len().min(into.len());
        into[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}
