//! The chat template of bundles for Apple's package.
//!
//! Apple's adapter puts a picture into a prompt as text: it sends
//! `<|image_pad|>`, a newline and the user's words as one message. The model was
//! trained with `<|vision_start|><|image_pad|><|vision_end|>` and no newline. The
//! template that such bundles have mends that, and nothing else: it renders the
//! checkpoint's own, and replaces the one by the other in what comes out. What a
//! message with a list of parts becomes stays as it was.

use checkpoint::TokenizerFiles;
use serde_json::Value;
use text::ChatTemplate;

use crate::Error;

/// What Apple's adapter writes for a picture.
const ADAPTER: &str = "<|image_pad|>\\n";
/// What the model was trained with.
const TRAINED: &str = "<|vision_start|><|image_pad|><|vision_end|>";

const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
const SETTINGS: &str = "tokenizer_config.json";

/// A template that renders `template` and mends the result.
///
/// swift-jinja has block assignments and the filter `replace`; a `filter` block
/// makes it fail, and Apple's package then writes a prompt of its own.
fn mended(template: &str) -> String {
    // Jinja drops a newline that ends a template.
    let template = template.strip_suffix('\n').unwrap_or(template);
    let template = template.strip_suffix('\r').unwrap_or(template);
    // The empty expressions keep white space at the template's edges, which blocks
    // beside it would take away.
    format!(
        "{{%- set rendered -%}}{{{{- '' }}}}{template}{{{{ '' -}}}}{{%- endset -%}}\
         {{{{- rendered | replace('{ADAPTER}', '{TRAINED}') -}}}}"
    )
}

/// The files with the mended template, in every place where a host may look for
/// one.
///
/// # Errors
/// [`Error::Text`] if there is no template, and [`Error::Json`] for a file that
/// is not JSON.
pub fn for_apples_adapter(mut files: TokenizerFiles) -> Result<TokenizerFiles, Error> {
    let template = mended(ChatTemplate::find(&files)?.source());
    for name in [SETTINGS, JSON] {
        let Some((_, bytes)) = files.files.iter_mut().find(|(file, _)| *file == name) else {
            continue;
        };
        let wrong = |message: String| Error::Json {
            file: name.into(),
            message,
        };
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let object = value.as_object_mut();
        let object = object.ok_or_else(|| wrong("expected an object".to_owned()))?;
        object.insert("chat_template".to_owned(), Value::String(template.clone()));
        *bytes = format!("{value:#}\n").into_bytes();
    }
    files.set(JINJA, template.into_bytes());
    Ok(files)
}
