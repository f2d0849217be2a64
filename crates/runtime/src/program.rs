//! Programs, their functions, and calls of them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use aimodel::{Module, Parameter, Summary, TensorType};
use candle_core::{Device, Tensor};

use crate::{
    backend::{self, Backend, Call},
    error::{Error, OpResult, Problem, Result, refuse},
    fuse,
    graph::{self, Constants, Graph, Source, Step},
    ops::{Op, bounds},
    options::Options,
    states::{Cell, States},
    thread_pool::ThreadPool,
    value::{Ints, Value, float_dtype},
};

/// Which rows of its outputs a call computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputRows {
    /// All.
    All,
    /// This one alone, where an output `[1, S, V]` is a fused product with a
    /// constant matrix: the output is then `[1, 1, V]`, and its elements differ
    /// from those of [`OutputRows::All`] by the order of sums at most. Other
    /// outputs have all rows.
    One(usize),
}

/// A program that was loaded for a device.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, TensorType};
/// use candle_core::{Device, Tensor};
/// use runtime::{Options, Program, States};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let x = graph.input("x", TensorType::fixed([2], ElementType::F32))?;
/// let y = graph.mul(x, x)?;
/// graph.finish(&[("y", y)])?;
///
/// let program = Program::new(&asset.finish()?, Device::Cpu, Options::default())?;
/// let main = program.function("main")?;
/// let x = Tensor::new(&[2_f32, 3.0], &Device::Cpu)?;
/// let outputs = main.run(&[("x", x)], &mut States::new())?;
/// assert_eq!(outputs[0].0, "y");
/// assert_eq!(outputs[0].1.to_vec1::<f32>()?, [4.0, 9.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    backend: Arc<dyn Backend>,
    graphs: Vec<Graph>,
    functions: Vec<aimodel::Function>,
    constants: Vec<Value>,
    /// The pool that its kernels run on, if it has one of its own.
    threads: Option<ThreadPool>,
}

impl Program {
    /// Opens an asset folder, verifies the program and compiles it for a device.
    ///
    /// The program is read into memory, where its large constants stay on the
    /// CPU. To leave them in the file, open it with `aimodel::open_asset_mmap`
    /// and give its module to [`new`](Self::new).
    ///
    /// # Errors
    /// An asset that cannot be read or is not valid, or an operation that this
    /// runtime does not know. Whether the program has the hash that the asset
    /// states is left to [`aimodel::Asset::check_hash`].
    pub fn load(dir: impl AsRef<Path>, device: Device, options: Options) -> Result<Self> {
        let asset = aimodel::open_asset(dir)?;
        Self::new(&asset.module, device, options)
    }

    /// Compiles a module for a device.
    ///
    /// # Errors
    /// As for [`Program::load`].
    pub fn new(module: &Module, device: Device, options: Options) -> Result<Self> {
        aimodel::verify(module)?;
        let views = aimodel::graphs(module)?;
        let names = views.iter().enumerate();
        let names: HashMap<String, usize> = names
            .map(|(index, view)| (view.name.to_string(), index))
            .collect();
        let composites: Vec<_> = views
            .iter()
            .map(|view| fuse::composite(view).map(Arc::new))
            .collect();
        let mut constants = Constants::default();
        let mut graphs = views
            .iter()
            .map(|view| graph::compile(view, &names, &mut constants))
            .collect::<Result<Vec<_>>>()?;
        for graph in &mut graphs {
            graph.set_accumulate(options.accumulate);
            if options.fuse {
                fuse::calls(graph, &composites);
            }
        }
        let backend = backend::of(&device).map_err(|problem| Error::Device(problem.0))?;
        backend.fuse(&mut graphs, &mut constants, options.fuse)?;
        graphs.iter_mut().for_each(Graph::tidy);
        let constants = place(constants.values, &graphs, &device)?;
        Ok(Self {
            backend,
            graphs,
            functions: Summary::of(module)?.functions,
            constants,
            threads: None,
        })
    }

    /// Runs its kernels on the threads of `pool` from now on, in place of the
    /// global pool. Results are the same, bit for bit, with any pool.
    #[must_use]
    pub fn with_thread_pool(self, pool: ThreadPool) -> Self {
        Self {
            threads: Some(pool),
            ..self
        }
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.backend.device()
    }

    /// Its functions: their names, inputs, states and outputs.
    pub fn functions(&self) -> &[aimodel::Function] {
        &self.functions
    }

