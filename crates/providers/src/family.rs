//! What is known of models' ways to count tokens: how theirs differ from the vocabulary that is here, and what stands around texts.

/// Models that count alike.
#[derive(Debug)]
pub struct Family {
    /// What their names have in them, in lower case, at the beginning of a word.
    pub names: &'static [&'static str],
    /// Thousandths of a token of theirs for one of the vocabulary.
    pub text: u64,
    /// The same in what describes tools, which some write in fewer words than the caller did.
    pub tools: u64,
    /// Tokens around each message.
    pub message: u64,
    /// Tokens around each tool.
    pub tool: u64,
    /// Tokens of every prompt: what a template puts before it.
    pub prompt: u64,
    /// Tokens of a prompt with tools: what explains them to the model.
    pub toolbox: u64,
    /// Tokens that end an answer.
    pub answer: u64,
    /// Tokens around a call of a tool that the model makes.
    pub call: u64,
    /// How pictures count.
    pub pictures: Pictures,
}

/// How a family of models counts pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// OpenAI: made to fit into 2048 × 2048 and 768 at the short side, then so much, and so much a tile of 512 × 512.
    Tiles {
        /// Once; all that a picture of low detail costs.
        base: u64,
        /// Each tile.
        tile: u64,
    },
    /// OpenAI's small models: thousandths of a token for a patch of 32 × 32, of which there are 1536 at most.
    Patches(u64),
    /// Anthropic and others: 750 dots a token, made to fit.
    Area {
        /// The longest side.
        side: u64,
        /// The most tokens.
        most: u64,
    },
    /// Gemini: 258 for a small picture, and a tile of a larger one.
    Crops,
    /// So much for whatever picture.
    Flat(u64),
}

/// Claude, and whoever publishes nothing: the size decides.
const AREA: Pictures = Pictures::Area {
    side: 1568,
    most: 1600,
};

/// Whoever is not below.
const OTHER: Family = Family {
    names: &[""],
    text: 1000,
    tools: 1000,
    message: 4,
    tool: 10,
    prompt: 4,
    toolbox: 50,
    answer: 1,
    call: 8,
    pictures: AREA,
};

const OPENAI: Family = Family {
    names: &["gpt", "chatgpt", "codex", "o1", "o3", "o4"],
    text: 1000,
    tools: 700,
    message: 4,
    tool: 0,
    prompt: 3,
    toolbox: 10,
    answer: 1,
    call: 6,
    pictures: Pictures::Tiles {
        base: 85,
        tile: 170,
    },
};

const GEMINI: Family = Family {
    names: &["gemini"],
    text: 1000,
    tools: 850,
    message: 1,
    tool: 10,
    prompt: 0,
    toolbox: 0,
    answer: 1,
    call: 0,
    pictures: Pictures::Crops,
};

const fn openai(names: &'static [&'static str], pictures: Pictures) -> Family {
    Family {
        names,
        pictures,
        ..OPENAI
    }
}

