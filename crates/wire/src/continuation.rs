//! A request asked once more of another, with the text that its answer already has: the beginning of the answer, to be gone on with.

use crate::canon::{ChatRequest, Given, Message, Part, Role, Thinking};
use crate::{Format, Target, egress};

/// What asks a model to go on that would begin anew behind a message of its own.
const GO_ON: &str = "Your last message was cut off in transit. Go on with it exactly where it stops, beginning with the very next \
                     character. Repeat nothing of it, and say nothing about the interruption.";

/// The least that providers let an answer be limited to, all of them.
const LEAST: u64 = 16;

impl ChatRequest {
    /// Whether another can go on with the text of an answer: nothing is asked for that has to be of one piece.
    pub fn may_be_continued(&self) -> bool {
        self.output.is_none() && self.logprobs.is_none()
    }

    /// Makes it the request for the rest of an answer that so far says this, in about so many tokens.
    pub fn continue_from(
        &mut self,
        said: &str,
        tokens: u64,
        upstream: Format,
        target: &Target<'_>,
    ) {
        let goes_on = egress(upstream).continues_last_message(self, target);
        self.say(Role::Assistant, said);
        if !goes_on {
            self.say(Role::User, GO_ON);
        }
        if let Some(most) = &mut self.max_tokens {
            most.value = most.value.saturating_sub(tokens).max(LEAST.min(most.value));
        }
    }

    /// Whether the model was told to think before it answers.
    pub(crate) fn asks_to_think(&self) -> bool {
        let thinking = self.thinking.as_ref().map(|given| given.value);
        thinking.is_some_and(|thinking| thinking != Thinking::Off)
    }

    fn say(&mut self, role: Role, text: &str) {
        self.messages.push(Message {
            role,
            parts: vec![Given::new(Part::Text(text.to_owned()), "")],
            at: String::new(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quirks::{Continues, Quirks};
    use crate::{RawObject, ingress};

    fn body(upstream: Format, model: &str, quirks: &Quirks, said: &str) -> serde_json::Value {
        let asked =
            br#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}"#;
        let asked = RawObject::parse(asked.as_slice().into()).expect("an object");
        let ingress = ingress(Format::OpenaiChat).expect("clients speak it");
        let mut request = ingress.decode_request(&asked).expect("a request");
        assert!(request.may_be_continued());
        let target = Target { model, quirks };
        request.continue_from(said, 30, upstream, &target);
        let (body, losses) = egress(upstream)
            .encode_request(&request, &target)
            .expect("a body");
        assert!(losses.is_empty(), "{losses:?}");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn those_who_go_on_by_themselves_end_with_the_answer_so_far() {
        let plain = Quirks::default();
        let last = |body: &serde_json::Value| {
            body["messages"]
                .as_array()
                .and_then(|all| all.last().cloned())
                .expect("messages")
        };
        let body_of = body(
            Format::AnthropicMessages,
            "claude-sonnet-4-5",
            &plain,
            "So far \n",
        );
        assert_eq!(last(&body_of)["role"], "assistant");
        // Blanks at the end are refused there.
        assert_eq!(last(&body_of)["content"][0]["text"], "So far");
        assert_eq!(body_of["max_tokens"], 70);
        let prefixes = Quirks {
            continues: Some(Continues::Prefix),
            ..Quirks::default()
        };
        let body_of = body(Format::OpenaiChat, "m", &prefixes, "So far");
        assert_eq!(last(&body_of)["prefix"], true);
        assert_eq!(last(&body_of)["content"], "So far");
    }

    #[test]
    fn everyone_else_is_asked_to_go_on() {
        let plain = Quirks::default();
        for (format, model, list) in [
            (Format::AnthropicMessages, "claude-opus-4-7", "messages"),
            (Format::OpenaiChat, "m", "messages"),
            (Format::OpenaiResponses, "m", "input"),
            (Format::Gemini, "m", "contents"),
            (
                Format::BedrockConverse,
                "anthropic.claude-sonnet-4-5",
                "messages",
            ),
        ] {
            let body = body(format, model, &plain, "So far");
            let [asked, said, go_on] = body[list].as_array().expect("turns").as_slice() else {
                panic!("{format:?}: {body}");
            };
            assert_eq!(
                (&asked["role"], &go_on["role"]),
                (&"user".into(), &"user".into())
            );
            assert_ne!(said["role"], "user");
            assert!(said.to_string().contains("So far"), "{body}");
            assert!(go_on.to_string().contains("cut off in transit"), "{body}");
        }
    }

    #[test]
    fn a_limit_is_never_less_than_providers_take_nor_more_than_was_asked() {
        for (given, said, left) in [(100, 30, 70), (100, 1000, 16), (10, 30, 10)] {
            let mut request = ChatRequest {
                max_tokens: Some(Given::new(given, "/max_tokens")),
                ..ChatRequest::default()
            };
            let quirks = Quirks::default();
            let target = Target {
                model: "m",
                quirks: &quirks,
            };
            request.continue_from("x", said, Format::Gemini, &target);
            assert_eq!(request.max_tokens.map(|given| given.value), Some(left));
        }
    }
}
