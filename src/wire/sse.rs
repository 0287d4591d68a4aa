//! Server-sent events, read piece by piece (WHATWG HTML, section 9.2.6). No I/O.
//!
//! Pieces may be cut anywhere, inside a line ending or a character too: what comes out depends only on the bytes.

use bytes::Bytes;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field; empty stands for `message`.
    pub kind: String,
    /// The `data:` lines, joined by line feeds.
    pub data: Bytes,
    /// The last `id:` field seen on the stream so far.
    pub id: Option<String>,
}

/// An event or a line is larger than the reader's cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {0} bytes")]
pub struct TooLarge(pub usize);

/// Bytes of a field that is no data.
const MAX_FIELD: usize = 1024;

/// Turns pieces of a stream into events.
#[derive(Debug)]
pub struct SseReader {
    line: Vec<u8>,
    data: Vec<u8>,
    kind: String,
    id: Option<String>,
    retry: Option<u64>,
    /// A `data:` field has been seen since the last blank line.
    has_data: bool,
    /// The last byte was CR, so an LF that follows ends the same line.
    after_cr: bool,
    first_line: bool,
    cap: usize,
}

impl SseReader {
    /// A reader that holds at most about `cap` bytes of one event.
    #[must_use]
    pub const fn new(cap: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            kind: String::new(),
            id: None,
            retry: None,
            has_data: false,
            after_cr: false,
            first_line: true,
            cap,
        }
    }

    /// Reads a piece; complete events are appended to `events`. What follows the last blank line waits for more.
    ///
    /// # Errors
    /// Where a line or an event grows over the cap; the stream is then of no use any more.
    pub fn push(&mut self, mut piece: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        if self.after_cr && !piece.is_empty() {
            self.after_cr = false;
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', piece) {
            let (line, rest) = piece.split_at(end);
            if self.line.is_empty() {
                self.end_line(line, events)?;
            } else {
                self.grow(line)?;
                let whole = std::mem::take(&mut self.line);
                self.end_line(&whole, events)?;
            }
            piece = match rest {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, after @ ..] => after,
                [] => &[],
            };
        }
        self.grow(piece)
    }

    /// Bytes of an event that is not complete yet.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The last event id that the stream named: where to go on from.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| !id.is_empty())
    }

    /// The milliseconds after which the stream wants to be opened again.
    #[must_use]
    pub const fn retry(&self) -> Option<u64> {
        self.retry
    }

    fn grow(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + piece.len() > self.cap {
            return Err(TooLarge(self.cap));
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn end_line(&mut self, mut line: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return Ok(()),
            Some(at) => {
                let value = line.get(at + 1..).unwrap_or_default();
                (line.get(..at).unwrap_or_default(), value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.data.len() + value.len() > self.cap {
                    return Err(TooLarge(self.cap));
                }
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => self.kind = text(value),
            // Half an id would name another place of the stream.
            b"id" if !value.contains(&0) => self.id = Some(value).filter(|id| id.len() <= MAX_FIELD).map(text),
            b"retry" => self.retry = text(value).parse().ok().or(self.retry),
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let kind = std::mem::take(&mut self.kind);
        if std::mem::take(&mut self.has_data) {
            events.push(Event { kind, data: Bytes::from(std::mem::take(&mut self.data)), id: self.id.clone() });
        }
    }
}

/// A short field's text; what is not UTF-8 is replaced, as the specification says.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..MAX_FIELD).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut reader = SseReader::new(1 << 16);
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut events).unwrap();
        }
        events.into_iter().map(|e| (e.kind, String::from_utf8(e.data.to_vec()).unwrap())).collect()
    }

    fn pair(kind: &str, data: &str) -> (String, String) {
        (kind.into(), data.into())
    }

    const STREAM: &str = "\u{feff}: hello\r\nid: 7\rretry: 3000\n\nevent: message\r\ndata: {\"a\":\r\ndata:\t1}\r\n\r\ndata\n\ndata: z\u{e9}\r\rdata: lost";

    #[test]
    fn every_line_ending_comment_and_field_is_read() {
        let expected = vec![pair("message", "{\"a\":\n\t1}"), pair("", ""), pair("", "z\u{e9}")];
        assert_eq!(read(&[STREAM.as_bytes()]), expected);
    }

    #[test]
    fn cuts_at_every_byte_change_nothing() {
        let whole = read(&[STREAM.as_bytes()]);
        for cut in 0..=STREAM.len() {
            let (a, b) = STREAM.as_bytes().split_at(cut);
            assert_eq!(read(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), whole);
    }

    #[test]
    fn a_stream_says_where_and_when_to_go_on() {
        let mut reader = SseReader::new(100);
        reader.push(b"id: 7\nretry: 500\ndata:\n\nretry: soon\n", &mut Vec::new()).unwrap();
        assert_eq!((reader.last_id(), reader.retry()), (Some("7"), Some(500)));
        let mut reader = SseReader::new(1 << 16);
        for (length, known) in [(1024, true), (1025, false)] {
            let id = "x".repeat(length);
            reader.push(format!("id: {id}\ndata:\n\n").as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(reader.last_id(), Some(&*id).filter(|_| known), "{length}");
        }
    }

    #[test]
    fn a_line_and_an_event_have_a_cap() {
        let mut events = Vec::new();
        let mut reader = SseReader::new(100);
        assert_eq!(reader.push(&[b'x'; 200], &mut events), Err(TooLarge(100)));
        let mut reader = SseReader::new(100);
        let line = format!("data: {}\n", "x".repeat(60));
        reader.push(line.as_bytes(), &mut events).unwrap();
        assert_eq!(reader.push(line.as_bytes(), &mut events), Err(TooLarge(100)));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_events(
            parts in prop::collection::vec("(data|event|id|x)?:? ?[a-z\u{e9}:]{0,4}(\r|\n|\r\n){0,3}", 0..12),
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let stream = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[stream.as_bytes()]));
        }
    }
}