/// The first whose name fits; the last fits all.
///
/// The numbers of texts, messages and tools are fitted to the usage that providers reported in recorded traffic of August 2026 (3,000
/// exchanges; `engine/tests/token_counts.rs` says how far they are from it), the least sum of relative errors. Those of pictures are the
/// vendors' published ones of the same month.
pub const FAMILIES: &[Family] = &[
    Family {
        names: &["gpt-oss"],
        tools: 1000,
        message: 6,
        tool: 8,
        prompt: 62,
        toolbox: 0,
        answer: 4,
        call: 7,
        ..OPENAI
    },
    openai(
        &["gpt-4o-mini"],
        Pictures::Tiles {
            base: 2833,
            tile: 5667,
        },
    ),
    openai(&["gpt-4.1-mini", "gpt-5-mini"], Pictures::Patches(1620)),
    openai(&["gpt-4.1-nano", "gpt-5-nano"], Pictures::Patches(2460)),
    openai(&["o4-mini"], Pictures::Patches(1720)),
    Family {
        answer: 4,
        ..openai(
            &["gpt-5"],
            Pictures::Tiles {
                base: 70,
                tile: 140,
            },
        )
    },
    openai(
        &["o1", "o3"],
        Pictures::Tiles {
            base: 75,
            tile: 150,
        },
    ),
    OPENAI,
    Family {
        // They have a vocabulary of their own since Opus 4.7.
        names: &[
            "claude-opus-4-7",
            "claude-opus-4.7",
            "claude-opus-4-8",
            "claude-opus-4.8",
            "claude-opus-5",
            "claude-sonnet-5",
        ],
        text: 1370,
        tools: 1370,
        message: 2,
        tool: 14,
        prompt: 5,
        toolbox: 366,
        answer: 3,
        call: 25,
        pictures: AREA,
    },
    Family {
        names: &["claude"],
        text: 1090,
        tools: 1090,
        message: 2,
        tool: 15,
        prompt: 5,
        toolbox: 490,
        answer: 3,
        call: 40,
        pictures: AREA,
    },
    Family {
        names: &["gemini-3"],
        pictures: Pictures::Flat(1120),
        ..GEMINI
    },
    GEMINI,
    Family {
        names: &["gemma"],
        text: 1100,
        tools: 1100,
        prompt: 8,
        toolbox: 0,
        answer: 1,
        call: 4,
        pictures: Pictures::Flat(256),
        ..OTHER
    },
    Family {
        names: &["deepseek"],
        text: 1100,
        tools: 1100,
        message: 0,
        tool: 15,
        prompt: 3,
        toolbox: 200,
        answer: 1,
        call: 22,
        ..OTHER
    },
    Family {
        names: &[
            "mistral",
            "ministral",
            "mixtral",
            "magistral",
            "codestral",
            "devstral",
            "pixtral",
            "voxtral",
        ],
        text: 1020,
        tools: 1020,
        message: 3,
        tool: 21,
        prompt: 0,
        toolbox: 4,
        answer: 1,
        call: 4,
        ..OTHER
    },
    Family {
        names: &["qwen", "qwen2", "qwen3", "qwq"],
        message: 5,
        tool: 14,
        toolbox: 90,
        answer: 1,
        call: 14,
        ..OTHER
    },
    Family {
        names: &["grok"],
        tool: 9,
        toolbox: 170,
        ..OTHER
    },
    Family {
        names: &["glm"],
        message: 3,
        tool: 9,
        prompt: 10,
        toolbox: 95,
        ..OTHER
    },
    Family {
        names: &["llama"],
        message: 8,
        prompt: 25,
        ..OTHER
    },
    OTHER,
];

/// Who counts like this model.
pub fn of(model: &str) -> &'static Family {
    let model = model.to_ascii_lowercase();
    let mut families = FAMILIES.iter();
    let named = families.find(|family| family.names.iter().any(|name| has(&model, name)));
    named.unwrap_or(&OTHER)
}

/// Whether a word of the model's name begins so.
fn has(model: &str, name: &str) -> bool {
    let is_inside = |at: usize| {
        model
            .as_bytes()
            .get(at)
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    model
        .match_indices(name)
        .any(|(at, _)| at.checked_sub(1).is_none_or(|before| !is_inside(before)))
}

impl Family {
    /// Its name: the first of its models'.
    pub fn name(&self) -> &'static str {
        self.names
            .first()
            .copied()
            .filter(|name| !name.is_empty())
            .unwrap_or("other")
    }

    /// Tokens of theirs for so many of the vocabulary.
    pub fn text(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.text) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_wherever_they_run() {
        for (model, family) in [
            ("gpt-4o-2024-08-06", "gpt"),
            ("openai/gpt-4o-mini", "gpt-4o-mini"),
            ("openai/gpt-oss-120b", "gpt-oss"),
            ("us.anthropic.claude-sonnet-4-6-v1:0", "claude"),
            ("anthropic/claude-opus-4.7", "claude-opus-4-7"),
            ("models/gemini-3-pro", "gemini-3"),
            ("Qwen/Qwen3.5-9B", "qwen"),
            ("meta-llama/Llama-3.3-70B", "llama"),
            ("o3-mini", "o1"),
            ("my-foo3", "other"),
            ("", "other"),
        ] {
            assert_eq!(of(model).name(), family, "{model}");
        }
    }
}
