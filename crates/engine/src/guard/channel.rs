//! A text as it stands in an answer or a request: as it is, or itself JSON, of which only the strings are text.

use super::body::{is_numeric, is_whole, number};
use super::json::{HALF, Places, Unescaper, escaped};
use super::scan::{Edit, Scan};
use super::{Doings, Watch};

/// What a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    #[default]
    Plain,
    /// JSON: arguments of tools. Strings in it are text, and whole numbers, each for itself; the rest passes.
    Json,
}

/// A text that comes in pieces. Places are counted from its beginning.
#[derive(Debug, Default)]
pub struct Channel {
    kind: Kind,
    scan: Scan,
    json: Strings,
}

/// Where a text of JSON is.
#[derive(Debug, Default)]
struct Strings {
    /// How much of it has come.
    end: usize,
    is_in_string: bool,
    escape: Unescaper,
    /// Where the escape begins that is being read, and where what it is the second half of.
    escape_at: usize,
    pair_at: usize,
    places: Places,
    /// What a piece adds to its strings.
    decoded: String,
    /// What the string that is read seems to be.
    inner: Inner,
    /// The number that is read, outside of strings, which is looked at when it is all there.
    number: String,
}

/// What a string of JSON holds, as it begins.
#[derive(Clone, Copy, Debug, Default)]
enum Inner {
    #[default]
    Nothing,
    Brace,
    Bracket,
    Json,
    Text,
}

impl Inner {
    /// What it is with this behind it. A placeholder begins with a bracket too.
    fn with(self, decoded: &str) -> Self {
        let signs = decoded.chars().filter(|sign| !sign.is_ascii_whitespace());
        signs.take(2).fold(self, |inner, sign| match (inner, sign) {
            (Inner::Json | Inner::Text, _) => inner,
            (Inner::Nothing, '{') => Inner::Brace,
            (Inner::Nothing, '[') => Inner::Bracket,
            (Inner::Brace | Inner::Bracket, '"') | (Inner::Bracket, '{') => Inner::Json,
            _ => Inner::Text,
        })
    }

    /// Text as it is written into such a string.
    fn written(self, text: &str) -> String {
        let once = escaped(text);
        match self {
            Inner::Json => escaped(&once).into_owned(),
            _ => once.into_owned(),
        }
    }
}

impl Channel {
    /// A text of this kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// More of it. What is to be replaced stands in `edits`, in order.
    pub fn push(&mut self, watch: &Watch, piece: &str, doings: &mut Doings, edits: &mut Vec<Edit>) {
        match self.kind {
            Kind::Plain => self.scan.push(watch, piece, doings, edits),
            Kind::Json => self.push_json(watch, piece, doings, edits),
        }
    }

    /// It ends.
    pub fn finish(&mut self, watch: &Watch, doings: &mut Doings, edits: &mut Vec<Edit>) {
        match self.kind {
            Kind::Plain => self.scan.finish(watch, doings, edits),
            Kind::Json => {
                let end = self.json.end;
                self.json
                    .end_number(&mut self.scan, end, watch, doings, edits);
                self.json.flush(&mut self.scan, watch, doings, edits);
                self.json
                    .end_string(&mut self.scan, end, watch, doings, edits);
            }
        }
    }

    /// All of a text.
    pub fn whole(
        kind: Kind,
        scan: &mut Scan,
        watch: &Watch,
        text: &str,
        doings: &mut Doings,
    ) -> Vec<Edit> {
        match kind {
            Kind::Plain => scan.whole(watch, text, doings),
            Kind::Json => {
                let mut edits = Vec::new();
                let mut channel = Self::new(Kind::Json);
                channel.push(watch, text, doings, &mut edits);
                channel.finish(watch, doings, &mut edits);
                edits
            }
        }
    }

    /// Nothing before this place changes any more.
    pub fn decided(&self) -> usize {
        match self.kind {
            Kind::Plain => self.scan.decided(),
            Kind::Json => self.json.decided(&self.scan),
        }
    }

