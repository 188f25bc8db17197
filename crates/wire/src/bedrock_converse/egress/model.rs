//! What a model takes, as its name tells.

use crate::anthropic_messages::egress::{Model, Takes};

/// What a model takes: Bedrock refuses members by model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Claude, and which.
    pub claude: Option<Model>,
    /// Where marks for the prompt cache may stand.
    pub marks: Marks,
    /// Whether results of tools may be errors.
    pub status: bool,
    /// Whether answers and calls keep to a schema by themselves.
    pub schemas: bool,
    /// Whether it can be told to call a tool.
    pub forces: bool,
}

/// Where a model takes marks for the prompt cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// In the prompt and behind tools, and whether for an hour.
    Everywhere { hours: bool },
    /// In the prompt only.
    Prompt,
    /// A mark is an error.
    Nowhere,
}

/// Makers and models that keep to no schema; Amazon's apart, none of them can be forced to call a tool either.
const LOOSE: [&str; 8] = [
    "amazon.",
    "meta.",
    "cohere.",
    "ai21.",
    "writer.",
    "deepseek.r1",
    "mistral.mistral-7b",
    "mistral.mixtral",
];

impl Facts {
    /// The model of this name. Names that tell nothing take what most do.
    pub(crate) fn named(name: &str) -> Self {
        if name.contains("anthropic") || name.contains("claude") {
            let model = Model::named(name);
            // Since 4.5, as the refusal of `temperature` beside `top_p`.
            let is_late = model.sampling != Takes::All;
            return Self {
                claude: Some(model),
                marks: Marks::Everywhere { hours: is_late },
                status: true,
                schemas: model.schemas && is_late,
                forces: true,
            };
        }
        let is_nova = name.contains("nova");
        let is_loose = LOOSE.iter().any(|loose| name.contains(loose));
        Self {
            claude: None,
            marks: if is_nova {
                Marks::Prompt
            } else {
                Marks::Nowhere
            },
            status: is_nova,
            schemas: !is_nova && !is_loose,
            forces: is_nova || !is_loose,
        }
    }
}
