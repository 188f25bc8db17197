//! HTTP/2 frames that cost their sender nothing and us an answer or a look: so many in a while, and no more. What else floods (resets,
//! endless heads, empty data) the HTTP/2 library counts itself.

use std::time::Duration;

use tokio::time::Instant;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, kind, flags and stream.
const HEAD: usize = 9;

/// How many may come at once, and how soon there is room for one more. Clients that measure their line send a few pings a second.
const BURST: u32 = 1000;
const EVERY: Duration = Duration::from_millis(10);

const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const LAST_KNOWN: u8 = 9;

/// What a client sends, frame by frame.
#[derive(Debug)]
pub struct Frames {
    at: At,
    /// When as many may come as ever may.
    full: Instant,
}

#[derive(Debug)]
enum At {
    /// So far it may be HTTP/2.
    Preface(usize),
    /// It is not.
    Elsewhere,
    /// In a frame's head.
    Head([u8; HEAD], usize),
    /// So much of its payload is still to come.
    Payload(usize),
}

impl Frames {
    /// Nothing has come.
    pub fn new() -> Self {
        Self {
            at: At::Preface(0),
            full: Instant::now(),
        }
    }

    /// Takes note of what came; whether that is bearable.
    pub fn heard(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(first) = bytes.first() {
            match &mut self.at {
                At::Elsewhere => return true,
                At::Preface(known) if PREFACE.get(*known) != Some(first) => {
                    self.at = At::Elsewhere;
                }
                At::Preface(known) => {
                    *known += 1;
                    if *known == PREFACE.len() {
                        self.at = At::Head([0; HEAD], 0);
                    }
                    bytes = bytes.get(1..).unwrap_or_default();
                }
                At::Payload(0) => self.at = At::Head([0; HEAD], 0),
                At::Payload(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
                At::Head(head, known) => {
                    if let Some(place) = head.get_mut(*known) {
                        *place = *first;
                    }
                    *known += 1;
                    bytes = bytes.get(1..).unwrap_or_default();
                    if *known == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        self.at = At::Payload(u32::from_be_bytes([0, a, b, c]) as usize);
                        if !self.bears(kind) {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }

    fn bears(&mut self, kind: u8) -> bool {
        if !matches!(kind, PRIORITY | SETTINGS | PING) && kind <= LAST_KNOWN {
            return true;
        }
        let now = Instant::now();
        self.full = self.full.max(now) + EVERY;
        self.full <= now + EVERY * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD + usize::from(length), 7);
        frame
    }

    /// How many of these frames are borne, sent in pieces of so many bytes.
    fn borne(frames: &mut Frames, frame: &[u8], piece: usize) -> usize {
        let all = frame.repeat(3000);
        let mut sent = 0;
        for piece in all.chunks(piece) {
            if !frames.heard(piece) {
                break;
            }
            sent += piece.len();
        }
        sent / frame.len()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_for_nothing_are_borne_up_to_a_number() {
        for kind in [PRIORITY, SETTINGS, PING, 200] {
            for piece in [1, 7, 17] {
                let mut frames = Frames::new();
                assert!(frames.heard(PREFACE));
                let frame = frame(kind, 8);
                assert_eq!(borne(&mut frames, &frame, piece), BURST as usize);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_a_measured_pace_are_borne_for_ever() {
        let mut frames = Frames::new();
        assert!(frames.heard(PREFACE));
        for _ in 0..10_000 {
            assert!(frames.heard(&frame(PING, 8)));
            tokio::time::advance(EVERY).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn data_and_other_protocols_are_nobodys_business() {
        let mut frames = Frames::new();
        assert!(frames.heard(PREFACE));
        // Payloads that look like pings are none.
        let data = [frame(0, 200), frame(8, 4)].concat();
        assert_eq!(borne(&mut frames, &data, 100), 3000);
        let mut frames = Frames::new();
        assert!(frames.heard(b"POST / HTTP/1.1\r\n\r\n"));
        assert_eq!(borne(&mut frames, &frame(PING, 8), 17), 3000);
    }
}
