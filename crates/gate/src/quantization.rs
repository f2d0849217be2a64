//! How far int8 weights are from the f16 weights that they stand for.
//!
//! Nothing is judged by this: what the quantizer does is fixed to the bit, and
//! the stage weights holds the artifact to it. It shows where a model suffers.

use std::{collections::BTreeMap, io};

use aimodel::{Attribute, Blob, ElementType, Module, ResourceValue, TensorType, Type, graphs};
use half::f16;
use models::{Architecture, Parameter, Role};
use quantize::{BlockFormat, Recipe, Storage};
use rayon::prelude::*;

use crate::{
    Result,
    transcript::{Axis, Measure, Series},
};

/// How many groups the rows of a head are shown in.
const GROUPS: usize = 256;
/// Behind the name of a matrix: its integers.
const DATA: &str = ".data";
/// Behind the name of a matrix: the scales of their blocks.
const SCALE: &str = ".scale";

/// What [`errors`] gives.
#[derive(Debug)]
pub struct Errors {
    /// The error of each decoder layer, and that of the head by groups of rows.
    pub series: Vec<Series>,
    /// Matrices that are stored otherwise than measured here, each with what it
    /// is instead.
    pub left_out: Vec<String>,
}

/// The error of each decoder layer, and that of the head by groups of rows: the
/// root of the sum of squared differences over that of squared weights. `exact`
/// is the same decoder with weights of f16, and `recipe` is how the other one
/// stores them.
///
/// A decoder without quantized weights has none, nor has one whose constants are
/// not named after the checkpoint's parameters.
///
/// # Errors
/// A program that cannot be read, or weights that cannot be.
pub fn errors(
    decoder: &Module,
    exact: &Module,
    architecture: &dyn Architecture,
    recipe: &Recipe,
) -> Result<Errors> {
    let names = Names::new(architecture.parameters());
    let (stored, exact) = (blobs(decoder), blobs(exact));
    let types = types(decoder)?;
    let mut left_out = Vec::new();
    let mut matrices = Vec::new();
    for (key, data) in &stored {
        let Some(name) = key.strip_suffix(DATA) else {
            continue;
        };
        let scale_key = format!("{name}{SCALE}");
        let Some(scales) = stored.get(scale_key.as_str()) else {
            continue;
        };
        let ty = types.get(key);
        let Some(part) = names.part(name, ty) else {
            continue;
        };
        let tied = if part == Part::Head {
            exact.get(names.embedding.name.as_str())
        } else {
            None
        };
        let Some(weights) = exact.get(name).or(tied) else {
            continue;
        };
        let storage = match part {
            Part::Layer(_) => recipe.body,
            Part::Head => recipe.head,
        };
        match block_format(storage, ty, types.get(scale_key.as_str())) {
            Ok(format) => matrices.push((part, format, *data, *scales, *weights)),
            Err(problem) => left_out.push(format!("{name}: {problem}")),
        }
    }
    let hidden = names.embedding.shape.last().copied().unwrap_or_default();
    let measured = matrices
        .par_iter()
        .map(|(part, format, data, scales, weights)| {
            let row = match part {
                Part::Head => hidden,
                Part::Layer(_) => usize::MAX,
            };
            let mut meter = Meter::new(bytes(data), bytes(scales), format.block, row);
            weights.write_to(&mut meter).map_err(aimodel::Error::from)?;
            Ok((*part, meter.end()))
        });
    let measured = measured.collect::<Result<Vec<_>>>()?;

    let mut by_layer = vec![Sums::default(); architecture.layers()];
    let mut series = Vec::new();
    for (part, rows) in measured {
        match part {
            Part::Layer(layer) => {
                if let Some(layer) = by_layer.get_mut(layer) {
                    rows.iter().for_each(|row| layer.add(row));
                }
            }
            Part::Head if rows.is_empty() => {}
            Part::Head => {
                let step = rows.len().div_ceil(GROUPS);
                let worst = rows.chunks(step).map(|group| {
                    let errors = group.iter().map(Sums::relative);
                    errors.fold(0.0, f64::max)
                });
                series.push(Series {
                    what: "int8 against f16, relative error: the worst row of each group"
                        .to_owned(),
                    measure: Measure::Error,
                    prompt: None,
                    axis: Axis::HeadRow,
                    first: 0,
                    step,
                    values: worst.collect(),
                    bar: None,
                });
            }
        }
    }
    if by_layer.iter().any(|sums| sums.weight > 0.0) {
        series.insert(
            0,
            Series {
                what: "int8 against f16, relative error of a layer's matrices".to_owned(),
                measure: Measure::Error,
                prompt: None,
                axis: Axis::Layer,
                first: 0,
                step: 1,
                values: by_layer.iter().map(Sums::relative).collect(),
                bar: None,
            },
        );
    }
    Ok(Errors { series, left_out })
}

