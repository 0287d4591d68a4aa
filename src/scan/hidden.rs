//! What encodings hide: escapes of plain characters, percent encoding, base64 of a famous key.
//!
//! Places where one of them shows come group by group, not in the order of the text, so they are collected, and opened in
//! their order once the text has been passed over. What is opened at one place counts for no other.

use std::ops::Range;

use memchr::memchr3_iter;

use super::blocks::LONGEST_KEY;
use super::engine::{MAX_DEPTH, Scan};
use super::keywords::{Probe, find_coded};
use super::text::{at, before, part, run, run_back};
use super::view::{View, base64_decoded, goes_on, is_base64, went_on};

/// What belongs to a place of an escape: what stands before it, and behind it as much as a secret may take.
const LEAD: usize = 160;
const TAIL: usize = 2 * LONGEST_KEY;
/// How near a `+` belongs to what a place says.
const MIXED: usize = 64;
/// The longest piece that is decoded at once, and how much of it is decoded again with the next: a secret of which each
/// character is an escape has its place there.
const LONGEST_PIECE: usize = 256 << 10;
const SHARED: usize = 48 << 10;
/// Base64 that is decoded before and behind a place.
const CODED_LEAD: usize = 32 << 10;
const CODED_TAIL: usize = 64 << 10;
/// At least the characters of the longest keyword in base64: lines that are shorter are none of base64.
const CODED_WORD: usize = 16;
/// The characters of base64 that a secret may take.
const CODED_SECRET: usize = 24 << 10;

/// The places of a view where an encoding shows.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    escapes: Vec<usize>,
    percents: Vec<usize>,
    /// Where a `+` stands for a space.
    forms: Vec<usize>,
    /// A keyword in base64, and how many characters of its group of four stand before it.
    coded: Vec<(usize, u8)>,
}

impl Hidden {
    /// Notes a place, unless nobody could hide anything there.
    pub(super) fn note(&mut self, text: &[u8], place: usize, probe: Probe) {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b':' | b'/');
        match probe {
            Probe::Escape if code(part(text, place + 4, place + 6)).is_some_and(is_plain) => self.escapes.push(place),
            Probe::Percent => {
                let hidden = code(part(text, place + 1, place + 3));
                let is_space = part(text, place + 1, place + 3) == b"20" && between_digits(text, place);
                if is_space || hidden.is_some_and(|byte| is_plain(byte) && !matches!(byte, b'/' | b':')) {
                    self.percents.push(place);
                }
            }
            Probe::Spaced => {
                self.percents.push(place);
                // A form may write some of its spaces so, and some as `+`.
                if part(text, place, place + MIXED).contains(&b'+') {
                    self.forms.push(place);
                }
            }
            Probe::Formed => self.forms.push(place),
            Probe::Encoded(skipped) => self.coded.push((place, skipped)),
            _ => {}
        }
    }
}

