//! An answer that is kept: what the client got, piece by piece, and what there is to say of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_core::Usage;
use polygate_wire::Loss;
use serde::{Deserialize, Serialize};

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What there is to say of it.
    pub(crate) head: Head,
    /// All of it.
    pub(crate) body: Bytes,
}

/// What there is to say of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The model that was asked for.
    pub asked: String,
    /// Who answered.
    pub provider: String,
    /// The model there.
    pub model: String,
    /// Headers of the answer.
    pub headers: Vec<(String, String)>,
    /// What translation lost.
    pub losses: Vec<String>,
    /// Tokens, where they were reported.
    pub usage: Option<Usage>,
    /// It is a stream.
    pub is_stream: bool,
    /// Where its pieces end.
    pub ends: Vec<usize>,
    /// When it was kept; milliseconds since 1970.
    pub since: i64,
    /// How long it is good; milliseconds.
    pub ttl: i64,
}

impl Entry {
    /// About so many bytes it keeps.
    pub(super) fn size(&self) -> usize {
        let Head {
            asked,
            provider,
            model,
            headers,
            losses,
            ends,
            ..
        } = &self.head;
        let texts = [asked, provider, model].map(String::len);
        let headers = headers.iter().map(|(name, value)| name.len() + value.len());
        let losses = losses.iter().map(String::len);
        let all = texts.into_iter().chain(headers).chain(losses);
        size_of::<Self>() + self.body.len() + size_of_val(ends.as_slice()) + all.sum::<usize>()
    }

    /// How old it is. The moment is in milliseconds since 1970.
    pub(crate) fn age(&self, now: i64) -> Duration {
        let age = now.saturating_sub(self.head.since);
        Duration::from_millis(u64::try_from(age).unwrap_or_default())
    }

    /// Whether it may still be given.
    pub(super) fn is_good(&self, now: i64) -> bool {
        now < self.head.since.saturating_add(self.head.ttl)
    }

    /// Its pieces, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let mut start = 0;
        self.head.ends.iter().map(move |end| {
            let piece = self.body.slice(start..*end);
            start = *end;
            piece
        })
    }

    /// As it is kept elsewhere: a line of JSON, then the answer.
    pub(super) fn written(&self) -> Bytes {
        let head = serde_json::to_string(&self.head).unwrap_or_default();
        [head.as_bytes(), b"\n", &self.body].concat().into()
    }

    /// What was written so. `None`: it is nothing of ours.
    pub(super) fn read(text: &Bytes) -> Option<Self> {
        let end = memchr::memchr(b'\n', text)?;
        let head: Head = serde_json::from_slice(text.get(..end)?).ok()?;
        let body = text.slice(end + 1..);
        // Pieces follow one another, up to the end.
        let is_whole = head.ends.last().copied().unwrap_or_default() == body.len();
        (is_whole && head.ends.is_sorted()).then_some(Self { head, body })
    }
}

impl Head {
    /// Its headers as an answer has them.
    pub(crate) fn headers(&self) -> HeaderMap {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            Some((name, HeaderValue::try_from(value.as_str()).ok()?))
        });
        headers.collect()
    }

    /// What translation lost.
    pub(crate) fn losses(&self) -> Vec<Loss> {
        self.losses.iter().cloned().map(Loss).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer of these pieces.
    pub(in crate::cache) fn entry(pieces: &[&str]) -> Entry {
        let mut end = 0;
        let ends = pieces.iter().map(|piece| {
            end += piece.len();
            end
        });
        Entry {
            head: Head {
                asked: "m".to_owned(),
                provider: "p".to_owned(),
                model: "m-1".to_owned(),
                headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
                losses: vec!["/seed".to_owned()],
                usage: Some(Usage {
                    input: 3,
                    output: 2,
                    ..Usage::default()
                }),
                is_stream: true,
                ends: ends.collect(),
                since: 1_000,
                ttl: 500,
            },
            body: Bytes::from(pieces.concat()),
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for pieces in [&["data: 1\n\n", "data: \u{e9}\n\n"][..], &["{}"], &[]] {
            let entry = entry(pieces);
            let text = entry.written();
            assert_eq!(Entry::read(&text).as_ref(), Some(&entry));
            let read: Vec<Bytes> = entry.pieces().collect();
            assert_eq!(read, pieces);
            for cut in 0..text.len() {
                assert_eq!(Entry::read(&text.slice(..cut)), None, "{cut}");
            }
        }
        let turned = Entry {
            head: Head {
                ends: vec![9, 3, 4],
                ..Head::default()
            },
            body: Bytes::from_static(b"1234"),
        };
        assert_eq!(Entry::read(&turned.written()), None);
    }

    #[test]
    fn an_answer_is_good_for_its_time() {
        let entry = entry(&["x"]);
        assert!(entry.is_good(1_499) && !entry.is_good(1_500));
        assert_eq!(entry.age(1_250), Duration::from_millis(250));
        // A clock that was set back.
        assert_eq!(entry.age(0), Duration::ZERO);
    }
}
