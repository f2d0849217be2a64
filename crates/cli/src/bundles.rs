//! Bundles in a folder: which there are, and the one that is meant.
//!
//! A decoder's bundle is called `<model>_decode_<mode>`, with `_s1` or `_pfN`
//! behind it unless it takes any number of tokens; `<model>_vision` is the
//! folder of the vision encoder.

use crate::inspect::bundle_metadata;
use aimodel::{METADATA, PROGRAM};
use anyhow::{Context, Result, bail};
use std::path::{Component, Path, PathBuf};

/// Flags that say which bundle is meant.
#[derive(clap::Args, Debug)]
pub struct Choice {
    /// The folder that the bundles were exported to
    #[arg(long, default_value = "exports")]
    pub exports: PathBuf,
    /// Whose bundle: a model's id, what the bundle's name starts with, or all
    /// of the name
    #[arg(long)]
    pub model: Option<String>,
    /// How its weights are stored: fp16, int8lin or int8hu
    #[arg(long)]
    pub mode: Option<String>,
    /// How many tokens a call takes: s1, dynamic or pfN
    #[arg(long)]
    pub query: Option<String>,
}

/// The bundle of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// The folder's name.
    pub name: String,
    model: String,
    mode: String,
    query: String,
}

/// What the metadata of a bundle says of its decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The decoder's asset.
    pub asset: PathBuf,
    /// How many tokens there are.
    pub vocab_size: usize,
    /// The longest context that a host may use, in tokens.
    pub max_context: usize,
}

impl Choice {
    /// The one bundle that is meant.
    ///
    /// # Errors
    /// None is, or several are; the message lists what there is.
    pub fn find(&self) -> Result<Bundle> {
        let exports = self.exports.display();
        let all = bundles(&self.exports)?;
        if all.is_empty() {
            bail!(
                "{exports} holds no decoder's bundle; make one with `{} export int8hu`, or say with \
                 --exports where they are",
                crate::call::name()
            );
        }
        let mut fit: Vec<&Bundle> = all.iter().filter(|bundle| self.means(bundle)).collect();
        if let Some(named) = fit.iter().find(|bundle| self.names(bundle)) {
            fit = vec![named];
        }
        match fit[..] {
            [bundle] => Ok(bundle.clone()),
            [] => bail!(
                "{exports} holds no bundle that fits {}; it has:\n{}",
                self.flags(),
                listed(&all.iter().collect::<Vec<_>>())
            ),
            _ => bail!(
                "{exports} holds {} bundles that could be meant; say which one:\n{}",
                fit.len(),
                listed(&fit)
            ),
        }
    }

    fn means(&self, bundle: &Bundle) -> bool {
        let fits = |asked: &Option<String>, is: &str| asked.as_ref().is_none_or(|a| a == is);
        let model =
            |model: &String| bundle.model == *model || bundle.model == export::short_name(model);
        (self.names(bundle) || self.model.as_ref().is_none_or(model))
            && fits(&self.mode, &bundle.mode)
            && fits(&self.query, &bundle.query)
    }

    /// Whether the bundle's whole name is given.
    fn names(&self, bundle: &Bundle) -> bool {
        self.model.as_ref() == Some(&bundle.name)
    }

    fn flags(&self) -> String {
        let flags = [
            ("--model", &self.model),
            ("--mode", &self.mode),
            ("--query", &self.query),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag} {}", value.as_ref()?)));
        given.collect::<Vec<_>>().join(" ")
    }
}