/// What a matrix belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The decoder layer of this number.
    Layer(usize),
    /// The head.
    Head,
}

/// The names by which a decoder's constants are known.
struct Names {
    /// What the names of a layer's parameters begin with, and its number.
    /// Matrices that are stored as one have a name of their own behind it.
    layers: BTreeMap<String, usize>,
    /// The head's, unless it is tied to the table of token embeddings.
    head: Option<String>,
    /// That table.
    embedding: Parameter,
}

impl Names {
    fn new(parameters: Vec<Parameter>) -> Names {
        let mut names = Names {
            layers: BTreeMap::new(),
            head: None,
            embedding: Parameter {
                name: String::new(),
                shape: Vec::new(),
                role: Role::Embedding,
            },
        };
        for parameter in parameters {
            match parameter.role {
                Role::Body => names.layers.extend(layer(&parameter.name)),
                Role::Head => names.head = Some(parameter.name),
                Role::Embedding => names.embedding = parameter,
                Role::Vision | Role::Norm | Role::Bias => {}
            }
        }
        names
    }

    /// What the constant of this name and type belongs to.
    fn part(&self, name: &str, ty: Option<&TensorType>) -> Option<Part> {
        if let Some(number) = layer(name).and_then(|(prefix, _)| self.layers.get(&prefix)) {
            return Some(Part::Layer(*number));
        }
        let is_head = match &self.head {
            Some(head) => head == name,
            // The copy of a tied head has no parameter. Of all that belongs to no
            // layer, only it is as large as the table.
            None => {
                let shape = self.embedding.shape.iter().map(|extent| *extent as u64);
                let dims = ty.and_then(TensorType::static_dims);
                name != self.embedding.name && dims.is_some_and(|dims| shape.eq(dims))
            }
        };
        is_head.then_some(Part::Head)
    }
}

/// What the name of a layer's parameter begins with, up to the layer's number,
/// which is the first that is a part of the name by itself; and that number.
fn layer(name: &str) -> Option<(String, usize)> {
    let mut end = 0;
    for part in name.split_inclusive('.') {
        end += part.len();
        if let Some(Ok(number)) = part.strip_suffix('.').map(str::parse) {
            return Some((name[..end].to_owned(), number));
        }
    }
    None
}

/// How a matrix is stored in blocks, if its data and scales have the types that
/// this has; or what they are instead.
fn block_format(
    storage: Storage,
    data: Option<&TensorType>,
    scale: Option<&TensorType>,
) -> Result<BlockFormat, String> {
    let Storage::Block(format) = storage else {
        return Err(format!("quantized, and the recipe stores it as {storage}"));
    };
    let (Some(data), Some(scale)) = (data, scale) else {
        return Err("no operation has its type".to_owned());
    };
    let count = |ty: &TensorType| ty.element_count().and_then(|count| count.try_into().ok());
    let blocks = count(data).map(|count: usize| count / format.block.max(1));
    if (format.bits, data.element) == (8, ElementType::Si8)
        && scale.element == ElementType::F16
        && blocks == count(scale)
    {
        Ok(format)
    } else {
        Err(format!("{data} by {scale}, expected si8 {format}"))
    }
}

/// The type of each constant that is a resource, by its key.
fn types(module: &Module) -> Result<BTreeMap<&str, TensorType>> {
    let mut types = BTreeMap::new();
    for graph in graphs(module)? {
        for op in graph.operations() {
            let (Some(content), [result]) = (graph.property(op, "value"), &op.results[..]) else {
                continue;
            };
            let Ok(Attribute::DenseResource(id)) = Attribute::read(module, content) else {
                continue;
            };
            if let (Some((_, resource)), Ok(Type::Tensor(ty))) =
                (module.resources.get(id.index()), Type::of(module, *result))
            {
                types.insert(&*resource.key, ty);
            }
        }
    }
    Ok(types)
}

