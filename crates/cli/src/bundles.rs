//! Which bundle of a folder is meant, by flags.

use crate::export;
use anyhow::{Context, Result, bail};
use bundle::{Bundle, Selector, bundles_in};
use std::path::PathBuf;

/// Flags that say which bundle is meant.
#[derive(clap::Args, Debug)]
pub struct BundleArgs {
    /// The folder that the bundles were exported to
    #[arg(long, default_value = "exports")]
    pub exports: PathBuf,
    /// Which bundle, if there are several: a model's id, the start of the
    /// bundle's name, or the whole name
    #[arg(long)]
    pub model: Option<String>,
    /// How its weights are stored
    #[arg(long, value_parser = export::modes())]
    pub mode: Option<String>,
    /// How many tokens a call takes: s1, dynamic or pfN
    #[arg(long)]
    pub query: Option<String>,
    /// Which assets it has: pipelined or vlm
    #[arg(long, value_parser = ["pipelined", "vlm"])]
    pub bundle: Option<String>,
}

impl BundleArgs {
    /// The one bundle that is meant.
    ///
    /// # Errors
    /// None is, or several are; the message lists what there is.
    pub fn find(&self) -> Result<Bundle> {
        let exports = self.exports.display();
        let all = bundles_in(&self.exports)
            .with_context(|| format!("{exports} cannot be read; --exports says where"))?;
        if all.is_empty() {
            bail!(
                "{exports} holds no decoder's bundle; make one with `{} export int8hu`, or say with \
                 --exports where they are",
                crate::call::name()
            );
        }
        let selector = Selector {
            model: self.model.clone(),
            recipe: self.mode.clone(),
            shape: self.query.clone(),
            layout: self.bundle.clone(),
        };
        let fit = selector.select(&all);
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

    fn flags(&self) -> String {
        let flags = [
            ("--model", &self.model),
            ("--mode", &self.mode),
            ("--query", &self.query),
            ("--bundle", &self.bundle),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag} {}", value.as_ref()?)));
        given.collect::<Vec<_>>().join(" ")
    }
}

/// Bundles, one a line, each with the flags that pick it among them.
fn listed(bundles: &[&Bundle]) -> String {
    let parts = |bundle: &Bundle| {
        [
            ("--model", bundle.model().to_owned()),
            ("--mode", bundle.recipe().to_owned()),
            ("--query", bundle.shape()),
            ("--bundle", bundle.layout_name().to_owned()),
        ]
    };
    let differs = |part: usize| {
        let mut values = bundles.iter().map(|bundle| parts(bundle)[part].1.clone());
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let differs = [differs(0), differs(1), differs(2), differs(3)];
    let lines = bundles.iter().map(|bundle| {
        let flags = parts(bundle).into_iter().zip(differs);
        let flags = flags
            .filter(|((_, value), needed)| *needed && !value.is_empty())
            .map(|((flag, value), _)| format!(" {flag} {value}"));
        format!("  {} {}", bundle.name, flags.collect::<String>())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::BundleArgs;
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
        let choice = BundleArgs {
            exports: folder.to_owned(),
            model,
            mode,
            query,
            bundle: None,
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
}