/// The decoders' bundles in a folder, by name.
fn bundles(folder: &Path) -> Result<Vec<Bundle>> {
    let cannot = || format!("{} cannot be read; --exports says where", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A hidden folder is an export that was killed, and an asset has
        // metadata of its own.
        let is_bundle = path.join(METADATA).is_file() && !path.join(PROGRAM).exists();
        if is_bundle && !name.starts_with('.') {
            found.push(Bundle::named(&name, &path));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Bundles, one a line, each with the flags that pick it among them.
fn listed(bundles: &[&Bundle]) -> String {
    let differs = |part: fn(&Bundle) -> &str| bundles.iter().any(|b| part(b) != part(bundles[0]));
    let (models, modes, queries) = (
        differs(|b| &b.model),
        differs(|b| &b.mode),
        differs(|b| &b.query),
    );
    let lines = bundles.iter().map(|bundle| {
        let flags = [
            ("--model", &bundle.model, models),
            ("--mode", &bundle.mode, modes),
            ("--query", &bundle.query, queries),
        ];
        let flags = flags
            .into_iter()
            .filter(|(_, value, needed)| *needed && !value.is_empty())
            .map(|(flag, value, _)| format!(" {flag} {value}"));
        format!("  {} {}", bundle.name, flags.collect::<String>())
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Bundle {
    fn named(name: &str, path: &Path) -> Bundle {
        let (model, rest) = name.rsplit_once("_decode_").unwrap_or((name, ""));
        let (mode, query) = match rest.split_once('_') {
            Some(parts) => parts,
            None if rest.is_empty() => ("", ""),
            None => (rest, "dynamic"),
        };
        Bundle {
            path: path.to_owned(),
            name: name.to_owned(),
            model: model.to_owned(),
            mode: mode.to_owned(),
            query: query.to_owned(),
        }
    }

    /// What its metadata says.
    ///
    /// # Errors
    /// It cannot be read, or lacks something; the message names the key.
    pub fn promise(&self) -> Result<Promise> {
        let path = self.path.join(METADATA);
        let metadata = bundle_metadata(&path)?;
        let wrong = |key: &str, expected: &str| {
            let found = match metadata.pointer(&format!("/{}", key.replace('.', "/"))) {
                Some(value) => format!("found {value:.60}"),
                None => "and it is absent".to_owned(),
            };
            format!("{}: {key}: expected {expected}, {found}", path.display())
        };
        let number = |key: &str| {
            let value = metadata["language"][key].as_u64();
            let value = value.filter(|value| *value > 0);
            let value = value.and_then(|value| usize::try_from(value).ok());
            value.with_context(|| wrong(&format!("language.{key}"), "a whole number above 0"))
        };
        if metadata["kind"] != "llm" {
            bail!(wrong("kind", "\"llm\""));
        }
        let main = metadata["assets"]["main"].as_str().unwrap_or_default();
        // What somebody else wrote may not lead out of the folder.
        let mut parts = Path::new(main).components();
        let (Some(Component::Normal(asset)), None) = (parts.next(), parts.next()) else {
            bail!(wrong("assets.main", "the name of an asset in this folder"));
        };
        Ok(Promise {
            asset: self.path.join(asset),
            vocab_size: number("vocab_size")?,
            max_context: number("max_context_length")?,
        })
    }

    /// The folder of the tokenizer.
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer")
    }

    /// The asset of the vision encoder that belongs to it.
    ///
    /// # Errors
    /// There is none beside it.
    pub fn vision(&self) -> Result<PathBuf> {
        let name = format!("{}_vision", self.model);
        let folder = self.path.with_file_name(&name);
        let asset = folder.join(format!("{name}.aimodel"));
        if !asset.is_dir() {
            bail!(
                "a picture needs the vision encoder, and there is no {}; export it with \
                 --skip-decoder, or ask without --image",
                asset.display()
            );
        }
        Ok(asset)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bundle, Choice};
    use std::path::Path;

    /// A folder with bundles of these names, which hold no more than metadata.
    fn exports(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let bundle = folder.path().join(name);
            std::fs::create_dir(&bundle).unwrap();
            std::fs::write(bundle.join("metadata.json"), "{}").unwrap();
        }
        // Neither is a decoder's bundle.
        std::fs::create_dir(folder.path().join("nano_vision")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        folder
    }

    fn find(folder: &Path, flags: [&str; 3]) -> Result<String, String> {
        let flag = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let [model, mode, query] = flags.map(flag);
        let choice = Choice {
            exports: folder.to_owned(),
            model,
            mode,
            query,
        };
        let found = choice.find();
        let found = found.map(|bundle| bundle.name);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn one_bundle_needs_no_flags() {
        let folder = exports(&["nano_decode_int8hu_s1", ".nano_decode_fp16_s1.Xy12"]);
        let found = find(folder.path(), ["", "", ""]);
        assert_eq!(found.unwrap(), "nano_decode_int8hu_s1");
    }

    #[test]
    fn flags_pick_one_of_several() {
        let names = [
            "my_tune_decode_fp16_s1",
            "nano_decode_fp16_s1",
            "nano_decode_int8hu",
            "nano_decode_int8hu_pf64",
            "nano_decode_int8hu_s1",
            "renamed",
        ];
        let folder = exports(&names);
        let find = |flags| find(folder.path(), flags);
        for (flags, index) in [
            (["my/My-Tune", "", ""], 0),
            (["nano", "fp16", ""], 1),
            (["", "int8hu", "dynamic"], 2),
            (["", "", "pf64"], 3),
            (["nano", "int8hu", "s1"], 4),
            (["nano_decode_int8hu", "", ""], 2),
            (["renamed", "", ""], 5),
        ] {
            assert_eq!(find(flags).unwrap(), names[index], "{flags:?}");
        }
        let several = find(["nano", "int8hu", ""]).unwrap_err();
        assert!(several.ends_with(
            "3 bundles that could be meant; say which one:\n  \
             nano_decode_int8hu  --query dynamic\n  \
             nano_decode_int8hu_pf64  --query pf64\n  \
             nano_decode_int8hu_s1  --query s1"
        ));
        let all = find(["", "", ""]).unwrap_err();
        assert!(all.contains("  my_tune_decode_fp16_s1  --model my_tune --mode fp16 --query s1"));
        let none = find(["nano", "int8lin", ""]).unwrap_err();
        assert!(none.contains("no bundle that fits --model nano --mode int8lin; it has:"));
        assert!(none.contains("  renamed  --model renamed"));
    }

    #[test]
    fn an_empty_folder_says_how_to_fill_it() {
        let folder = exports(&[]);
        let problem = find(folder.path(), ["", "", ""]).unwrap_err();
        assert!(problem.contains("`aimodel export int8hu`"), "{problem}");
        let problem = find(&folder.path().join("none"), ["", "", ""]).unwrap_err();
        assert!(problem.contains("--exports"), "{problem}");
    }

    #[test]
    fn metadata_that_promises_nothing_is_refused() {
        let folder = exports(&["a"]);
        let path = folder.path().join("a");
        let bundle = Bundle::named("a", &path);
        let good = r#"{"kind":"llm","assets":{"main":"a.aimodel"},
            "language":{"vocab_size":512,"max_context_length":4096}}"#;
        let promise = |text: &str| {
            std::fs::write(path.join("metadata.json"), text).unwrap();
            bundle.promise().map_err(|error| error.to_string())
        };
        let promised = promise(good).unwrap();
        assert_eq!(promised.asset, path.join("a.aimodel"));
        assert_eq!((promised.vocab_size, promised.max_context), (512, 4096));
        for (from, to, part) in [
            ("llm", "other", "kind: expected \"llm\", found \"other\""),
            ("a.aimodel", "../b", "assets.main: expected the name"),
            ("a.aimodel", "/etc", "assets.main"),
            ("a.aimodel", "..", "assets.main"),
            ("a.aimodel", "", "assets.main"),
            ("4096", "0", "language.max_context_length"),
            ("512", "-1", "language.vocab_size: expected a whole number"),
            ("vocab_size", "size", "language.vocab_size"),
            (
                "main",
                "first",
                "assets.main: expected the name of an asset in this folder, and it",
            ),
        ] {
            let problem = promise(&good.replace(from, to)).unwrap_err();
            assert!(problem.contains(part), "{problem}");
            assert!(problem.contains("metadata.json"), "{problem}");
        }
    }
}
