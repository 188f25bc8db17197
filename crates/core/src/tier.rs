//! How providers serve a call, where that has a price of its own.

use serde::{Deserialize, Serialize};

/// How a call is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// As usual.
    #[default]
    Standard,
    /// Within a day.
    Batch,
    /// When there is room.
    Flex,
    /// Before others.
    Priority,
}

impl ServiceTier {
    /// All of them.
    pub const ALL: [ServiceTier; 4] = [
        ServiceTier::Standard,
        ServiceTier::Batch,
        ServiceTier::Flex,
        ServiceTier::Priority,
    ];

    /// The tier of this name. What providers call otherwise is served as usual.
    pub fn named(word: &str) -> Option<Self> {
        ServiceTier::ALL
            .into_iter()
            .find(|tier| tier.as_str() == word)
    }

    /// The tier that a provider says it served by. A word that nobody knows says nothing.
    pub fn served(word: &str) -> Option<Self> {
        const USUAL: [&str; 3] = ["default", "on_demand", "scale"];
        let word = word.to_ascii_lowercase();
        let usual = USUAL.contains(&&*word).then_some(ServiceTier::Standard);
        usual.or_else(|| ServiceTier::named(&word))
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceTier::Standard => "standard",
            ServiceTier::Batch => "batch",
            ServiceTier::Flex => "flex",
            ServiceTier::Priority => "priority",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_words_of_their_own_for_the_usual() {
        for word in ["default", "standard", "on_demand", "ON_DEMAND", "scale"] {
            assert_eq!(ServiceTier::served(word), Some(ServiceTier::Standard));
        }
        assert_eq!(ServiceTier::served("flex"), Some(ServiceTier::Flex));
        assert_eq!(ServiceTier::served("auto"), None);
        assert_eq!(ServiceTier::named("default"), None);
    }
}
