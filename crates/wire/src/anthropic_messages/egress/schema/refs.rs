//! References of a schema: whether all of them lead somewhere, and come to an end.

use std::collections::HashSet;

use serde_json::Value;

/// Deeper schemas, their references followed, are nobody's.
const MOST_LEVELS: usize = 256;

/// Members that hold values, not schemas.
const VALUES: [&str; 4] = ["enum", "const", "default", "examples"];

/// Members that hold schemas by names of their own.
const NAMED: [&str; 3] = ["properties", "$defs", "definitions"];

/// Whether every reference is found within the schema, and none leads back to itself.
pub(super) fn all_end(root: &Value) -> bool {
    let mut walk = Walk {
        root,
        // The whole is being read already.
        under_way: vec!["#"],
        level: 0,
        known: HashSet::new(),
    };
    walk.node(root)
}

struct Walk<'a> {
    root: &'a Value,
    /// References that led here.
    under_way: Vec<&'a str>,
    level: usize,
    /// References that are known to end.
    known: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &'a Value) -> bool {
        if self.level == MOST_LEVELS {
            return false;
        }
        self.level += 1;
        let ends = match node {
            Value::Object(object) => object
                .iter()
                .all(|(name, member)| self.member(name, member)),
            Value::Array(nodes) => nodes.iter().all(|node| self.node(node)),
            _ => true,
        };
        self.level -= 1;
        ends
    }

    fn member(&mut self, name: &str, member: &'a Value) -> bool {
        match member {
            Value::String(target) if name == "$ref" => self.follow(target),
            Value::Object(schemas) if NAMED.contains(&name) => {
                schemas.values().all(|schema| self.node(schema))
            }
            _ => VALUES.contains(&name) || self.node(member),
        }
    }

    fn follow(&mut self, target: &'a str) -> bool {
        if self.known.contains(target) {
            return true;
        }
        if self.under_way.contains(&target) {
            return false;
        }
        let pointer = target.strip_prefix('#');
        let Some(found) = pointer.and_then(|pointer| self.root.pointer(pointer)) else {
            return false;
        };
        self.under_way.push(target);
        let ends = self.node(found);
        self.under_way.pop();
        self.known.insert(target);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_end_or_do_not() {
        let chain: String = (0..1000)
            .map(|at| format!(r##""d{at}":{{"$ref":"#/$defs/d{}"}},"##, at + 1))
            .collect();
        let chain = format!(r##"{{"$defs":{{{chain}"d1000":{{}}}},"$ref":"#/$defs/d0"}}"##);
        for (text, ends) in [
            (
                r##"{"$defs":{"a":{"type":"string"}},"items":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}"##,
                true,
            ),
            (
                r##"{"properties":{"$ref":{"type":"string"}},"const":{"$ref":"#/nowhere"}}"##,
                true,
            ),
            (r##"{"items":{"$ref":"#"}}"##, false),
            (
                r##"{"properties":{"default":{"items":{"$ref":"#"}}}}"##,
                false,
            ),
            (
                r##"{"$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"items":{"$ref":"#/$defs/a"}}}}"##,
                false,
            ),
            (
                r##"{"properties":{"a":{"items":{"$ref":"#/properties/a"}}}}"##,
                false,
            ),
            (r##"{"$ref":"#/$defs/none"}"##, false),
            (r##"{"$ref":"https://x.example/schema"}"##, false),
            (chain.as_str(), false),
        ] {
            let tree: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(all_end(&tree), ends, "{text:.80}");
        }
    }
}
