//! Chat templates: how a checkpoint writes messages as text.

use crate::{Conversation, Error};
use checkpoint::TokenizerFiles;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value;

/// Steps that a chat template may take; the published one takes some hundreds
/// a message.
const TEMPLATE_STEPS: u64 = 1_000_000;

/// The checkpoint's way of writing messages.
#[derive(Clone, Debug)]
pub struct ChatTemplate(String);

impl ChatTemplate {
    /// The template, from the first of the places that transformers looks at.
    ///
    /// # Errors
    /// [`Error::Template`] if there is none, or one that is not UTF-8.
    pub fn find(files: &TokenizerFiles) -> Result<ChatTemplate, Error> {
        if let Some(bytes) = files.get("chat_template.jinja") {
            return String::from_utf8(bytes.to_vec())
                .map(ChatTemplate)
                .map_err(|_| wrong("chat_template.jinja is not UTF-8".into()));
        }
        let beside: Value = match files.get("chat_template.json") {
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| wrong(format!("chat_template.json is not valid JSON: {error}")))?,
            None => Value::Null,
        };
        let settings = files.settings();
        let template = [&beside["chat_template"], &settings["chat_template"]]
            .into_iter()
            .find_map(|value| match value {
                Value::String(template) => Some(template.as_str()),
                // Several, by name.
                Value::Array(list) => list
                    .iter()
                    .find(|entry| entry["name"] == "default")
                    .and_then(|entry| entry["template"].as_str()),
                _ => None,
            });
        match template {
            Some(template) => Ok(ChatTemplate(template.to_owned())),
            None => Err(wrong(
                "there is no chat template: chat_template.jinja, chat_template.json or \
                 chat_template in tokenizer_config.json"
                    .into(),
            )),
        }
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// The text of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] if the template fails, or takes too many steps.
    pub fn render<P>(&self, conversation: &Conversation<P>) -> Result<String, Error> {
        self.render_messages(&conversation.messages(), true)
    }

    /// Runs the template as transformers does. `messages` is a list of objects
    /// with `role` and `content`; `answer` adds what begins an answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_messages(&self, messages: &Value, answer: bool) -> Result<String, Error> {
        let failed = |error: minijinja::Error| wrong(format!("the chat template fails: {error:#}"));
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(failed)?);
        // Templates come with the checkpoint, and may loop as long as they like.
        environment.set_fuel(Some(TEMPLATE_STEPS));
        // Templates call methods of Python's strings and dicts.
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<(), minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .render_str(
                &self.0,
                context! { messages => minijinja::Value::from(Serde(messages)), add_generation_prompt => answer },
            )
            .map_err(failed)
    }
}

fn wrong(message: String) -> Error {
    Error::Template { message }
}
