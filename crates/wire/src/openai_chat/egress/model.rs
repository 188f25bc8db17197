//! What OpenAI's models take, as their names tell: sampling and effort are refused by model, in Chat and in Responses alike.

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// It thinks, and takes an effort.
    pub effort: bool,
    /// It takes temperature, `top_p` and penalties.
    pub sampling: bool,
}

/// Beginnings of names of OpenAI's models that think: they take effort, and no sampling but the defaults.
const THINKERS: [&str; 8] = [
    "o1",
    "o3",
    "o4",
    "gpt-5",
    "gpt-6",
    "codex-",
    "computer-use",
    "gpt-oss",
];

/// Beginnings of names of OpenAI's models that do not think.
const TALKERS: [&str; 5] = ["gpt-3", "gpt-4", "chatgpt-", "gpt-5-chat", "davinci"];

/// Models of others that take an effort through this format: their cousins refuse it (`grok-4`, `grok-4-fast`, `grok-4.20`), or
/// know other words (`qwen3-32b`).
const OTHERS: [&str; 10] = [
    "grok-3-mini",
    "grok-4.3",
    "grok-4.5",
    "grok-4.6",
    "grok-4.7",
    "gemini-2.5",
    "gemini-3",
    "qwen3.",
    "deepseek-v3",
    "glm-4",
];

impl Model {
    /// The model of this name. Others' models take sampling, and an effort where they are known to.
    pub(crate) fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let bare = name.rsplit('/').next().unwrap_or(&name);
        let begins = |list: &[&str]| list.iter().any(|beginning| bare.starts_with(beginning));
        if begins(&TALKERS) {
            return Self {
                effort: false,
                sampling: true,
            };
        }
        let thinks = begins(&THINKERS);
        let is_open = bare.starts_with("gpt-oss");
        Self {
            effort: thinks || begins(&OTHERS),
            sampling: !thinks || is_open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_taken() {
        for (name, effort, sampling) in [
            ("gpt-4o-mini", false, true),
            ("gpt-5.1", true, false),
            ("gpt-5-chat-latest", false, true),
            ("openai/o3-mini", true, false),
            ("openai/gpt-oss-120b", true, true),
            ("llama-3.3-70b", false, true),
            ("grok-4-fast", false, true),
            ("grok-4.5", true, true),
            ("Qwen/Qwen3.5-9B", true, true),
            ("qwen/qwen3-32b", false, true),
        ] {
            assert_eq!(Model::named(name), Model { effort, sampling }, "{name}");
        }
    }
}
