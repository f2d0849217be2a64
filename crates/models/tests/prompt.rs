//! Prompts as transformers makes them, with the decoder's ids for images.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use bundle::{CallShape, Layout};
use models::qwen3_vl::Chat;

use models::qwen3_vl::Config;

use models::{Architecture, Error, PromptWriter};

use checkpoint::Source;

use checkpoint::TokenizerFiles;

use models::qwen3_vl::synth;
use serde_json::{Value, json};
use std::fs;
use text::{Conversation, DecodeStream, Role, Turn};

fn checkpoint() -> (tempfile::TempDir, Source, Config) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nano");
    let config = Config::preset("nano").unwrap();
    synth::write(&config, &out, synth::Options::default(), |_, _| {}).unwrap();
    let source = Source::folder(&out).unwrap();
    (folder, source, config)
}

fn load(source: &Source, config: &Config) -> Result<Chat, Error> {
    Chat::load(&TokenizerFiles::load(source)?, config)
}

/// What transformers 4.57.6 gives for this checkpoint, template and text.
const HF_IDS: [u32; 34] = [
    508, 84, 82, 68, 81, 198, 506, 504, 507, 71, 127, 102, 75, 75, 78, 220, 160, 121, 254, 161, 98,
    121, 509, 198, 508, 64, 82, 82, 72, 82, 83, 64, 77, 83,
];

