//! The rules, as a table: which words may not stand where, and how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that may not stand in code below a folder, except in some files. Comments count: a boundary is one in thought too.
struct Rule {
    below: &'static str,
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        below: "crates/engine/src",
        except: &["observe/program.rs"],
        words: &[
            "anthropic.com",
            "openai.com",
            "\"anthropic\"",
            "\"openai\"",
            "\"azure\"",
            "deepseek",
            "openrouter",
        ],
        why: "the engine knows formats, not providers",
    },
    Rule {
        below: "crates/engine/src",
        except: &[],
        words: &["axum::"],
        why: "the engine knows no web framework",
    },
    Rule {
        below: "crates/wire/src",
        except: &[],
        words: &["tokio::", "hyper::", "std::time", "std::net"],
        why: "wire is pure",
    },
    Rule {
        below: "crates/core/src",
        except: &[],
        words: &["serde_json", "tokio"],
        why: "core has no I/O and no JSON",
    },
    Rule {
        below: "crates",
        except: &["config/env.rs", "tests/", "build.rs"],
        words: &["std::env::var", "env::set_var"],
        why: "the environment is read in gateway/config/env.rs only",
    },
    Rule {
        below: "crates/server/src",
        except: &["pages/overview.rs"],
        words: &[
            "anthropic.com",
            "openai.com",
            "\"anthropic\"",
            "\"openai\"",
            "deepseek",
        ],
        why: "the server knows formats, not providers; the published shape of /admin/config counts three vendors",
    },
];

/// The longest a file of code may be; catalogues and tests aside.
const LONGEST: usize = 560;

/// Everything that is not tidy.
pub fn problems(root: &Path) -> Vec<String> {
    let files = sources(&root.join("crates"));
    let mut problems = Vec::new();
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        check_words(&name, &text, &mut problems);
        let lines = text.lines().count();
        if lines > LONGEST && !name.contains("/tests/") {
            problems.push(format!("{name}: {lines} lines; is it two rooms in one?"));
        }
        if !text.starts_with("//!") {
            problems.push(format!("{name}: does not open with its point (`//!`)"));
        }
    }
    problems
}

fn check_words(name: &str, text: &str, problems: &mut Vec<String>) {
    let applies = |rule: &&Rule| {
        name.starts_with(rule.below) && !rule.except.iter().any(|file| name.contains(file))
    };
    for rule in RULES.iter().filter(applies) {
        for (number, line) in text.lines().enumerate() {
            // Tests may name what they test with.
            if line.contains("mod tests {") {
                break;
            }
            for word in rule.words.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{name}:{}: '{word}': {}", number + 1, rule.why));
            }
        }
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return vec![];
    };
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace");
        let problems = problems(root);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn a_word_in_the_wrong_room_is_found() {
        let mut problems = Vec::new();
        check_words("crates/engine/src/x.rs", "use axum::Router;", &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
