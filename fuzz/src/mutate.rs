//! Changes that keep JSON what it is: most changed bytes are refused at the first check, a changed member reaches what is behind it.

use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// Names of members and values of the dictionary.
static WORDS: LazyLock<(Vec<String>, Vec<String>)> = LazyLock::new(|| {
    let lines = include_str!("../json.dict").lines();
    let texts: Vec<String> = lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let word = |text: &str| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let names = texts
        .iter()
        .filter_map(|text| word(text.strip_suffix(':')?));
    (
        names.collect(),
        texts.iter().filter_map(|text| word(text)).collect(),
    )
});

/// Changes a body behind so many leading bytes.
pub fn body(data: &mut [u8], size: usize, max: usize, seed: u32, leading: usize) -> usize {
    let mut random = Random::new(seed);
    if random.below(4) == 0 || size <= leading {
        return fuzzer_mutate(data, size, max);
    }
    let (first, rest) = data.split_at_mut(leading);
    let Ok(mut value) = serde_json::from_slice(&rest[..size - leading]) else {
        return fuzzer_mutate(data, size, max);
    };
    first[0] = random.flag(first[0]);
    random.change(&mut value);
    put(data, leading, value.to_string().as_bytes(), max, size)
}

/// Changes a frame of a stream behind so many leading bytes.
pub fn stream(data: &mut [u8], size: usize, max: usize, seed: u32, leading: usize) -> usize {
    let mut random = Random::new(seed);
    if random.below(4) == 0 || size <= leading {
        return fuzzer_mutate(data, size, max);
    }
    let Ok(text) = std::str::from_utf8(&data[leading..size]) else {
        return fuzzer_mutate(data, size, max);
    };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let at = random.below(lines.len());
    let other = random.below(lines.len());
    let json = lines[at].strip_prefix("data:").map(str::trim);
    match json.and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        Some(mut value) if random.below(4) != 0 => {
            random.change(&mut value);
            lines[at] = format!("data: {value}\n");
        }
        _ => match random.below(4) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(other, lines[at].clone()),
            2 => lines.swap(at, other),
            _ => lines.truncate(at),
        },
    }
    let place = random.below(leading.max(1));
    if let Some(byte) = data.get_mut(place).filter(|_| leading > 0) {
        *byte = random.flag(*byte);
    }
    put(data, leading, lines.concat().as_bytes(), max, size)
}

/// The new bytes, where they have room.
fn put(data: &mut [u8], leading: usize, new: &[u8], max: usize, size: usize) -> usize {
    match data.get_mut(leading..leading + new.len()) {
        Some(room) if leading + new.len() <= max => {
            room.copy_from_slice(new);
            leading + new.len()
        }
        _ => size,
    }
}

struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % limit.max(1) as u64) as usize
    }

    /// A leading byte: mostly as it is.
    fn flag(&mut self, byte: u8) -> u8 {
        match self.below(8) {
            0 => (byte & 0xc0) | self.below(5) as u8,
            1 => byte ^ (0x40 << self.below(2)),
            _ => byte,
        }
    }

    fn word(&mut self, words: &[String]) -> String {
        words
            .get(self.below(words.len()))
            .cloned()
            .unwrap_or_default()
    }

    fn leaf(&mut self) -> Value {
        match self.below(16) {
            0 => Value::Null,
            1 => true.into(),
            2 => false.into(),
            3 => 0.into(),
            4 => json!(-1),
            5 => json!(0.5),
            6 => json!(u64::MAX),
            7 => json!(1e300),
            8 => json!({}),
            9 => json!([]),
            10 => "".into(),
            11 => "a\u{0}\n\u{2028}😀\"\\~/".into(),
            12 => "{\"a\":1".into(),
            _ => self.word(&WORDS.1).into(),
        }
    }

    /// Changes one to three places of a tree.
    fn change(&mut self, root: &mut Value) {
        for _ in 0..=self.below(3) {
            let spare = self.pick(root).clone();
            let node = self.pick(root);
            match self.below(6) {
                0 => *node = self.leaf(),
                1 if json_len(&spare) < 4096 => *node = spare,
                2 => *node = json!([node.take()]),
                _ => self.inside(node, spare),
            }
        }
    }

    fn inside(&mut self, node: &mut Value, spare: Value) {
        match node {
            Value::Object(members) => {
                let known: Vec<String> = members.keys().cloned().collect();
                let one = self.word(&known);
                match self.below(4) {
                    0 => drop(members.shift_remove(&one)),
                    1 => {
                        let value = members.shift_remove(&one).unwrap_or_default();
                        members.insert(self.word(&WORDS.0), value);
                    }
                    2 => drop(members.insert(self.word(&WORDS.0), spare)),
                    _ => drop(members.insert(self.word(&WORDS.0), self.leaf())),
                }
            }
            Value::Array(items) => {
                let at = self.below(items.len());
                match self.below(4) {
                    0 if !items.is_empty() => drop(items.remove(at)),
                    1 if !items.is_empty() => items.push(items[at].clone()),
                    2 if !items.is_empty() => items.swap(0, at),
                    _ => items.insert(at, spare),
                }
            }
            Value::String(text) => match self.below(3) {
                0 => text.clear(),
                1 => text.push_str(&self.word(&WORDS.1)),
                _ => *node = self.leaf(),
            },
            other => *other = self.leaf(),
        }
    }

    /// Some node, deep ones as likely as those near the root.
    fn pick<'a>(&mut self, root: &'a mut Value) -> &'a mut Value {
        let mut node = root;
        loop {
            let count = match node {
                Value::Array(items) => items.len(),
                Value::Object(members) => members.len(),
                _ => 0,
            };
            if count == 0 || self.below(5) == 0 {
                return node;
            }
            let at = self.below(count);
            node = match node {
                Value::Array(items) => &mut items[at],
                Value::Object(members) => members.values_mut().nth(at).expect("counted"),
                _ => unreachable!("nothing is in it"),
            };
        }
    }
}

fn json_len(value: &Value) -> usize {
    value.to_string().len()
}
