//! `inspect`: what a bundle or an asset holds.

use crate::{Refused, progress::size};
use aimodel::{
    Asset, Form, Function, METADATA, Module, PROGRAM, Parameter, Summary, hex, open_asset,
    open_program, print_ir, verify,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// No metadata of a bundle is larger.
const LARGEST_METADATA: u64 = 1 << 20;

/// Flags of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A bundle, an .aimodel folder, or the main.mlirb of one
    path: PathBuf,
    /// Print the IR, close to the text of the coreai dialect
    #[arg(long, conflicts_with = "json")]
    ir: bool,
    /// Print the IR as it is stored, with all regions and properties
    #[arg(long, conflicts_with = "json")]
    stored: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is there, and refuses what is damaged.
pub fn run(args: Args) -> Result<()> {
    let found = Found::at(&args.path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = print(&args, &found, &mut out).and_then(|()| Ok(out.flush()?));
    // Whoever reads may have seen enough.
    let quit = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match printed {
        Err(error)
            if error
                .chain()
                .any(|cause| cause.downcast_ref().is_some_and(quit)) =>
        {
            // What is left in the buffer has nowhere to go.
            drop(out.into_parts());
        }
        other => other?,
    }
    match found.programs.iter().flat_map(Program::problems).next() {
        Some(problem) => Err(Refused(problem).into()),
        None => Ok(()),
    }
}

fn print(args: &Args, found: &Found, out: &mut dyn io::Write) -> Result<()> {
    if args.json {
        writeln!(out, "{:#}", found.json())?;
    } else if args.ir || args.stored {
        let form = if args.stored {
            Form::Stored
        } else {
            Form::Dialect
        };
        for program in &found.programs {
            print_ir(&program.module, form, out).map_err(|error| match error {
                aimodel::Error::Output(error) => error.into(),
                error => anyhow::Error::from(error).context(format!(
                    "{} cannot be shown; --stored shows it as it is",
                    program.path.display()
                )),
            })?;
        }
    } else {
        out.write_all(found.text()?.as_bytes())?;
    }
    Ok(())
}

/// A path, looked into.
struct Found {
    /// The metadata and the tokenizer files with their sizes, of a bundle.
    bundle: Option<(Value, Vec<(String, u64)>)>,
    programs: Vec<Program>,
}

/// One program, alone or in an asset.
struct Program {
    path: PathBuf,
    bytes: u64,
    module: Module,
    asset: Option<Asset>,
    /// The hash, where there is one to compare with.
    hash: Option<[u8; 32]>,
    summary: Result<Summary, String>,
    fault: Option<String>,
}

impl Found {
    fn at(path: &Path) -> Result<Self> {
        let is_asset = |path: &Path| path.join(PROGRAM).exists();
        if !path.is_dir() || is_asset(path) {
            return Ok(Self {
                bundle: None,
                programs: vec![Program::at(path)?],
            });
        }
        let mut assets: Vec<PathBuf> = entries(path)?
            .into_iter()
            .filter(|entry| {
                is_asset(entry) && entry.extension().is_some_and(|end| end == "aimodel")
            })
            .collect();
        assets.sort();
        if assets.is_empty() {
            bail!(
                "{} holds no {PROGRAM} and no folder with one: expected a bundle or an .aimodel \
                 folder",
                path.display()
            );
        }
        let metadata = path.join(METADATA);
        let metadata = match fs::symlink_metadata(&metadata) {
            Ok(_) => bundle_metadata(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Null,
            Err(error) => {
                return Err(error).with_context(|| format!("{}", metadata.display()));
            }
        };
        let tokenizer = path.join("tokenizer");
        let mut files = Vec::new();
        if tokenizer.is_dir() {
            for file in entries(&tokenizer)? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                files.push((name.into_owned(), bytes_of(&file)?));
            }
            files.sort();
        }
        Ok(Self {
            bundle: Some((metadata, files)),
            programs: assets
                .iter()
                .map(|path| Program::at(path))
                .collect::<Result<_>>()?,
        })
    }

    fn json(&self) -> Value {
        let programs: Vec<Value> = self.programs.iter().map(Program::json).collect();
        match &self.bundle {
            None => json!({ "assets": programs }),
            Some((metadata, tokenizer)) => {
                let files = tokenizer.iter();
                let files = files.map(|(name, bytes)| json!({ "name": name, "bytes": bytes }));
                json!({
                    "bundle": metadata,
                    "tokenizer": files.collect::<Vec<_>>(),
                    "assets": programs,
                })
            }
        }
    }

    fn text(&self) -> Result<String> {
        let mut text = String::new();
        if let Some((metadata, tokenizer)) = &self.bundle {
            bundle_text(metadata, tokenizer, &mut text)?;
        }
        for program in &self.programs {
            program.text(&mut text)?;
        }
        Ok(text)
    }
}

/// The metadata of a bundle. A file that is endless, or a pipe that waits for a
/// writer, is refused before it is opened.
pub fn bundle_metadata(path: &Path) -> Result<Value> {
    let file = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !file.is_file() || file.len() > LARGEST_METADATA {
        bail!(
            "{}: expected a file of at most {LARGEST_METADATA} bytes",
            path.display()
        );
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    if !value.is_object() {
        bail!("{}: expected a JSON object", path.display());
    }
    Ok(value)
}

/// A text out of a file, on one line: what somebody else wrote may not forge a
/// line of this report, nor command the terminal.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

fn bundle_text(metadata: &Value, tokenizer: &[(String, u64)], text: &mut String) -> Result<()> {
    match metadata.as_object() {
        Some(object) => {
            writeln!(text, "bundle")?;
            for (key, value) in object {
                match value {
                    Value::String(value) => writeln!(text, "  {}: {}", plain(key), plain(value))?,
                    value => writeln!(text, "  {}: {}", plain(key), plain(&value.to_string()))?,
                }
            }
        }
        None => writeln!(text, "bundle without {METADATA}")?,
    }
    for (name, bytes) in tokenizer {
        writeln!(text, "  tokenizer/{}: {}", plain(name), size(*bytes))?;
    }
    Ok(())
}

impl Program {
    fn at(path: &Path) -> Result<Self> {
        let (program, module, asset) = if path.is_dir() {
            let asset = open_asset(path)?;
            (path.join(PROGRAM), asset.module.clone(), Some(asset))
        } else {
            (path.to_owned(), open_program(path)?.0, None)
        };
        let hash = asset.as_ref().map(Asset::compute_hash).transpose()?;
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes_of(&program)?,
            summary: Summary::of(&module).map_err(|error| error.to_string()),
            fault: verify(&module).err().map(|error| error.to_string()),
            hash,
            module,
            asset,
        })
    }

    fn hash_fits(&self) -> bool {
        let stated = self.asset.as_ref().map(|asset| asset.stated_hash);
        stated == self.hash
    }

    /// What is wrong with it.
    fn problems(&self) -> Vec<String> {
        let path = self.path.display();
        let mut problems = Vec::new();
        if !self.hash_fits() {
            problems.push(format!(
                "{path}: {PROGRAM} has not the hash that the asset states; fetch or export it \
                 again"
            ));
        }
        if let Some(fault) = &self.fault {
            problems.push(format!("{path}: {fault}"));
        }
        problems
    }

    fn json(&self) -> Value {
        let mut object = json!({
            "path": self.path.display().to_string(),
            "bytes": self.bytes,
            "producer": self.module.producer,
            "verify": self.fault.as_deref().unwrap_or("ok"),
        });
        if let (Some(asset), Some(hash)) = (&self.asset, &self.hash) {
            object["hash"] = json!({
                "stated": hex(&asset.stated_hash),
                "found": hex(hash),
                "ok": self.hash_fits(),
            });
            let metadata = &asset.metadata;
            object["metadata"] = json!({
                "creationDate": metadata.creation_date,
                "producer": metadata.producer,
                "author": metadata.author,
                "license": metadata.license,
                "description": metadata.description,
            });
        }
        let Ok(summary) = &self.summary else {
            return object;
        };
        let counts = |counts: &[(String, u64)]| -> Value {
            let counts = counts.iter();
            counts
                .map(|(name, count)| (name.clone(), Value::from(*count)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let functions = summary.functions.iter().map(|function| {
            json!({
                "name": function.name,
                "inputs": parameters(&function.inputs),
                "states": parameters(&function.states),
                "outputs": parameters(&function.outputs),
            })
        });
        let graphs = summary.graphs.iter().map(|graph| {
            json!({
                "name": graph.name,
                "private": graph.private,
                "composite": graph.composite,
                "operations": counts(&graph.operations),
            })
        });
        let storage = summary.storage.iter().map(|storage| {
            json!({
                "element": storage.element.to_string(),
                "elements": storage.elements,
                "bytes": storage.bytes,
            })
        });
        object["version"] = json!(summary.version);
        object["functions"] = functions.collect();
        object["storage"] = storage.collect();
        object["operations"] = counts(&summary.operations);
        object["graphs"] = graphs.collect();
        object
    }

    fn text(&self, text: &mut String) -> Result<()> {
        writeln!(text, "{}", self.path.display())?;
        writeln!(text, "  size: {} ({} bytes)", size(self.bytes), self.bytes)?;
        if let (Some(asset), Some(hash)) = (&self.asset, &self.hash) {
            match self.hash_fits() {
                true => writeln!(text, "  hash: ok, {}", hex(hash))?,
                false => writeln!(
                    text,
                    "  hash: WRONG, {} is stated and {} was found",
                    hex(&asset.stated_hash),
                    hex(hash)
                )?,
            }
            let metadata = &asset.metadata;
            let lines = [
                ("made", &metadata.creation_date),
                ("by", &metadata.producer),
                ("author", &metadata.author),
                ("license", &metadata.license),
                ("description", &metadata.description),
            ];
            for (key, value) in lines {
                if let Some(value) = value {
                    writeln!(text, "  {key}: {}", plain(value))?;
                }
            }
        }
        let fault = self.fault.as_deref().unwrap_or("ok");
        writeln!(text, "  verify: {}", plain(fault))?;
        match &self.summary {
            Ok(summary) => summary_text(summary, text)?,
            Err(problem) => writeln!(text, "  no summary: {}", plain(problem))?,
        }
        Ok(())
    }
}

fn parameters(parameters: &[Parameter]) -> Value {
    let parameters = parameters.iter().map(|parameter| {
        let dims = parameter.ty.dims.iter().map(|dim| dim.known());
        json!({
            "name": parameter.name,
            "element": parameter.ty.element.to_string(),
            "shape": dims.collect::<Vec<_>>(),
        })
    });
    parameters.collect()
}

fn summary_text(summary: &Summary, text: &mut String) -> Result<()> {
    if let Some(version) = summary.version {
        writeln!(text, "  version: {version}")?;
    }
    for function in &summary.functions {
        function_text(function, text)?;
    }
    writeln!(text, "  storage")?;
    for storage in &summary.storage {
        writeln!(
            text,
            "    {:<5} {:>14} elements {:>10}",
            storage.element,
            storage.elements,
            size(storage.bytes)
        )?;
    }
    let (count, bytes) = summary.resources;
    writeln!(text, "    {count} resources hold {}", size(bytes))?;
    writeln!(text, "  operations")?;
    operations_text("all", &summary.operations, text)?;
    // Composites are called once for each layer: one line for each kernel.
    let public = summary.graphs.iter().filter(|graph| !graph.private);
    for graph in public {
        operations_text(&format!("@{}", graph.name), &graph.operations, text)?;
    }
    let mut kernels: Vec<(&str, Vec<&aimodel::GraphSummary>)> = Vec::new();
    for graph in summary.graphs.iter().filter(|graph| graph.private) {
        let kernel = graph.composite.as_deref().unwrap_or("private");
        match kernels.iter_mut().find(|(name, _)| *name == kernel) {
            Some((_, graphs)) => graphs.push(graph),
            None => kernels.push((kernel, vec![graph])),
        }
    }
    for (kernel, graphs) in kernels {
        writeln!(text, "  composite {}", plain(kernel))?;
        for graph in graphs {
            operations_text(&format!("@{}", graph.name), &graph.operations, text)?;
        }
    }
    Ok(())
}

fn function_text(function: &Function, text: &mut String) -> Result<()> {
    writeln!(text, "  function {}", plain(&function.name))?;
    let groups = [
        ("input", &function.inputs),
        ("state", &function.states),
        ("output", &function.outputs),
    ];
    for (kind, parameters) in groups {
        for parameter in parameters {
            let parameter = plain(&parameter.to_string());
            writeln!(text, "    {kind:<6} {parameter}")?;
        }
    }
    Ok(())
}

fn operations_text(of: &str, operations: &[(String, u64)], text: &mut String) -> Result<()> {
    let total: u64 = operations.iter().map(|(_, count)| count).sum();
    let listed: Vec<String> = operations
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let listed = plain(&listed.join(", "));
    writeln!(text, "    {}: {total} = {listed}", plain(of))?;
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || {
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        entries.collect::<io::Result<Vec<_>>>()
    };
    read().with_context(|| format!("{} cannot be read", folder.display()))
}

fn bytes_of(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("{}", file.display()))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::{Args, Found, run};
    use crate::Refused;
    use aimodel::{AssetBuilder, AssetMetadata, ElementType, StagedDir, TensorType};
    use std::{fs, path::Path};

    /// A bundle with one asset that doubles, and a tokenizer file.
    fn bundle(out: &Path) {
        let mut asset = AssetBuilder::new();
        let mut graph = asset.graph("main");
        let x = graph
            .input("x", TensorType::fixed([3], ElementType::F16))
            .unwrap();
        let y = graph.add(x, x).unwrap();
        graph.finish(&[("y", y)]).unwrap();
        let module = asset.finish().unwrap();
        let metadata = AssetMetadata::new("a test", 0).unwrap();
        let staged = StagedDir::create(out).unwrap();
        staged
            .write_asset("double.aimodel", &module, &metadata)
            .unwrap();
        staged
            .write_file("metadata.json", br#"{"kind": "llm"}"#)
            .unwrap();
        staged.write_file("tokenizer/vocab.json", b"{}").unwrap();
        staged.commit().unwrap();
    }

    fn args(path: &Path) -> Args {
        Args {
            path: path.to_owned(),
            ir: false,
            stored: false,
            json: false,
        }
    }

    #[test]
    fn a_bundle_is_shown_whole() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("bundle");
        bundle(&out);
        let found = Found::at(&out).unwrap();
        let text = found.text().unwrap();
        for expected in [
            "  kind: llm\n",
            "  tokenizer/vocab.json: 2 bytes\n",
            "  hash: ok, ",
            "  verify: ok\n",
            "    input  x: tensor<3xf16>\n",
            "    output y: tensor<3xf16>\n",
            "    @main: 2 = add 1, broadcasting_add 1\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let json = found.json();
        assert_eq!(json["bundle"]["kind"], "llm");
        assert_eq!(json["assets"][0]["hash"]["ok"], true);
        assert_eq!(json["assets"][0]["operations"]["broadcasting_add"], 1);
        let input = &json["assets"][0]["functions"][0]["inputs"][0];
        assert_eq!(input["shape"], serde_json::json!([3]));
        run(args(&out)).unwrap();
        run(args(&out.join("double.aimodel/main.mlirb"))).unwrap();
    }

    #[test]
    fn what_a_file_says_cannot_forge_the_report() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("bundle");
        bundle(&out);
        let lie = r#"{"assetVersion": "2.0", "description": "x\n  verify: ok\u001b[2J"}"#;
        fs::write(out.join("double.aimodel/metadata.json"), lie).unwrap();
        fs::write(out.join("metadata.json"), r#"{"kind": "a\r\nb"}"#).unwrap();
        let text = Found::at(&out).unwrap().text().unwrap();
        assert_eq!(text.matches("\n  verify: ok").count(), 1, "{text}");
        assert!(
            text.contains(r"description: x\n  verify: ok\u{1b}[2J"),
            "{text}"
        );
        assert!(text.contains(r"kind: a\r\nb"), "{text}");
    }

    #[test]
    fn endless_metadata_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("bundle");
        bundle(&out);
        let metadata = out.join("metadata.json");
        let refused = || {
            let error = run(args(&out)).unwrap_err().to_string();
            assert!(error.contains("metadata.json"), "{error}");
            assert!(error.contains("expected a"), "{error}");
        };
        fs::write(&metadata, "[]").unwrap();
        refused();
        // Sparse: it takes no room.
        let file = fs::File::create(&metadata).unwrap();
        file.set_len(1 << 40).unwrap();
        refused();
        fs::remove_file(&metadata).unwrap();
        #[cfg(unix)]
        {
            let made = std::process::Command::new("mkfifo").arg(&metadata).status();
            assert!(made.unwrap().success());
            refused();
        }
    }

    #[test]
    fn damage_is_refused_and_bad_input_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("bundle");
        bundle(&out);
        let asset = out.join("double.aimodel");
        fs::write(asset.join("main.hash"), [0; 32]).unwrap();
        let error = run(args(&asset)).unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        assert!(error.to_string().contains("has not the hash"), "{error}");

        fs::write(asset.join("main.mlirb"), "no bytecode").unwrap();
        let nowhere = parent.path().join("nowhere");
        for path in [asset.as_path(), nowhere.as_path(), parent.path()] {
            let error = run(args(path)).unwrap_err();
            assert!(error.downcast_ref::<Refused>().is_none(), "{error}");
            assert!(
                error.to_string().starts_with(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
