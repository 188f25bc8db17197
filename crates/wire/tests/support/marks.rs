//! Marks in a request, by which its pieces are found again in what is sent.

use polygate_wire::ChatRequest;
use polygate_wire::canon::{Media, MediaSource, OutputShape, Part, ToolInput};

/// Pointers, and the mark that stands there.
#[derive(Debug, Default)]
pub struct Marks(Vec<(String, String)>);

impl Marks {
    /// Marks every text of a request, and gives each its own pointer.
    pub fn put(request: &mut ChatRequest) -> Self {
        let mut marks = Self::default();
        for (index, message) in request.messages.iter_mut().enumerate() {
            message.at = format!("/messages/{index}");
            for (number, part) in message.parts.iter_mut().enumerate() {
                part.at = format!("{}/content/{number}", message.at);
                marks.part(&mut part.value, &part.at);
            }
        }
        for (index, tool) in request.tools.iter_mut().enumerate() {
            tool.at = format!("/tools/{index}");
            if let Some(description) = &mut tool.description {
                marks.text(description, &tool.at);
            }
            if let ToolInput::Freeform(Some(grammar)) = &mut tool.input {
                grammar.at = format!("{}/format", tool.at);
                marks.text(&mut grammar.value.definition, &grammar.at);
            }
        }
        if let Some(output) = &mut request.output {
            output.at = "/output".to_owned();
            if let OutputShape::JsonSchema {
                description: Some(description),
                ..
            } = &mut output.value
            {
                description.at = "/output/description".to_owned();
                marks.text(&mut description.value, &description.at);
            }
        }
        if let Some(stop) = &mut request.stop {
            stop.at = "/stop".to_owned();
            stop.value
                .iter_mut()
                .for_each(|word| marks.text(word, "/stop"));
        }
        if let Some(user) = &mut request.user {
            user.at = "/user".to_owned();
            marks.text(&mut user.value, "/user");
        }
        marks
    }

    fn text(&mut self, text: &mut String, at: &str) {
        let mark = format!("mark{}.", self.0.len());
        text.push_str(&mark);
        self.0.push((at.to_owned(), mark));
    }

    fn part(&mut self, part: &mut Part, at: &str) {
        match part {
            Part::Text(text) | Part::Refusal(text) => self.text(text, at),
            Part::Reasoning(reasoning) if !reasoning.text.is_empty() => {
                self.text(&mut reasoning.text, at);
            }
            Part::Image(media) | Part::File(media) | Part::Audio(media) => self.media(media, at),
            Part::ToolCall(call) => {
                let mark = format!("mark{}.", self.0.len());
                call.arguments = format!("{{\"marked\":\"{mark}\"}}");
                self.0.push((at.to_owned(), mark));
            }
            Part::ToolResult(result) => {
                for (index, part) in result.content.iter_mut().enumerate() {
                    part.at = format!("{at}/content/{index}");
                    self.part(&mut part.value, &part.at);
                }
            }
            Part::Reasoning(_) | Part::CachePoint(_) => {}
        }
    }

    fn media(&mut self, media: &mut Media, at: &str) {
        if let Some(name) = &mut media.name {
            name.at = format!("{at}/name");
            let mark = format!("mark{}", self.0.len());
            name.value = format!("{mark}-{}", name.value);
            self.0.push((name.at.clone(), mark));
        }
        if let MediaSource::Url(text) | MediaSource::FileId { id: text, .. } = &mut media.source {
            let mark = format!("mark{}.", self.0.len());
            *text = text.replacen("a.", &format!("a{mark}"), 1);
            if text.contains(&mark) {
                self.0.push((at.to_owned(), mark));
            }
        }
    }

    /// Pointers of what neither stands in the body nor is named.
    pub fn missing(&self, body: &str, losses: &[polygate_wire::Loss]) -> Vec<&str> {
        let is_under = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_named = |at: &str| losses.iter().any(|loss| is_under(at, &loss.0));
        self.0
            .iter()
            .filter(|(at, mark)| !body.contains(mark.as_str()) && !is_named(at))
            .map(|(at, _)| at.as_str())
            .collect()
    }
}
