//! Bodies in the request log: without what is a secret by its name, and without files and pictures.

use serde_json::Value;

/// Members whose values are secrets, whoever put them into a body.
const SECRETS: [&str; 9] = [
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "access_token",
    "client_secret",
    "password",
    "secret",
    "x-api-key",
];

/// Text without a gap that is longer than this is no text.
const LONGEST_WORD: usize = 1024;

/// A body as it may be written: JSON where it is whole, else text; of what was cut off nobody knows what it would have been, so
/// only its length is told.
pub(super) fn shown(body: &[u8]) -> Value {
    match serde_json::from_slice(body) {
        Ok(mut value) => {
            redact(&mut value);
            value
        }
        Err(_) => match std::str::from_utf8(body) {
            Ok(text) if text.starts_with("event:") || text.starts_with("data:") => events(text),
            _ => Value::String(length(body.len())),
        },
    }
}

/// A stream's events, each as its data. The last may be cut off.
fn events(text: &str) -> Value {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let event = |data: &str| match serde_json::from_str(data.trim()) {
        Ok(mut value) => {
            redact(&mut value);
            value
        }
        Err(_) if data.trim() == "[DONE]" => Value::String("[DONE]".to_owned()),
        Err(_) => Value::String(length(data.len())),
    };
    Value::Array(data.map(event).collect())
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) if is_file(text) => *text = length(text.len()),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                let is_secret = SECRETS.iter().any(|known| name.eq_ignore_ascii_case(known));
                if is_secret && !value.is_object() {
                    *value = Value::String("***".to_owned());
                } else {
                    redact(value);
                }
            }
        }
        _ => {}
    }
}

/// A picture or another file: an address that holds it, or Base64 alone.
fn is_file(text: &str) -> bool {
    let holds = text.starts_with("data:") && text.contains(";base64,");
    let is_one_word = || {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
    };
    holds || (text.len() > LONGEST_WORD && is_one_word())
}

fn length(bytes: usize) -> String {
    format!("<{bytes} bytes>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_and_files_are_not_written() {
        let word = "QUJD".repeat(300);
        let body = json!({
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "file", "data": word},
            ]}],
            "tools": [{"type": "mcp", "Authorization": "Bearer hush", "headers": {"X-Api-Key": "hush"}}],
        });
        let shown = shown(body.to_string().as_bytes());
        let text = shown.to_string();
        assert!(text.contains("What is this?"));
        assert!(!text.contains("hush") && !text.contains("QUJD"), "{text}");
        assert!(
            text.contains("<26 bytes>") && text.contains("<1200 bytes>"),
            "{text}"
        );
    }

    #[test]
    fn of_a_stream_each_event_and_of_what_is_cut_off_the_length() {
        let stream = b"event: a\ndata: {\"text\":\"x\",\"password\":\"hush\"}\n\ndata: {\"te";
        assert_eq!(
            shown(stream),
            json!([{"text": "x", "password": "***"}, "<5 bytes>"])
        );
        assert_eq!(shown(b"{\"model\": \"x"), json!("<12 bytes>"));
    }
}
