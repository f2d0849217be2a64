//! Runs of the Python scripts in `conformance/`, and the tensors that they read
//! and write.

use crate::embedded;
use crate::venv::Venv;
use anyhow::{Context, Result, bail};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// A run of a script of `conformance` that the program brings along.
///
/// # Errors
/// It cannot be written to where Python reads it.
pub fn script(
    venv: &Venv,
    script: &str,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Command> {
    let script = embedded::path(&format!("conformance/{script}"))?;
    run(venv, &script, args)
}

/// A run of a script with arguments.
///
/// # Errors
/// The folder that it runs in cannot be made.
pub fn run(
    venv: &Venv,
    script: &Path,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Command> {
    let mut command = venv.python()?;
    command.arg(script);
    command.args(args.into_iter().map(Into::into));
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end and gives what it printed. One that a signal killed
/// is run once more, with a message: Core AI's runtime has been seen to abort,
/// once in about 150 runs, on a busy machine, and the same run succeeds then.
///
/// # Errors
/// It fails; the message has all of its output.
pub fn output(command: &mut Command) -> Result<String> {
    let mut attempt = || {
        let output = command.output();
        output.with_context(|| format!("{} does not start", command.get_program().display()))
    };
    let mut output = attempt()?;
    // No exit code: a signal.
    if output.status.code().is_none() {
        let printed = String::from_utf8_lossy(&output.stderr);
        eprintln!(
            "Core AI's runtime ended with {}, and is run again; it printed: {printed}",
            output.status
        );
        output = attempt()?;
    }
    if !output.status.success() {
        bail!(
            "{} ended with {}:\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} printed something that is not UTF-8", line(command)))
}

/// The script or program of a command with its arguments, for messages.
fn line(command: &Command) -> String {
    let words = command
        .get_args()
        .map(|arg| embedded::shown(Path::new(arg)));
    words.collect::<Vec<_>>().join(" ")
}

/// Tensors on their way to a script: name, shape, and values.
#[derive(Default)]
pub struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Adds i32 values.
    pub fn i32(&mut self, name: impl Into<String>, values: &[i32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.0
            .push((name.into(), Dtype::I32, vec![values.len()], bytes.collect()));
    }

    /// Adds f32 values of this shape.
    pub fn f32(&mut self, name: impl Into<String>, shape: Vec<usize>, values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.0
            .push((name.into(), Dtype::F32, shape, bytes.collect()));
    }

    /// Adds a matrix of f16 values.
    pub fn f16(&mut self, name: impl Into<String>, columns: usize, values: &[f16]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let shape = vec![values.len() / columns, columns];
        self.0
            .push((name.into(), Dtype::F16, shape, bytes.collect()));
    }

    /// Writes them to a safetensors file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut views = Vec::new();
        for (name, dtype, shape, bytes) in &self.0 {
            views.push((
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes)?,
            ));
        }
        safetensors::serialize_to_file(views, None, path)
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// No file of tensors that scripts write is larger, in bytes: logits of a few
/// prompts of a small model.
const MAX_TENSORS: u64 = 1 << 30;

/// Tensors of a safetensors file, all values as f64, and its metadata.
pub struct Recorded {
    /// By name: the shape and the values.
    pub tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
    /// Strings by name.
    pub metadata: HashMap<String, String>,
}

impl Recorded {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Recorded> {
        let read = || -> Result<Recorded> {
            let bytes = fsutil::read(path, MAX_TENSORS)?;
            let (_, header) = SafeTensors::read_metadata(&bytes)?;
            let mut tensors = HashMap::new();
            for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
                let data = view.data();
                let values = match view.dtype() {
                    Dtype::F32 => read_as(data, |b: [u8; 4]| f32::from_le_bytes(b).into()),
                    Dtype::F16 => read_as(data, |b: [u8; 2]| f16::from_le_bytes(b).into()),
                    Dtype::I32 => read_as(data, |b: [u8; 4]| i32::from_le_bytes(b).into()),
                    other => bail!("{name} is {other:?}, expected F32, F16 or I32"),
                };
                tensors.insert(name, (view.shape().to_vec(), values));
            }
            let metadata = header.metadata().clone().unwrap_or_default();
            Ok(Recorded { tensors, metadata })
        };
        read().with_context(|| format!("{} cannot be read", path.display()))
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> Result<&(Vec<usize>, Vec<f64>)> {
        self.tensors
            .get(name)
            .with_context(|| format!("the recorded file has no tensor {name}"))
    }

    /// One tensor of whole numbers.
    pub fn ints(&self, name: &str) -> Result<Vec<i32>> {
        Ok(self
            .get(name)?
            .1
            .iter()
            .map(|value| *value as i32)
            .collect())
    }
}

fn read_as<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let chunks = bytes.as_chunks::<N>().0;
    chunks.iter().map(|bytes| value(*bytes)).collect()
}