impl Scan<'_> {
    /// Notes the keywords in base64 that a line break parts; false where the scan has cost enough.
    pub(super) fn parted(&mut self, text: &[u8], depth: u8, hidden: &mut Hidden) -> bool {
        let mut done = 0;
        for place in memchr3_iter(b'\n', b'\r', b'\\', text) {
            let Some(next) = goes_on(text, place).filter(|_| place >= done && depth < MAX_DEPTH) else { continue };
            let start = run_back(text, place, CODED_WORD, is_base64);
            if place - start < CODED_WORD {
                continue;
            }
            done = run(text, next, LONGEST_PIECE, is_base64);
            while let Some(next) = goes_on(text, done).filter(|_| done - start < LONGEST_PIECE) {
                done = run(text, next, LONGEST_PIECE, is_base64);
            }
            if !self.affords((done - start) / 4) {
                return false;
            }
            let lines = View::of(part(text, start, done)).without_breaks();
            find_coded(&lines.text, |word, skipped| {
                let origin = |place: usize| lines.origin(&(place..place)).start;
                if origin(word.end - 1) - origin(word.start) >= word.len() {
                    hidden.coded.push((start + origin(word.start), skipped));
                }
            });
        }
        true
    }

    /// Scans what is hidden in a view; false where the scan has cost enough.
    pub(super) fn open(&mut self, view: &View<'_>, mut hidden: Hidden, depth: u8) -> bool {
        let text = &*view.text;
        hidden.escapes.sort_unstable();
        hidden.percents.sort_unstable();
        hidden.forms.sort_unstable();
        hidden.coded.sort_unstable();
        let escaped = pieces(text, &hidden.escapes);
        let (mut percents, mut forms) = (pieces(text, &hidden.percents), pieces(text, &hidden.forms));
        if depth + 1 < MAX_DEPTH {
            // They are opened there.
            let is_there = |piece: &Range<usize>| {
                escaped.iter().any(|around| around.start <= piece.start && piece.end <= around.end)
            };
            percents.retain(|piece| !is_there(piece));
            forms.retain(|piece| !is_there(piece));
        }
        escaped.into_iter().all(|piece| self.decoded(view, piece, |piece| piece.unescaped(), depth))
            && percents.into_iter().all(|piece| self.decoded(view, piece, |piece| piece.percent_decoded(), depth))
            && forms.into_iter().all(|piece| self.decoded(view, piece, |piece| piece.form_decoded(), depth))
            && self.open_coded(view, &hidden.coded, depth)
    }

    fn decoded(
        &mut self,
        view: &View<'_>,
        piece: Range<usize>,
        decode: fn(&View<'_>) -> View<'static>,
        depth: u8,
    ) -> bool {
        let affords = self.affords(2 * piece.len());
        if affords {
            self.over(&decode(&view.window(piece)), depth + 1);
        }
        affords
    }

    /// Opens the runs of base64 around places, which are in order.
    fn open_coded(&mut self, view: &View<'_>, mut places: &[(usize, u8)], depth: u8) -> bool {
        let text = &*view.text;
        let mut done = 0;
        while let Some((place, _)) = places.first() {
            let run =
                run_back(text, *place, place - done.min(*place), is_base64)..run(text, *place, usize::MAX, is_base64);
            let (here, behind) = places.split_at(places.partition_point(|(place, _)| *place < run.end));
            // In JSON a `/` may be written as an escape; anywhere base64 may stand in lines.
            let escapes = |place: usize| matches!(at(text, place), b'/' | b'u' | b'\\');
            let broken = (before(text, run.start) == b'\\' && escapes(run.start))
                || (at(text, run.end) == b'\\' && escapes(run.end + 1))
                || went_on(text, run.start)
                || goes_on(text, run.end).is_some();
            if broken && depth + 1 < MAX_DEPTH {
                let (start, _) = even(text, place.saturating_sub(CODED_LEAD));
                let piece = start..place.saturating_add(2 * CODED_TAIL).min(text.len());
                if !self.affords(piece.len() + run.len() / 16) {
                    return false;
                }
                let plain = view.window(piece).unescaped().without_breaks();
                let (near, behind) = places.split_at(places.partition_point(|(other, _)| *other < place + CODED_TAIL));
                let inside = near.iter().map(|(place, skipped)| (view.index_in(&plain, *place), *skipped));
                if !self.open_coded(&plain, &inside.collect::<Vec<_>>(), depth + 1) {
                    return false;
                }
                places = behind;
                continue;
            }
            if !(0..4).all(|group| self.open_run(view, &run, here, group, depth)) {
                return false;
            }
            (done, places) = (run.end, behind);
        }
        true
    }

    /// Opens a run of base64 around those of its keywords whose groups of four begin at the same places.
    fn open_run(
        &mut self,
        view: &View<'_>,
        run: &Range<usize>,
        places: &[(usize, u8)],
        group: usize,
        depth: u8,
    ) -> bool {
        let of_group = |(place, skipped): &&(usize, u8)| (place + 4 - usize::from(*skipped)) % 4 == group;
        let mut block: Option<Block> = None;
        for (place, _) in places.iter().filter(of_group) {
            let fits = |block: &&mut Block| block.range.end == run.end || place + CODED_SECRET <= block.range.end;
            let known = match block.as_mut().filter(fits) {
                Some(known) => known,
                None => {
                    let opened = block.as_ref().map_or(run.start, |block| block.opened.saturating_sub(CODED_SECRET));
                    let start = place.saturating_sub(CODED_LEAD).max(run.start).max(opened);
                    let range = start + (group + 4 - start % 4) % 4..place.saturating_add(CODED_TAIL).min(run.end);
                    if !self.affords(range.len()) {
                        return false;
                    }
                    block.insert(Block::of(&view.text, range))
                }
            };
            let Some(stretch) = known.stretch(*place) else { continue };
            let content = part(&known.bytes, stretch.start, stretch.end);
            if !self.affords(content.len()) {
                return false;
            }
            let inside = view.within(content, &whole(&view.text, run, &known.range));
            self.over(&inside, depth + 1);
        }
        true
    }
}

