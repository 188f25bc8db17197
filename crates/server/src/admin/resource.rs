//! What can be written through the admin API, as a table: where it is found, what it is called, which words stand for which.

use polygate_store::config::Kind;

use super::role::Area;

/// A kind of document as the API shows it.
#[derive(Debug)]
pub struct Resource {
    /// What its documents describe.
    pub kind: Kind,
    /// Below `/admin/v1/`.
    pub path: &'static str,
    /// The member of lists.
    pub list: &'static str,
    /// One of them, for people.
    pub one: &'static str,
    /// Who may.
    pub area: Area,
    /// Members of a new one that say what it is called: the first that is there does.
    pub names: &'static [&'static str],
    /// The member that says what it is called beside its id, or is about; alone it is the id too.
    pub title: Option<&'static str>,
    /// Published words, and the configuration's own for the same. The first of several is the one that answers use.
    pub words: &'static [(&'static str, &'static str)],
    /// The schema of answers, of what is created, and of changes.
    pub schemas: [&'static str; 4],
}

const PROVIDERS: Resource = Resource {
    kind: Kind::Provider,
    path: "providers",
    list: "providers",
    one: "provider",
    area: Area::Providers,
    names: &["provider_key", "id", "name"],
    title: None,
    words: &[
        ("provider_type", "type"),
        ("is_enabled", "enabled"),
        ("models", "model_mapping"),
        ("wire-api", "wire_api"),
        ("proxy-url", "proxy_url"),
    ],
    schemas: ["Provider", "NewProvider", "ProviderChange", "Providers"],
};

const KEYS: Resource = Resource {
    kind: Kind::Key,
    path: "master-keys",
    list: "keys",
    one: "key",
    area: Area::Keys,
    names: &["id", "name"],
    title: Some("name"),
    words: &[("is_enabled", "enabled")],
    schemas: ["Key", "NewKey", "KeyChange", "Keys"],
};

/// Everything that can be written.
pub static RESOURCES: [Resource; 6] = [
    PROVIDERS,
    KEYS,
    // The same by the name that llm-proxy gave it later.
    Resource {
        path: "credentials",
        list: "credentials",
        schemas: ["Key", "NewKey", "KeyChange", "Credentials"],
        ..KEYS
    },
    Resource {
        kind: Kind::Model,
        path: "models",
        list: "models",
        one: "model",
        area: Area::Models,
        names: &["id", "name"],
        title: None,
        words: &[],
        schemas: ["Model", "NewModel", "ModelChange", "Models"],
    },
    Resource {
        kind: Kind::Team,
        path: "teams",
        list: "teams",
        one: "team",
        area: Area::Teams,
        names: &["id", "name"],
        title: None,
        words: &[("is_enabled", "enabled")],
        schemas: ["Team", "NewTeam", "TeamChange", "Teams"],
    },
    Resource {
        kind: Kind::Price,
        path: "prices",
        list: "prices",
        one: "price",
        area: Area::Prices,
        names: &["id", "model"],
        title: Some("model"),
        words: &[],
        schemas: ["Price", "NewPrice", "PriceChange", "Prices"],
    },
];

impl Resource {
    /// The configuration's own word.
    pub fn native<'a>(&self, word: &'a str) -> &'a str {
        let found = self.words.iter().find(|(published, _)| *published == word);
        found.map_or(word, |(_, native)| native)
    }

    /// The word that answers use.
    pub fn published<'a>(&self, word: &'a str) -> &'a str {
        // The configuration's own word for what has an older one of the same sense.
        const SHOWN: [&str; 2] = ["type", "enabled"];
        let mut words = self.words.iter().filter(|_| SHOWN.contains(&word));
        let found = words.find(|(_, native)| *native == word);
        found.map_or(word, |(published, _)| published)
    }
}
