//! What a model takes, as its name tells: Anthropic refuses members by model.

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// How it is told to think.
    pub thoughts: Thoughts,
    /// Which sampling members it takes.
    pub sampling: Takes,
    /// It keeps to a schema by itself (`output_config.format`).
    pub schemas: bool,
    /// It takes instructions within the conversation.
    pub instructions: bool,
    /// It goes on with a last message of its own.
    pub prefill: bool,
    /// The limit where the client gave none: Anthropic demands one.
    pub max_tokens: u64,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thoughts {
    /// It cannot.
    None,
    /// With a budget of tokens.
    Budget,
    /// With an effort; it decides by itself.
    Adaptive,
}

/// Which sampling members a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `temperature`, `top_p` and `top_k`.
    All,
    /// Not `temperature` and `top_p` together.
    Either,
    /// None but the defaults.
    Nothing,
}

/// Names of the time before thinking, with the least output.
const OLD: [&str; 5] = [
    "claude-3-haiku",
    "claude-3-sonnet",
    "claude-3-opus",
    "claude-2",
    "claude-instant",
];

/// Families whose names carry their version.
const FAMILIES: [&str; 5] = ["opus-", "sonnet-", "haiku-", "fable-", "mythos-"];

/// Models since this version take effort, not budgets, and no sampling.
const ADAPTIVE_SINCE: (u32, u32) = (4, 7);

/// Models since this version take instructions within the conversation.
const INSTRUCTIONS_SINCE: (u32, u32) = (4, 8);

/// Models since this version take no message of their own as the last one.
const NO_PREFILL_SINCE: (u32, u32) = (4, 6);

/// Models since this version keep to schemas.
const SCHEMAS_SINCE: (u32, u32) = (4, 1);

/// Models since this version take temperature or `top_p`.
const EITHER_SINCE: (u32, u32) = (4, 5);

impl Model {
    /// The model of this name. Names that tell nothing take what most do.
    pub(crate) fn named(name: &str) -> Self {
        if OLD.iter().any(|old| name.contains(old)) {
            return Self {
                thoughts: Thoughts::None,
                sampling: Takes::All,
                schemas: false,
                instructions: false,
                prefill: true,
                max_tokens: 4096,
            };
        }
        let version = version(name);
        let is_third = name.contains("claude-3");
        let (thoughts, sampling) = match version {
            Some(version) if version >= ADAPTIVE_SINCE => (Thoughts::Adaptive, Takes::Nothing),
            Some(version) if version < EITHER_SINCE => (Thoughts::Budget, Takes::All),
            _ if is_third && !name.contains("claude-3-7") => (Thoughts::None, Takes::All),
            _ if is_third => (Thoughts::Budget, Takes::All),
            _ => (Thoughts::Budget, Takes::Either),
        };
        Self {
            thoughts,
            sampling,
            schemas: version.map_or(!is_third, |version| version >= SCHEMAS_SINCE),
            instructions: version.is_some_and(|version| version >= INSTRUCTIONS_SINCE),
            prefill: version.is_none_or(|version| version < NO_PREFILL_SINCE),
            max_tokens: 8192,
        }
    }
}

/// `claude-opus-4-7`, `claude-sonnet-5`, `anthropic.claude-sonnet-4-20250514-v1:0` → 4.7, 5.0, 4.0.
fn version(name: &str) -> Option<(u32, u32)> {
    let (_, rest) = FAMILIES.iter().find_map(|family| name.split_once(family))?;
    let mut numbers = rest.split(['-', '.', '@', ':']).map(str::parse::<u32>);
    let major = numbers.next()?.ok().filter(|major| *major < 100)?;
    // A date is no minor version.
    let minor = numbers.next().and_then(Result::ok);
    Some((major, minor.filter(|minor| *minor < 100).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (model, expected) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-opus-5@20260801", Some((5, 0))),
            ("anthropic.claude-sonnet-4-20250514-v1:0", Some((4, 0))),
            ("claude-haiku-4-5-20251001", Some((4, 5))),
            ("anthropic/claude-opus-4.8", Some((4, 8))),
            ("claude-3-7-sonnet-20250219", None),
            ("claude-3-opus-latest", None),
            ("my-model", None),
        ] {
            assert_eq!(version(model), expected, "{model}");
        }
    }

    #[test]
    fn schemas_are_kept_to_since_4_1() {
        for (name, schemas) in [
            ("claude-3-5-haiku-latest", false),
            ("claude-sonnet-4-20250514", false),
            ("claude-opus-4-1-20250805", true),
            ("claude-haiku-4-5", true),
            ("my-model", true),
        ] {
            assert_eq!(Model::named(name).schemas, schemas, "{name}");
        }
    }

    #[test]
    fn names_tell_what_is_taken() {
        for (name, thoughts, sampling, max_tokens) in [
            ("claude-3-haiku-20240307", Thoughts::None, Takes::All, 4096),
            ("claude-3-5-sonnet-latest", Thoughts::None, Takes::All, 8192),
            (
                "claude-3-7-sonnet-latest",
                Thoughts::Budget,
                Takes::All,
                8192,
            ),
            (
                "claude-sonnet-4-20250514",
                Thoughts::Budget,
                Takes::All,
                8192,
            ),
            ("claude-haiku-4-5", Thoughts::Budget, Takes::Either, 8192),
            ("claude-opus-4-7", Thoughts::Adaptive, Takes::Nothing, 8192),
            ("claude-fable-5", Thoughts::Adaptive, Takes::Nothing, 8192),
            ("my-model", Thoughts::Budget, Takes::Either, 8192),
        ] {
            let model = Model::named(name);
            let found = (model.thoughts, model.sampling, model.max_tokens);
            assert_eq!(found, (thoughts, sampling, max_tokens), "{name}");
        }
    }
}