    /// A function by its name.
    ///
    /// # Errors
    /// There is no such function.
    pub fn function(&self, name: &str) -> Result<Function<'_>> {
        let found = self.functions.iter().find(|f| f.name == name);
        let graph = self.graphs.iter().position(|graph| graph.name == name);
        match (found, graph) {
            (Some(signature), Some(graph)) => Ok(Function {
                program: self,
                signature,
                graph,
            }),
            _ => {
                let known: Vec<&str> = self.functions.iter().map(|f| f.name.as_str()).collect();
                Err(Error::Function {
                    name: name.to_owned(),
                    known: known.join(", "),
                })
            }
        }
    }

    fn run(
        &self,
        call: &dyn Call,
        graph: &Graph,
        arguments: Vec<Value>,
        cells: &mut [Cell],
        rows: OutputRows,
    ) -> Result<Vec<Value>> {
        let mut slots: Vec<Option<Value>> = arguments.into_iter().map(Some).collect();
        slots.resize(graph.slots, None);
        for step in &graph.steps {
            let operands = step.operands.iter().map(|source| match source {
                Source::Slot(slot) => slots[*slot].as_ref().unwrap_or(&Value::Token),
                Source::Constant(index) => &self.constants[*index],
            });
            let operands: Vec<&Value> = operands.collect();
            let results = match step.op {
                Op::Invoke(callee) => {
                    let arguments = operands.into_iter().cloned().collect();
                    self.run(
                        call,
                        &self.graphs[callee],
                        arguments,
                        cells,
                        OutputRows::All,
                    )?
                }
                Op::Fused(ref op)
                    if rows != OutputRows::All && op.by_rows() && graph.is_output_of(step) =>
                {
                    self.one_row(step, &operands, rows)
                        .map_err(|problem| graph.error(step, &operands, problem))?
                }
                _ => self
                    .step(step, &operands, &slots, cells)
                    .map_err(|problem| graph.error(step, &operands, problem))?,
            };
            for (slot, value) in step.results.iter().zip(results) {
                slots[*slot] = Some(value);
            }
            for slot in &step.last_uses {
                if let Some(last) = slots[*slot].take() {
                    call.retire(last);
                }
            }
        }
        let outputs = graph.outputs.iter().map(|source| match source {
            Source::Slot(slot) => slots[*slot].clone().unwrap_or(Value::Token),
            Source::Constant(index) => self.constants[*index].clone(),
        });
        Ok(outputs.collect())
    }

    /// A fused product that is an output, for the rows that are wanted.
    fn one_row(&self, step: &Step, operands: &[&Value], rows: OutputRows) -> OpResult<Vec<Value>> {
        match (rows, operands) {
            (OutputRows::One(row), [Value::Float(x), rest @ ..])
                if x.rank() == 3 && row < x.dims()[1] =>
            {
                let x = Value::Float(x.narrow(1, row, 1)?);
                let operands = [&[&x], rest].concat();
                Ok(vec![step.op.run(&*self.backend, &operands)?])
            }
            _ => Ok(vec![step.op.run(&*self.backend, operands)?]),
        }
    }

    fn step(
        &self,
        step: &Step,
        operands: &[&Value],
        slots: &[Option<Value>],
        cells: &mut [Cell],
    ) -> OpResult<Vec<Value>> {
        let cell = |cells: &mut [Cell], value: Option<&Value>| match value {
            Some(Value::Handle(index)) if *index < cells.len() => Ok(*index),
            _ => refuse("expected a state as the operand"),
        };
        match step.op {
            Op::ReadHandle => {
                let at = cell(cells, operands.first().copied())?;
                Ok(vec![Value::Float(cells[at].tensor.clone()), Value::Token])
            }
            Op::WriteHandle => {
                let at = cell(cells, operands.first().copied())?;
                let content = match operands.get(1) {
                    Some(value) => value.float(self.device())?,
                    None => return refuse("an operand is missing"),
                };
                cells[at].write(&content)?;
                Ok(vec![Value::Token])
            }
            Op::UpdateHandle(handle) => {
                let at = cell(cells, slots.get(handle).and_then(Option::as_ref))?;
                let [_, begin, end, stride, update] = operands else {
                    return refuse("expected five operands");
                };
                let cell = &mut cells[at];
                let parts = bounds(
                    cell.tensor.dims(),
                    &begin.ints()?,
                    &end.ints()?,
                    &stride.ints()?,
                    true,
                )?;
                cell.update(&*self.backend, &parts, &update.float(self.device())?)?;
                Ok(vec![Value::Float(cell.tensor.clone())])
            }
            _ => Ok(vec![step.op.run(&*self.backend, operands)?]),
        }
    }
}