/// A piece of a run of base64, decoded.
struct Block {
    range: Range<usize>,
    bytes: Vec<u8>,
    /// Whether all of it is text.
    is_text: bool,
    /// Up to which character it was scanned.
    opened: usize,
}

impl Block {
    fn of(text: &[u8], range: Range<usize>) -> Self {
        let bytes = base64_decoded(part(text, range.start, range.end));
        let is_text = !bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok();
        Self { opened: range.start, range, bytes, is_text }
    }

    /// The text around what a character encodes, unless it was scanned. In what is no text, an image with words in it, that
    /// is what stands there between two bytes that no text has.
    fn stretch(&mut self, place: usize) -> Option<Range<usize>> {
        if place < self.opened {
            return None;
        }
        let is_text = self.is_text;
        let has = |byte: u8| is_text || (byte >= b' ' && byte != 0x7f) || matches!(byte, b'\t' | b'\n' | b'\r');
        let byte = (place - self.range.start) * 3 / 4;
        let stretch = run_back(&self.bytes, byte, usize::MAX, has)..run(&self.bytes, byte, usize::MAX, has);
        self.opened = self.range.start + stretch.end * 4 / 3;
        Some(stretch)
    }
}

/// The part of a text that a block is, with the padding at its end, and without the letter of an escape before it.
fn whole(text: &[u8], run: &Range<usize>, block: &Range<usize>) -> Range<usize> {
    let (even, _) = even(text, run.start);
    let escape = match at(text, run.start) {
        _ if even == run.start => 0,
        b'u' => 5,
        _ => 1,
    };
    let end = if block.end == run.end { self::run(text, run.end, 2, |byte| byte == b'=') } else { block.end };
    block.start.max(run.start + escape).min(end)..end
}

/// The pieces of a text that places lie in: one where they are close, so that what belongs together is in one.
fn pieces(text: &[u8], places: &[usize]) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for place in places {
        let (start, _) = even(text, place.saturating_sub(LEAD));
        let end = place.saturating_add(TAIL).min(text.len());
        match pieces.last_mut() {
            Some(last) if start <= last.end && end - last.start <= LONGEST_PIECE => last.end = end,
            Some(last) if start <= last.end => {
                let (start, _) = even(text, last.end.saturating_sub(SHARED));
                pieces.push(start..end);
            }
            _ => pieces.push(start..end),
        }
    }
    pieces
}

/// The place, or the one before it where that would lie within an escape; and how many backslashes were looked at.
pub(super) fn even(text: &[u8], place: usize) -> (usize, usize) {
    let backslashes = place - run_back(text, place, usize::MAX, |byte| byte == b'\\');
    (place - backslashes % 2, backslashes)
}

/// Whether what is percent-encoded here stands between digits: `4111%201111`.
fn between_digits(text: &[u8], place: usize) -> bool {
    before(text, place).is_ascii_digit() && at(text, place + 3).is_ascii_digit()
}

/// The ASCII character of two hexadecimal digits.
fn code(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 16).ok().filter(|byte| byte.is_ascii_graphic())
}