    fn push_json(
        &mut self,
        watch: &Watch,
        piece: &str,
        doings: &mut Doings,
        edits: &mut Vec<Edit>,
    ) {
        let (json, scan) = (&mut self.json, &mut self.scan);
        for (at, sign) in piece.char_indices() {
            let at = json.end + at;
            if json.escape.wants() {
                json.take(scan, at, sign);
                continue;
            }
            if !json.is_in_string && sign.is_ascii() && is_numeric(sign as u8) {
                json.number.push(sign);
                continue;
            }
            json.end_number(scan, at, watch, doings, edits);
            match sign {
                '"' if json.is_in_string => {
                    json.flush(scan, watch, doings, edits);
                    json.end_string(scan, at, watch, doings, edits);
                }
                '"' => {
                    json.is_in_string = true;
                    json.places.run(scan.end(), at + 1);
                }
                '\\' if json.is_in_string => {
                    json.escape_at = at;
                    if !json.escape.is_inside() {
                        json.pair_at = at;
                    }
                    json.escape.begin();
                }
                sign if json.is_in_string => {
                    if json.escape.is_inside() {
                        json.escape.end_pair(&mut json.decoded);
                        json.places.run(scan.end() + json.decoded.len(), at);
                    }
                    json.decoded.push(sign);
                }
                _ => {}
            }
        }
        json.end += piece.len();
        json.flush(scan, watch, doings, edits);
        json.places.forget(scan.decided());
    }
}

impl Strings {
    fn take(&mut self, scan: &Scan, at: usize, sign: char) {
        let before = scan.end() + self.decoded.len();
        if self.escape.take(sign, &mut self.decoded) {
            self.places.run(before + HALF, self.escape_at);
            self.pair_at = self.escape_at;
        }
        if !self.escape.is_inside() {
            let decoded = scan.end() + self.decoded.len();
            self.places.run(decoded, at + sign.len_utf8());
        }
    }

    /// What was decoded is looked through.
    fn flush(
        &mut self,
        scan: &mut Scan,
        watch: &Watch,
        doings: &mut Doings,
        edits: &mut Vec<Edit>,
    ) {
        if !self.decoded.is_empty() {
            let from = edits.len();
            self.inner = self.inner.with(&self.decoded);
            scan.push(watch, &self.decoded, doings, edits);
            self.decoded.clear();
            self.place(edits, from);
        }
    }

    fn end_string(
        &mut self,
        scan: &mut Scan,
        at: usize,
        watch: &Watch,
        doings: &mut Doings,
        edits: &mut Vec<Edit>,
    ) {
        if self.escape.is_inside() {
            self.escape.end_pair(&mut self.decoded);
            self.places.run(scan.end() + self.decoded.len(), at);
            self.escape = Unescaper::default();
            self.flush(scan, watch, doings, edits);
        }
        let from = edits.len();
        scan.finish(watch, doings, edits);
        self.place(edits, from);
        self.is_in_string = false;
        self.inner = Inner::Nothing;
    }

    /// A number has ended here, if one was read.
    fn end_number(
        &mut self,
        scan: &mut Scan,
        at: usize,
        watch: &Watch,
        doings: &mut Doings,
        edits: &mut Vec<Edit>,
    ) {
        if self.number.is_empty() {
            return;
        }
        if is_whole(self.number.as_bytes()) {
            let from = at - self.number.len();
            edits.extend(number(&self.number, from, scan, watch, doings));
        }
        self.number.clear();
    }

    /// Edits of what the strings say become such of the text that they stand in.
    fn place(&self, edits: &mut [Edit], from: usize) {
        for edit in edits.get_mut(from..).unwrap_or_default() {
            edit.range = self.places.stretch(&edit.range);
            edit.with = self.inner.written(&edit.with);
        }
    }

    fn decided(&self, scan: &Scan) -> usize {
        if !self.is_in_string {
            // A number's beginning is what may be replaced.
            self.end - self.number.len()
        } else if scan.decided() < scan.end() {
            self.places.raw(scan.decided())
        } else if self.escape.is_inside() {
            self.pair_at
        } else {
            self.end
        }
    }
}
