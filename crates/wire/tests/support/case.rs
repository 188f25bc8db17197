//! A folder of `tests/cells`: what goes in, read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use polygate_core::Failure;
use polygate_wire::{ChatRequest, Format, Quirks, RawObject, ingress};
use serde::Deserialize;

use crate::translate::Upstream;

/// One feature, in every format that can say it.
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// What it is about.
    pub about: About,
    models: HashMap<Format, Model>,
}

/// `about.md`: a heading, lines of `Name: value`, and prose.
#[derive(Debug)]
pub struct About {
    /// The feature's name.
    pub title: String,
    /// The group of features that it is in.
    pub group: String,
    /// The report that the case is for.
    pub thread: Option<String>,
    /// Pointers into the clients' requests of what needs neither be sent nor named as lost.
    pub needless: Vec<String>,
}

/// Who is asked, unless `models.json` says otherwise.
#[derive(Deserialize)]
struct Model {
    model: String,
    #[serde(default)]
    quirks: Quirks,
}

/// Models that stand for their formats: of those in use, the ones that take most.
const MODELS: &str = r#"{
    "openai-chat": {"model": "gpt-4.1", "quirks": {"max_completion_tokens": true, "developer": true, "most_stops": 4}},
    "openai-responses": {"model": "gpt-4.1"},
    "anthropic-messages": {"model": "claude-sonnet-4-5"},
    "gemini": {"model": "gemini-2.5-flash"},
    "bedrock-converse": {"model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}
}"#;

/// All cases, in the order of their names.
pub fn all() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cells");
    let entries = fs::read_dir(root).expect("there are cases");
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    dirs.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(dir: PathBuf) -> Self {
        let name = dir.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name").to_owned();
        let about = fs::read_to_string(dir.join("about.md")).expect("every case has an about.md");
        let about = About::read(&about);
        let mut models: HashMap<Format, Model> = serde_json::from_str(MODELS).expect("models");
        if let Ok(own) = fs::read_to_string(dir.join("models.json")) {
            let own: HashMap<Format, Model> = serde_json::from_str(&own).expect("models");
            models.extend(own);
        }
        Self {
            name,
            dir,
            about,
            models,
        }
    }

    /// A file of the folder.
    pub fn file(&self, format: Format, kind: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join(format!("{}.{kind}", format.name()))).ok()
    }

    /// The status that errors came with.
    pub fn status(&self) -> u16 {
        let text = fs::read_to_string(self.dir.join("status"));
        let text = text.expect("errors come with a status");
        text.trim().parse().expect("a status")
    }

    /// The request of a client; `None` where its format cannot say it.
    pub fn request(&self, client: Format) -> Option<Result<ChatRequest, Failure>> {
        let body = RawObject::parse(self.file(client, "request.json")?.into());
        let ingress = ingress(client).expect("clients speak it");
        Some(body.and_then(|body| ingress.decode_request(&body)))
    }

    /// Whether an upstream is asked in a dialect that its format's own description does not know.
    pub fn is_dialect(&self, format: Format) -> bool {
        let usual: HashMap<Format, Model> = serde_json::from_str(MODELS).expect("models");
        self.models[&format].quirks != usual[&format].quirks
    }

    /// Who is asked in a format.
    pub fn upstream(&self, format: Format) -> Upstream {
        let row = &self.models[&format];
        Upstream {
            format,
            model: row.model.clone(),
            quirks: row.quirks.clone(),
        }
    }
}

impl About {
    fn read(text: &str) -> Self {
        let named = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned())
        };
        let needless = named("Needless:").unwrap_or_default();
        Self {
            title: named("# ").expect("a heading"),
            group: named("Group:").expect("a group"),
            thread: named("Thread:"),
            needless: needless.split_whitespace().map(str::to_owned).collect(),
        }
    }
}
