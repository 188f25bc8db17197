//! Ways of cutting a stream's bytes, and a generator with a fixed seed.

/// Streams up to this size are cut at every byte, longer ones at some.
const CUT_EVERYWHERE: usize = 4096;

/// One byte at a time; cut once everywhere, or where a generator with a fixed seed says.
pub fn cuts(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![bytes.chunks(1).collect::<Vec<_>>()];
    if bytes.len() <= CUT_EVERYWHERE {
        all.extend((0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]));
        return all;
    }
    let mut random = Random::default();
    for _ in 0..100 {
        let (mut rest, mut pieces) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + random.below(700)));
            pieces.push(piece);
            rest = after;
        }
        all.push(pieces);
    }
    all
}

/// A generator with a fixed seed.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}