impl Graph {
    /// Whether the results of a step are outputs, and nothing else.
    fn is_output_of(&self, step: &Step) -> bool {
        step.results.iter().all(|slot| {
            let source = Source::Slot(*slot);
            self.outputs.contains(&source)
                && !self
                    .steps
                    .iter()
                    .any(|step| step.operands.contains(&source))
        })
    }

    /// A problem with the products that are put together.
    pub(crate) fn fusion_error(&self, problem: Problem) -> Error {
        Error::Graph {
            graph: self.name.clone(),
            index: 0,
            op: "batch_matmul".to_owned(),
            problem: problem.0,
        }
    }

    /// A problem of a step, with the place where it arose.
    pub(crate) fn error(&self, step: &Step, operands: &[&Value], problem: Problem) -> Error {
        let operands: Vec<String> = operands.iter().map(|value| value.to_string()).collect();
        Error::Step {
            graph: self.name.clone(),
            index: step.index,
            op: step.name.clone(),
            operands: format!("({})", operands.join(", ")),
            problem: problem.0,
        }
    }
}

/// Moves the constants that steps still take to the device, and drops the rest.
fn place(values: Vec<Value>, graphs: &[Graph], device: &Device) -> Result<Vec<Value>> {
    let sources = graphs.iter().flat_map(|graph| {
        let operands = graph.steps.iter().flat_map(|step| &step.operands);
        operands.chain(&graph.outputs)
    });
    let taken: HashSet<usize> = sources
        .filter_map(|source| match source {
            Source::Constant(index) => Some(*index),
            Source::Slot(_) => None,
        })
        .collect();
    let values = values.into_iter().enumerate().map(|(index, value)| {
        Ok(match value {
            _ if !taken.contains(&index) => Value::Token,
            Value::Float(tensor) => {
                let moved = tensor.to_device(device);
                Value::from(moved.map_err(|problem| Error::Constant {
                    constant: Value::Float(tensor).to_string(),
                    problem: problem.0,
                })?)
            }
            Value::Mapped(mapped) if !device.is_cpu() && float_dtype(mapped.element).is_some() => {
                let value = Value::Mapped(mapped);
                Value::Float(value.float(device).map_err(|problem| Error::Constant {
                    constant: value.to_string(),
                    problem: problem.0,
                })?)
            }
            other => other,
        })
    });
    values.collect()
}

/// A function of a program.
#[derive(Clone, Copy, Debug)]
pub struct Function<'p> {
    program: &'p Program,
    signature: &'p aimodel::Function,
    graph: usize,
}