fn blobs(module: &Module) -> BTreeMap<&str, &Blob> {
    let resources = module.resources.iter();
    let blobs = resources.filter_map(|(_, resource)| match &resource.value {
        ResourceValue::Blob { data, .. } => Some((&*resource.key, data)),
        _ => None,
    });
    blobs.collect()
}

/// An asset's blobs lie in the mapped file.
fn bytes(blob: &Blob) -> &[u8] {
    blob.as_slice().unwrap_or_default()
}

/// Squared differences, and squared weights.
#[derive(Clone, Debug, Default)]
struct Sums {
    difference: f64,
    weight: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.difference += other.difference;
        self.weight += other.weight;
    }

    fn relative(&self) -> f64 {
        match self.weight {
            0.0 => 0.0,
            weight => (self.difference / weight).sqrt(),
        }
    }
}

/// Takes the f16 weights of a matrix, in any portions, and measures block by block.
struct Meter<'b> {
    data: &'b [u8],
    scales: &'b [u8],
    /// Elements that share a scale.
    block: usize,
    /// Elements of a row.
    row: usize,
    /// Elements seen.
    seen: usize,
    rest: Vec<u8>,
    rows: Vec<Sums>,
}

impl<'b> Meter<'b> {
    fn new(data: &'b [u8], scales: &'b [u8], block: usize, row: usize) -> Self {
        Self {
            data,
            scales,
            block: block.max(1),
            row: row.max(1),
            seen: 0,
            rest: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn end(self) -> Vec<Sums> {
        self.rows
    }

    /// Measures the next block, `weights` of f16.
    fn measure(&mut self, weights: &[u8]) {
        let (block, row) = (self.seen / self.block, self.seen / self.row);
        self.seen += self.block;
        let scale = self.scales.get(2 * block..2 * block + 2);
        let data = self.data.get(block * self.block..(block + 1) * self.block);
        let (Some(&[low, high]), Some(data)) = (scale, data) else {
            return;
        };
        let scale = f16::from_le_bytes([low, high]).to_f32();
        let mut sums = [0f32; 2];
        for (weight, byte) in weights.as_chunks::<2>().0.iter().zip(data) {
            let exact = f16::from_le_bytes(*weight).to_f32();
            let difference = exact - f32::from(*byte as i8) * scale;
            sums[0] += difference * difference;
            sums[1] += exact * exact;
        }
        if self.rows.len() <= row {
            self.rows.resize(row + 1, Sums::default());
        }
        self.rows[row].add(&Sums {
            difference: sums[0].into(),
            weight: sums[1].into(),
        });
    }
}

impl io::Write for Meter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes;
        let (len, block) = (bytes.len(), 2 * self.block);
        if !self.rest.is_empty() {
            let more = (block - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if self.rest.len() == block {
                let whole = std::mem::take(&mut self.rest);
                self.measure(&whole);
            }
        }
        let mut blocks = bytes.chunks_exact(block);
        for block in &mut blocks {
            self.measure(block);
        }
        self.rest.extend_from_slice(blocks.remainder());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aimodel::{AssetBuilder, Blob};
    use checkpoint::Source;

    use super::*;
    use std::io::Write;

    #[test]
    fn portions_of_any_size_give_the_same() {
        let weights: Vec<u8> = (0..256u32)
            .flat_map(|n| f16::from_f32((n as f32).sin()).to_le_bytes())
            .collect();
        let data: Vec<u8> = (0..256u32)
            .map(|n| ((n as f32).sin() * 100.0).round() as i8 as u8)
            .collect();
        let scales = f16::from_f32(0.01).to_le_bytes().repeat(8);
        let measure = |portion: usize| {
            let mut meter = Meter::new(&data, &scales, quantize::BLOCK, 64);
            weights
                .chunks(portion)
                .for_each(|p| meter.write_all(p).unwrap());
            let rows = meter.end();
            rows.iter().map(|row| row.relative()).collect::<Vec<_>>()
        };
        let whole = measure(512);
        assert_eq!(whole.len(), 4);
        assert!(
            whole.iter().all(|error| (1e-4..1e-2).contains(error)),
            "{whole:?}"
        );
        for portion in [1, 7, 63, 64, 65, 200] {
            assert_eq!(measure(portion), whole);
        }
    }

    /// A program with constants of these types, all of whose bytes are `byte`.
    fn program(constants: &[(String, TensorType)], byte: u8) -> Module {
        let mut asset = AssetBuilder::new();
        let mut main = asset.graph("main");
        let mut results = Vec::new();
        for (key, ty) in constants {
            let size = match ty.element {
                ElementType::F16 => 2,
                _ => 1,
            };
            let bytes = vec![byte; size * ty.element_count().unwrap() as usize];
            let value = main.resource(ty.clone(), key, || Blob::new(bytes));
            results.push((key.as_str(), value.unwrap()));
        }
        main.finish(&results).unwrap();
        asset.finish().unwrap()
    }

    #[test]
    fn what_is_not_si8_is_left_out_by_name() {
        let architecture = models::open(&Source::nano()).unwrap();
        let parameters = architecture.parameters();
        let mut body = parameters.iter().filter(|one| one.role == Role::Body);
        let (good, bad) = (body.next().unwrap(), body.next().unwrap());
        let recipe = Recipe::named("int8lin").unwrap();
        let dims = |cols: u64| [64, cols];
        let mut stored = Vec::new();
        for (parameter, element) in [(good, ElementType::Si8), (bad, ElementType::Ui8)] {
            let data = TensorType::fixed(dims(64), element);
            let scale = TensorType::fixed(dims(2), ElementType::F16);
            stored.push((format!("{}{DATA}", parameter.name), data));
            stored.push((format!("{}{SCALE}", parameter.name), scale));
        }
        let exact = [good, bad].map(|parameter| {
            let ty = TensorType::fixed(dims(64), ElementType::F16);
            (parameter.name.clone(), ty)
        });
        let found = errors(
            &program(&stored, 1),
            &program(&exact, 2),
            architecture.as_ref(),
            recipe,
        )
        .unwrap();
        let [layers] = &found.series[..] else {
            panic!("{:?}", found.series);
        };
        assert_eq!(layers.values.len(), architecture.layers());
        assert!(layers.values[0] > 0.0 && layers.values[1..].iter().all(|one| *one == 0.0));
        let [left_out] = &found.left_out[..] else {
            panic!("{:?}", found.left_out);
        };
        assert!(left_out.starts_with(&bad.name), "{left_out}");
        assert!(
            left_out.contains("ui8") && left_out.contains("expected si8"),
            "{left_out}"
        );
    }

    #[test]
    fn constants_are_known_by_the_roles_of_parameters() {
        let architecture = models::open(&Source::nano()).unwrap();
        let mut parameters = architecture.parameters();
        parameters.retain(|one| one.role != Role::Head);
        let first = parameters.iter().find(|one| one.role == Role::Body);
        let first = first.unwrap().name.clone();
        let fused = format!("{}of several", layer(&first).unwrap().0);
        let table = parameters.iter().find(|one| one.role == Role::Embedding);
        let dims: Vec<u64> = table.unwrap().shape.iter().map(|n| *n as u64).collect();
        let ty = TensorType::fixed(dims, ElementType::Si8);
        let tied = Names::new(parameters.clone());
        assert_eq!(tied.part(&first, None), Some(Part::Layer(0)));
        assert_eq!(tied.part(&fused, None), Some(Part::Layer(0)));
        assert_eq!(tied.part("the head", Some(&ty)), Some(Part::Head));
        assert_eq!(tied.part("the head", None), None);
        parameters.push(Parameter {
            name: "the head".to_owned(),
            shape: Vec::new(),
            role: Role::Head,
        });
        let own = Names::new(parameters);
        assert_eq!(own.part("the head", None), Some(Part::Head));
        assert_eq!(own.part("another", Some(&ty)), None);
        assert_eq!(own.part("model.999.weight", None), None);
    }
}
