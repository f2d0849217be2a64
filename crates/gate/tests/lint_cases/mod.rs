//! What trips the rules of the device lint, one or more cases a rule.

mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use aimodel::{AssetMetadata, Module, write_asset};
use export::Options;
use gate::{lint, transcript::Finding};
use programs::Decoder;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{copy_folder, edit_json, nano};

pub use programs::{fixed_states, floors, fused_locations, inputs_of_kernel, narrow_mask, states};

/// The rule that is tripped, what trips it, and what the lint finds. Each makes
/// what it needs in an empty folder.
type Case = (
    &'static str,
    &'static str,
    fn(&Bench, &Path) -> Vec<Finding>,
);

/// The cases.
pub const CASES: &[Case] = &[
    ("float-floor", "x // 1", |_, at| floors(at, 1)),
    ("float-round", "round(x)", |_, at| programs::round(at)),
    ("zero-extent", "an empty input", |_, at| programs::empty(at)),
    ("composite-declaration", "no eps", |_, at| {
        programs::kernel(at, &["axes", "version"])
    }),
    ("composite-declaration", "no version", |_, at| {
        programs::kernel(at, &["axes", "eps"])
    }),
    ("composite-declaration", "an input too few", |_, at| {
        programs::inputs_of_kernel(at, &["query"])
    }),
    ("composite-declaration", "inputs exchanged", |_, at| {
        programs::inputs_of_kernel(at, &["k", "q"])
    }),
    ("composite-declaration", "no declaration", |_, at| {
        programs::undeclared(at)
    }),
    ("debug-locations", "a builtin location", |_, at| {
        programs::builtin_location(at)
    }),
    ("wide-compare", "a mask of 64-bit integers", |_, at| {
        programs::wide_mask(at)
    }),
    ("attention-query", "384 queries", |_, at| {
        programs::attention(at, 384, 8)
    }),
    ("attention-width", "narrower values", |_, at| {
        programs::attention(at, 64, 4)
    }),
    ("state-width", "keys of 512, values of 256", |_, at| {
        programs::caches(at, [512, 256])
    }),
    ("channel-scales", "a scale a row", |_, at| {
        programs::scaled(at, [4, 1])
    }),
    ("channel-scales", "a scale a column", |_, at| {
        programs::scaled(at, [1, 64])
    }),
    ("channel-scales", "one scale", |_, at| {
        programs::scaled(at, [1, 1])
    }),
    ("block-size", "blocks of 16", |_, at| {
        programs::scaled(at, [4, 4])
    }),
    ("block-size", "blocks of 2 by 32", |_, at| {
        programs::scaled(at, [2, 2])
    }),
    ("lut-palette", "a palette", |_, at| programs::palette(at)),
    ("kv-position", "the value of an input", |_, at| {
        programs::position(at, false)
    }),
    ("kv-position", "scattered by an input", |_, at| {
        programs::position(at, true)
    }),
    ("state-writes", "two slots of fixed states", |_, at| {
        programs::fixed_states(at, false)
    }),
    ("two-states", "one state", |_, at| {
        programs::states(at, 1, &["position_ids"])
    }),
    ("two-states", "five states", |_, at| {
        programs::states(at, 5, &["position_ids"])
    }),
    ("two-states", "three beside a static input", |_, at| {
        programs::states(at, 3, &["position_ids", "static"])
    }),
    ("asset-opens", "another assetVersion", |bench, at| {
        let asset = bench.asset(at);
        edit_json(&asset.join("metadata.json"), |m| {
            m["assetVersion"] = "3.0".into()
        });
        lint::asset(&asset).unwrap()
    }),
    ("asset-hash", "a hash of zeros", |bench, at| {
        let asset = bench.asset(at);
        fs::write(asset.join("main.hash"), [0; 32]).unwrap();
        lint::asset(&asset).unwrap()
    }),
    ("asset-producer", "no producer", |bench, at| {
        let asset = bench.asset(at);
        edit_json(&asset.join("metadata.json"), |m| remove(m, "producer"));
        lint::asset(&asset).unwrap()
    }),
    #[cfg(unix)]
    ("symlink", "the asset", |bench, at| {
        let asset = bench.asset(at);
        fs::rename(&asset, at.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", &asset).unwrap();
        lint::bundle(asset.parent().unwrap()).unwrap()
    }),
    #[cfg(unix)]
    ("symlink", "the program", |bench, at| {
        let asset = bench.asset(at);
        fs::rename(asset.join("main.mlirb"), at.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../../elsewhere", asset.join("main.mlirb")).unwrap();
        lint::asset(&asset).unwrap()
    }),
    #[cfg(unix)]
    ("symlink", "the bundle, with a slash", |bench, at| {
        bench.bundle(at);
        std::os::unix::fs::symlink(NAME, at.join("link")).unwrap();
        edit_json(&at.join(NAME).join("metadata.json"), |m| {
            m["name"] = "link".into()
        });
        lint::bundle(&at.join("link/")).unwrap()
    }),
    #[cfg(unix)]
    ("symlink", "a tokenizer file", |bench, at| {
        let bundle = bench.bundle(at);
        let file = bundle.join("tokenizer/vocab.json");
        fs::rename(&file, at.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../../elsewhere", file).unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("bundle-manifest", "no embedded_tokenizer", |bench, at| {
        bench.metadata(at, |m| remove(&mut m["language"], "embedded_tokenizer"))
    }),
    ("bundle-manifest", "another kind", |bench, at| {
        bench.metadata(at, |m| m["kind"] = "other".into())
    }),
    ("bundle-manifest", "no metadata", |bench, at| {
        let bundle = bench.bundle(at);
        fs::remove_file(bundle.join("metadata.json")).unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("bundle-name", "another name", |bench, at| {
        bench.metadata(at, |m| m["name"] = "other".into())
    }),
    ("bundle-asset", "another asset", |bench, at| {
        bench.metadata(at, |m| m["assets"]["main"] = "other.aimodel".into())
    }),
    ("bundle-asset", "an asset outside", |bench, at| {
        bench.metadata(at, |m| {
            m["assets"]["main"] = format!("../{NAME}/{NAME}.aimodel").into()
        })
    }),
    ("decoder-functions", "prefill is promised", |bench, at| {
        bench.metadata(at, |m| {
            m["language"]["function_map"]["main"] = json!(["main", "prefill"])
        })
    }),
    (
        "decoder-functions",
        "logits have another name",
        |bench, at| {
            bench.decoder(
                at,
                Decoder {
                    logits: "scores",
                    ..Decoder::good()
                },
            )
        },
    ),
    ("static-inputs", "five more inputs", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                inputs: 5,
                ..Decoder::good()
            },
        )
    }),
    ("static-inputs", "one that grows", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                input_extent: None,
                ..Decoder::good()
            },
        )
    }),
    ("static-query", "a dynamic one", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                rows: None,
                ..Decoder::good()
            },
        )
    }),
    ("static-query", "two tokens", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                rows: Some(2),
                ..Decoder::good()
            },
        )
    }),
    ("decoder-kernels", "no rope", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                kernels: &programs::KERNELS[..2],
                ..Decoder::good()
            },
        )
    }),
    ("vocab-size", "one more", |bench, at| {
        bench.metadata(at, |m| m["language"]["vocab_size"] = 513.into())
    }),
    ("context-length", "none", |bench, at| {
        bench.metadata(at, |m| m["language"]["max_context_length"] = 0.into())
    }),
    ("context-length", "beyond the training", |bench, at| {
        bench.metadata(at, |m| m["language"]["max_context_length"] = 4097.into())
    }),
    ("bundle-asset", "no table of embeddings", |bench, at| {
        let bundle = bench.vlm(at);
        fs::remove_dir_all(bundle.join("embedding.aimodel")).unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("vocab-size", "one more in a vlm bundle", |bench, at| {
        bench.vlm_metadata(at, |m| m["language"]["vocab_size"] = 513.into())
    }),
    ("vlm-manifest", "no image_std", |bench, at| {
        bench.vlm_metadata(at, |m| remove(&mut m["vision"], "image_std"))
    }),
    ("vlm-manifest", "no vision asset", |bench, at| {
        bench.vlm_metadata(at, |m| remove(&mut m["assets"], "vision"))
    }),
    ("vlm-manifest", "a text for a number", |bench, at| {
        bench.vlm_metadata(at, |m| m["vision"]["patch_size"] = "16".into())
    }),
    ("vlm-functions", "another size of pictures", |bench, at| {
        bench.vlm_metadata(at, |m| m["vision"]["image_size"] = 448.into())
    }),
    ("vlm-functions", "another number of tokens", |bench, at| {
        bench.vlm_metadata(at, |m| m["vision"]["image_token_count"] = 15.into())
    }),
    (
        "vlm-functions",
        "the embedding in place of the vision",
        |bench, at| {
            bench.vlm_metadata(at, |m| {
                m["assets"]["vision"] = m["assets"]["embedding"].clone();
            })
        },
    ),
    ("row-width", "a table of a wider model", |bench, at| {
        let bundle = bench.vlm(at);
        programs::embedding(&bundle.join("embedding.aimodel"), 576);
        lint::bundle(&bundle).unwrap()
    }),
    ("ios-context", "4096 tokens", |bench, at| {
        bench.vlm_metadata(at, |m| m["compilation"]["targets"] = json!(["iOS 27"]))
    }),
    (
        "adapter-prompt",
        "the checkpoint's own template",
        |bench, at| {
            let bundle = bench.vlm(at);
            let own = testkit::repository().join("oracles/nano/checkpoint/chat_template.jinja");
            fs::copy(own, bundle.join("tokenizer/chat_template.jinja")).unwrap();
            lint::bundle(&bundle).unwrap()
        },
    ),
    ("adapter-prompt", "another token", |bench, at| {
        bench.vlm_metadata(at, |m| m["vision"]["image_token_id"] = 505.into())
    }),
    ("tokenizer-files", "no tokenizer.json", |bench, at| {
        let bundle = bench.bundle(at);
        fs::remove_file(bundle.join("tokenizer/tokenizer.json")).unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("tokenizer-files", "no folder", |bench, at| {
        let bundle = bench.bundle(at);
        fs::remove_dir_all(bundle.join("tokenizer")).unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("tokenizer-files", "a stranger", |bench, at| {
        let bundle = bench.bundle(at);
        fs::write(bundle.join("tokenizer/model.safetensors"), "").unwrap();
        lint::bundle(&bundle).unwrap()
    }),
    ("tokenizer-class", "nobody's", |bench, at| {
        bench.settings(at, |s| s["tokenizer_class"] = "Qwen3VLTokenizer".into())
    }),
    ("tokenizer-class", "of another algorithm", |bench, at| {
        bench.settings(at, |s| s["tokenizer_class"] = "BertTokenizerFast".into())
    }),
    ("logits-width", "520", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                vocab_size: 520,
                ..Decoder::good()
            },
        )
    }),
    ("token-ids", "a narrower head", |bench, at| {
        bench.decoder(
            at,
            Decoder {
                vocab_size: 448,
                ..Decoder::good()
            },
        )
    }),
    ("chat-template", "none", |bench, at| {
        let bundle = bench.bundle(at);
        fs::remove_file(bundle.join("tokenizer/chat_template.jinja")).unwrap();
        edit_json(&bundle.join("tokenizer/tokenizer_config.json"), |s| {
            remove(s, "chat_template")
        });
        lint::bundle(&bundle).unwrap()
    }),
    ("chat-template", "endless", |bench, at| {
        bench.template(
            at,
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        )
    }),
    ("chat-template", "without pictures", |bench, at| {
        bench.template(
            at,
            "{% for m in messages %}{{ m.content[-1].text }}<|im_end|>{% endfor %}",
        )
    }),
    ("end-token", "the end of a document", |bench, at| {
        bench.settings(at, |s| s["eos_token"] = "<|endoftext|>".into())
    }),
    ("end-token", "none", |bench, at| {
        bench.settings(at, |s| remove(s, "eos_token"))
    }),
];

/// What bundles of the bench are called.
const NAME: &str = "nano_decode_int8hu_s1";
/// And those for Apple's package.
const VLM: &str = "nano_vlm_int8hu";

/// A good bundle, to make bad ones of.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        nano::export(folder.path(), &options());
        let vlm = Options {
            layouts: vec![bundle::Layout::Vlm],
            ..options()
        };
        nano::export(folder.path(), &vlm);
        Self { folder }
    }

    /// A copy of the bundle.
    pub fn bundle(&self, at: &Path) -> PathBuf {
        let bundle = at.join(NAME);
        copy_folder(&self.folder.path().join(NAME), &bundle);
        assert_eq!(lint::bundle(&bundle).unwrap(), []);
        bundle
    }

    /// A copy of the bundle for Apple's package.
    fn vlm(&self, at: &Path) -> PathBuf {
        let bundle = at.join(VLM);
        copy_folder(&self.folder.path().join(VLM), &bundle);
        assert_eq!(lint::bundle(&bundle).unwrap(), []);
        bundle
    }

    /// Such a copy with other metadata.
    fn vlm_metadata(&self, at: &Path, change: fn(&mut Value)) -> Vec<Finding> {
        let bundle = self.vlm(at);
        edit_json(&bundle.join("metadata.json"), change);
        lint::bundle(&bundle).unwrap()
    }

    /// The asset of a copy.
    fn asset(&self, at: &Path) -> PathBuf {
        self.bundle(at).join(format!("{NAME}.aimodel"))
    }

    /// A copy with other metadata.
    fn metadata(&self, at: &Path, change: fn(&mut Value)) -> Vec<Finding> {
        let bundle = self.bundle(at);
        edit_json(&bundle.join("metadata.json"), change);
        lint::bundle(&bundle).unwrap()
    }

    /// A copy with another `tokenizer_config.json`.
    fn settings(&self, at: &Path, change: fn(&mut Value)) -> Vec<Finding> {
        let bundle = self.bundle(at);
        edit_json(&bundle.join("tokenizer/tokenizer_config.json"), change);
        lint::bundle(&bundle).unwrap()
    }

    /// A copy with another chat template.
    fn template(&self, at: &Path, template: &str) -> Vec<Finding> {
        let bundle = self.bundle(at);
        fs::write(bundle.join("tokenizer/chat_template.jinja"), template).unwrap();
        lint::bundle(&bundle).unwrap()
    }

    /// A copy with another decoder, whose vocabulary the metadata states.
    fn decoder(&self, at: &Path, decoder: Decoder) -> Vec<Finding> {
        let asset = self.asset(at);
        let bundle = asset.parent().unwrap();
        let replace = |decoder: Decoder| {
            fs::remove_dir_all(&asset).unwrap();
            write(&asset, &decoder.build());
            edit_json(&bundle.join("metadata.json"), |m| {
                m["language"]["vocab_size"] = decoder.vocab_size.into();
            });
            lint::bundle(bundle).unwrap()
        };
        assert_eq!(replace(Decoder::good()), []);
        replace(decoder)
    }
}

/// nano as int8hu for one token at a time, without its vision encoder.
pub fn options() -> Options {
    Options {
        vision: false,
        name: None,
        ..nano::options()
    }
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().unwrap().remove(key).unwrap();
}

fn write(asset: &Path, module: &Module) {
    let metadata = AssetMetadata::new("a test", 0).unwrap();
    write_asset(asset, module, &metadata).unwrap();
}

/// Writes a program as an asset, and looks at it.
fn look(at: &Path, module: &Module) -> Vec<Finding> {
    let asset = at.join("asset.aimodel");
    write(&asset, module);
    lint::asset(&asset).unwrap()
}