impl<'p> Function<'p> {
    /// Its name.
    pub fn name(&self) -> &'p str {
        &self.signature.name
    }

    /// The inputs of a call.
    pub fn inputs(&self) -> &'p [Parameter] {
        &self.signature.inputs
    }

    /// The states, which [`States`] keeps between calls.
    pub fn states(&self) -> &'p [Parameter] {
        &self.signature.states
    }

    /// The outputs of a call.
    pub fn outputs(&self) -> &'p [Parameter] {
        &self.signature.outputs
    }

    /// The type of an input; `None` where there is none of that name.
    pub fn input(&self, name: &str) -> Option<&'p TensorType> {
        let found = self.signature.inputs.iter().find(|p| p.name == name);
        found.map(|parameter| &parameter.ty)
    }

    /// Calls it. Inputs are given by name, in any order and on any device;
    /// integers may have any integer dtype. Outputs are named as the function
    /// declares them; integers are i64 on the host. States that `states` does
    /// not have yet start as zeros. After an error they may hold a part of what
    /// the call would have written.
    ///
    /// # Errors
    /// Inputs that are not those of the function, states of another type, or
    /// an operation that fails; the message names it.
    pub fn run(
        &self,
        inputs: &[(&str, Tensor)],
        states: &mut States,
    ) -> Result<Vec<(String, Tensor)>> {
        self.run_rows(inputs, states, OutputRows::All)
    }

    /// Calls it as [`Function::run`] does, and computes only some rows of its
    /// outputs.
    ///
    /// # Errors
    /// As for [`Function::run`].
    pub fn run_rows(
        &self,
        inputs: &[(&str, Tensor)],
        states: &mut States,
        rows: OutputRows,
    ) -> Result<Vec<(String, Tensor)>> {
        let _threads = self.program.threads.as_ref().map(ThreadPool::enter);
        let graph = &self.program.graphs[self.graph];
        let wrong = |name: &str, expected: String, found: String| Error::Input {
            function: self.signature.name.clone(),
            name: name.to_owned(),
            expected,
            found,
        };
        for (name, tensor) in inputs {
            if self.input(name).is_none() {
                let known: Vec<&str> = self.inputs().iter().map(|p| p.name.as_str()).collect();
                let found = describe(tensor);
                return Err(wrong(name, format!("one of {}", known.join(", ")), found));
            }
        }
        let mut values = Vec::with_capacity(self.inputs().len());
        for parameter in self.inputs() {
            let given = inputs.iter().find(|(name, _)| *name == parameter.name);
            let Some((name, tensor)) = given else {
                let found = "nothing".to_owned();
                return Err(wrong(&parameter.name, parameter.ty.to_string(), found));
            };
            let value = input(tensor, &parameter.ty, self.program.device())?;
            values.push(value.ok_or_else(|| {
                let (expected, found) = (parameter.ty.to_string(), describe(tensor));
                wrong(name, expected, found)
            })?);
        }
        let call = self.program.backend.begin();
        let call = call.map_err(|problem| Error::Device(problem.0))?;
        let mut cells = Vec::new();
        for parameter in self.states() {
            match states.take(&parameter.name, &parameter.ty, self.program.device()) {
                Ok(cell) => cells.push(cell),
                Err(error) => {
                    self.put_back(states, cells);
                    return Err(error);
                }
            }
        }
        let (mut values, mut handles) = (values.into_iter(), 0..cells.len());
        let arguments = graph.arguments.iter().filter_map(|is_state| {
            if *is_state {
                handles.next().map(Value::Handle)
            } else {
                values.next()
            }
        });
        let arguments = arguments.collect();
        let results = self.program.run(&*call, graph, arguments, &mut cells, rows);
        let results = results.and_then(|results| {
            let finished = call.finish();
            finished.map_err(|problem| Error::Device(problem.0))?;
            Ok(results)
        });
        self.put_back(states, cells);
        let values = results?.into_iter().zip(&graph.shared);
        let values = values.filter(|(value, _)| !matches!(value, Value::Token));
        let outputs = values.zip(self.outputs()).map(|((value, shared), output)| {
            let tensor = match value {
                Value::Ints(ints) => ints.to_tensor(),
                other => other
                    .float(self.program.device())
                    .and_then(|tensor| call.detach(tensor)),
            };
            let tensor = tensor.map_err(|problem| Error::Output {
                function: self.signature.name.clone(),
                name: output.name.clone(),
                problem: problem.0,
            })?;
            let tensor = if *shared {
                tensor.force_contiguous()?
            } else {
                tensor
            };
            Ok((output.name.clone(), tensor))
        });
        outputs.collect()
    }

    fn put_back(&self, states: &mut States, cells: Vec<Cell>) {
        for (parameter, cell) in self.states().iter().zip(cells) {
            states.put(&parameter.name, cell);
        }
    }
}

fn describe(tensor: &Tensor) -> String {
    format!("{:?} of {}", tensor.dims(), tensor.dtype().as_str())
}

/// An input as a value; `None` where it does not have the type.
fn input(tensor: &Tensor, ty: &TensorType, device: &Device) -> Result<Option<Value>> {
    let fits = tensor.rank() == ty.rank()
        && tensor
            .dims()
            .iter()
            .zip(&ty.dims)
            .all(|(have, dim)| dim.known().is_none_or(|extent| extent == *have as u64));
    if !fits || tensor.dtype().is_float() != float_dtype(ty.element).is_some() {
        return Ok(None);
    }
    if let Some(dtype) = float_dtype(ty.element) {
        // CUDA cannot allocate 0 bytes.
        let tensor = match tensor.elem_count() {
            0 => tensor.to_device(&Device::Cpu)?,
            _ => tensor.to_device(device)?,
        };
        return Ok(Some(Value::from(tensor.to_dtype(dtype)?)));
    }
    let values = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    let values = values.to_dtype(candle_core::DType::I64)?.to_vec1::<i64>()?;
    let dims = tensor.dims().to_vec();
    Ok(Some(Value::Ints(Ints::new(ty.element, dims, values))))
}