#[test]
fn an_image_prompt_has_the_decoders_ids() {
    let (_folder, source, config) = checkpoint();
    let chat = load(&source, &config).unwrap();
    let prompt = chat.question("héllo 你好", Some(4)).unwrap();
    assert_eq!(
        chat.render(&Conversation::question("héllo 你好", [()]))
            .unwrap(),
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>héllo 你好<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let mut expected: Vec<u32> = HF_IDS.to_vec();
    expected.push(198);
    expected.splice(7..8, [504; 16]);
    assert_eq!(prompt.hf_ids, expected);
    let mut expected: Vec<i32> = expected.iter().map(|id| *id as i32).collect();
    expected.splice(7..23, 512..528);
    assert_eq!(prompt.ids, expected);
    // Text after the image stands where the longer side of the image ends.
    assert_eq!(
        prompt.inputs,
        [("rope_shift_start", 7 + 16), ("rope_shift_amount", 16 - 4)]
    );
    assert_eq!(chat.end_tokens(), [509, 510]);
    assert_eq!(
        chat.decode(&[71, 127, 102, 75, 75, 78, 509]).unwrap(),
        "héllo"
    );
}

#[test]
fn a_text_prompt_shifts_nothing() {
    let (_folder, source, config) = checkpoint();
    let chat = load(&source, &config).unwrap();
    let prompt = chat.question("hi", None).unwrap();
    assert_eq!(
        prompt.inputs,
        [("rope_shift_start", 1 << 30), ("rope_shift_amount", 0)]
    );
    assert!(prompt.ids.iter().all(|id| *id < 512));
    assert_eq!(prompt.ids.len(), prompt.hf_ids.len());
}

#[test]
fn image_tokens_in_the_text_are_refused() {
    let (_folder, source, config) = checkpoint();
    let chat = load(&source, &config).unwrap();
    for image in [None, Some(2)] {
        let error = chat.question("what is <|image_pad|>?", image).unwrap_err();
        assert!(matches!(error, Error::Prompt { .. }), "{error}");
        assert!(error.to_string().contains("<|image_pad|>"), "{error}");
    }
    assert!(matches!(
        chat.question("", Some(0)),
        Err(Error::Grid { grid: 0 })
    ));
}

/// Removes the template file and puts `template` into the settings.
fn set_template(source: &Source, template: Value) {
    let place = source.place();
    fs::remove_file(format!("{place}/chat_template.jinja")).unwrap_or(());
    let path = format!("{place}/tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    settings["chat_template"] = template;
    fs::write(path, settings.to_string()).unwrap();
}

#[test]
fn templates_may_use_what_transformers_offers() {
    let (_folder, source, config) = checkpoint();
    // Blocks on their own lines leave nothing behind, namespaces count,
    // strings have Python's methods, absent variables are false.
    let template = "\
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- set count = namespace(value=0) %}
{% for message in messages %}
    {% if message.content is string %}
{{ message.content.strip().split('x')[0] }}
    {% else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' or 'image_url' in part %}
                {%- set count.value = count.value + 1 %}
                {%- if add_vision_id %}Picture {{ count.value }}: {% endif -%}
                <|vision_start|><|image_pad|><|vision_end|>
            {%- elif 'text' in part %}
                {{- part.text.upper() }}
            {%- endif %}
        {%- endfor %}
    {% endif %}
{% endfor %}
[{{ count.value }}]";
    for template in [
        json!(template),
        json!([{"name": "other", "template": ""}, {"name": "default", "template": template}]),
    ] {
        set_template(&source, template);
        let chat = load(&source, &config).unwrap();
        let rendered = chat.render(&Conversation::question("abc", [()])).unwrap();
        assert_eq!(
            rendered,
            "<|vision_start|><|image_pad|><|vision_end|>ABC[1]"
        );
        assert_eq!(chat.question("abc", Some(1)).unwrap().placements.len(), 1);
    }
}

#[test]
fn templates_that_fail_say_why() {
    let (_folder, source, config) = checkpoint();
    for (template, part) in [
        (json!("{{ raise_exception('no users') }}"), "no users"),
        (json!("{% if %}"), "chat template"),
        (
            json!("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
            "fuel",
        ),
        (json!("no image"), "<|image_pad|>"),
    ] {
        set_template(&source, template);
        let error = load(&source, &config)
            .unwrap()
            .question("", Some(1))
            .unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    set_template(&source, Value::Null);
    let error = load(&source, &config).unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let (_folder, source, config) = checkpoint();
    let mut other = config.clone();
    other.image_token_id = 5;
    let error = load(&source, &other).unwrap_err();
    assert!(error.to_string().contains("image_token_id"), "{error}");

    let place = source.place();
    fs::write(format!("{place}/tokenizer.json"), "{}").unwrap();
    let error = load(&source, &config).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

/// An exported bundle has the tokenizer alone.
#[test]
fn a_bundle_makes_the_same_prompts_without_a_configuration() {
    let (_folder, source, config) = checkpoint();
    let files = TokenizerFiles::load(&source).unwrap();
    let with = Chat::load(&files, &config).unwrap();
    let without = Chat::of_bundle(&files, config.text_config.vocab_size).unwrap();
    for image in [None, Some(1), Some(4)] {
        let prompts = [&with, &without].map(|chat| chat.question("hello", image).unwrap());
        assert_eq!(prompts[0], prompts[1]);
    }
    assert_eq!(with.end_tokens(), without.end_tokens());

    // A decoder with fewer tokens than the tokenizer knows would take the rest
    // for parts of a picture.
    let other = Chat::of_bundle(&files, 500).unwrap();
    let error = other.question("hello", None).unwrap_err().to_string();
    assert!(error.contains("has only 500 tokens"), "{error}");

    let mut files = files;
    for (name, bytes) in &mut files.files {
        if *name == "tokenizer.json" {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("<|vision_start|>", "<|start|>").into_bytes();
        }
    }
    let error = Chat::of_bundle(&files, 512).unwrap_err().to_string();
    assert!(error.contains("no token <|vision_start|>"), "{error}");
}

#[test]
fn a_stream_says_whole_characters() {
    let (_folder, source, config) = checkpoint();
    let chat = load(&source, &config).unwrap();
    let text = "héllo 你好 🦀!";
    let ids = &chat.question(text, None).unwrap().hf_ids;
    let tokenizer = chat.tokenizer();
    let (mut stream, mut parts) = (DecodeStream::new(), Vec::new());
    for id in ids {
        parts.push(stream.push(tokenizer, *id).unwrap());
    }
    assert!(
        parts.iter().all(|part| !part.contains('\u{fffd}')),
        "{parts:?}"
    );
    assert!(
        parts.iter().filter(|part| part.is_empty()).count() >= 6,
        "{parts:?}"
    );
    assert_eq!(parts.concat(), chat.decode(ids).unwrap());
    assert!(parts.concat().contains(text));

    // The first two bytes of a character, and then nothing.
    let mut stream = DecodeStream::new();
    assert_eq!(
        [160, 121].map(|id| stream.push(tokenizer, id).unwrap()),
        ["", ""]
    );
    assert_eq!(stream.finish(tokenizer).unwrap(), "\u{fffd}");
    // Bytes that begin characters and never end them are said all the same.
    let mut stream = DecodeStream::new();
    let said: String = [160; 9]
        .map(|id| stream.push(tokenizer, id).unwrap())
        .concat();
    assert_eq!(said.matches('\u{fffd}').count(), 8);
}

#[test]
fn every_token_that_ends_an_answer_is_known() {
    let (_folder, source, config) = checkpoint();
    let path = format!("{}/generation_config.json", source.place());
    let stops = |json: &str| {
        fs::write(&path, json).unwrap();
        let chat = load(&source, &config).map_err(|error| error.to_string())?;
        Ok::<_, String>(chat.end_tokens().to_vec())
    };
    for (json, expected) in [
        ("{}", vec![509, 510]),
        (r#"{"eos_token_id": 7}"#, vec![509, 510, 7]),
        (r#"{"eos_token_id": [510, 3, 509, 3]}"#, vec![509, 510, 3]),
    ] {
        assert_eq!(stops(json).unwrap(), expected, "{json}");
    }
    for (json, part) in [
        (r#"{"eos_token_id": "7"}"#, "found \"7\""),
        (r#"{"eos_token_id": [-1]}"#, "expected a token id"),
        ("{", "not valid JSON"),
    ] {
        let problem = stops(json).unwrap_err();
        assert!(problem.contains("generation_config.json"), "{problem}");
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn turns_and_pictures_are_in_their_order() {
    let (_folder, source, config) = checkpoint();
    let chat = load(&source, &config).unwrap();
    let mut talk = Conversation::question("one", [[2, 3]]);
    talk.turns.push(Turn::new(Role::Assistant, "two"));
    talk.turns.push(Turn::new(Role::User, "three"));
    let rendered = chat.render(&talk).unwrap();
    assert_eq!(
        rendered,
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>one<|im_end|>\n\
         <|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let pipelined = Layout::Pipelined(CallShape::One);
    let prompt = chat.prompt(&talk, pipelined).unwrap();
    let [image] = prompt.placements[..] else {
        panic!("{:?}", prompt.placements)
    };
    assert_eq!((image.grid, image.tokens()), ([2, 3], 6));
    let slots: Vec<i32> = (512..518).collect();
    assert_eq!(prompt.ids[image.start..][..6], slots);
    // The graph has room for one picture; the conversation may have more.
    talk.turns[2].pictures.push([1, 1]);
    let error = chat.prompt(&talk, pipelined).unwrap_err().to_string();
    assert!(error.contains("2 images"), "{error}");
    let prompt = chat.prompt(&talk, Layout::Vlm).unwrap();
    assert_eq!(prompt.placements.len(), 2);
    let ids: Vec<i32> = prompt.hf_ids.iter().map(|id| *id as i32).collect();
    assert_eq!(prompt.ids, ids);
}

/// The mended template writes what the checkpoint's does, white space at its edges
/// included, and replaces nothing but what Apple's adapter writes.
#[test]
fn the_mended_template_is_the_checkpoints_own_but_for_the_adapter() {
    let own = "{%- for m in messages -%}{{ m.role }}:{% for p in m.content %}{% if p.type == 'image' \
               %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p.text }}{% endif %}{% \
               endfor %}{%- endfor -%}";
    let (_folder, source, config) = checkpoint();
    for (before, after) in [
        ("", ""),
        ("\n", "\n"),
        ("  ", "  "),
        ("\n\n lead", "tail\n\n"),
        ("{# note #}\n", "\r\n"),
        ("{% raw %}{% x %}{% endraw %}", "\n{% set y = 1 %}\n"),
    ] {
        let mut files = TokenizerFiles::load(&source).unwrap();
        files.set(
            "chat_template.jinja",
            format!("{before}{own}{after}").into_bytes(),
        );
        let mended = config.tokenizer_files(files.clone(), Layout::Vlm).unwrap();
        let [own, mended] = [&files, &mended].map(|files| text::ChatTemplate::find(files).unwrap());
        let list = json!([{"role": "user", "content": [
            {"type": "image"}, {"type": "text", "text": "what ?\n"},
        ]}]);
        for answer in [true, false] {
            let [own, mended] = [&own, &mended].map(|one| one.render_messages(&list, answer));
            assert_eq!(mended.unwrap(), own.unwrap(), "{before:?} {after:?}");
        }
    }
}
