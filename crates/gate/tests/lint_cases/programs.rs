//! Programs with one fault each.

use std::path::Path;

use aimodel::{
    AssetBuilder, AttrId, Attribute, Composite, Dim, ElementType, Graph, GraphBuilder, Module,
    NAMESPACE, Operation, TensorType, Value,
};
use gate::transcript::Finding;
use mlir_bytecode::{Entry, Field};

use super::look;

const F16: ElementType = ElementType::F16;
const SI32: ElementType = ElementType::Si32;

fn row() -> TensorType {
    TensorType::fixed([2, 4], F16)
}

/// A program of one function of x [2, 4].
fn function(build: impl FnOnce(&mut GraphBuilder<'_>, Value) -> Value) -> Module {
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let x = main.input("x", row()).unwrap();
    let y = build(&mut main, x);
    main.finish(&[("y", y)]).unwrap();
    asset.finish().unwrap()
}

/// All operations of the graphs.
fn operations(module: &mut Module) -> impl Iterator<Item = &mut Operation> {
    let graphs = &mut module.root.regions[0].blocks[0].operations;
    graphs
        .iter_mut()
        .flat_map(|graph| &mut graph.regions[0].blocks[0].operations)
}

/// Gives operations another name: the builder makes no faulty ones.
fn rename(module: &mut Module, from: &str, to: &str) {
    let from = module.op_name(NAMESPACE, from, true);
    let to = module.op_name(NAMESPACE, to, true);
    let mut found = operations(module).filter(|op| op.name == from);
    let first = found.next().unwrap();
    first.name = to;
}

/// Floors, as coreai-torch stores them.
pub fn floors(at: &Path, count: usize) -> Vec<Finding> {
    let module = function(|main, x| {
        let one = main.scalar_f16(1.0).unwrap();
        (0..count).fold(x, |x, _| main.floor_divide(x, one).unwrap())
    });
    look(at, &module)
}

pub fn round(at: &Path) -> Vec<Finding> {
    let mut module = function(|main, x| main.cos(x).unwrap());
    rename(&mut module, "primitive.cos_v1", "primitive.round_v1");
    look(at, &module)
}

pub fn empty(at: &Path) -> Vec<Finding> {
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let x = main.input("x", TensorType::fixed([0, 4], F16)).unwrap();
    let y = main.add(x, x).unwrap();
    main.finish(&[("y", y)]).unwrap();
    look(at, &asset.finish().unwrap())
}

/// `rms_norm` that declares its inputs by these names; its arguments are `q` and
/// `k`.
pub fn inputs_of_kernel(at: &Path, names: &[&str]) -> Vec<Finding> {
    let mut asset = AssetBuilder::new();
    let norm = declared(&mut asset, ("rms_norm", ["q", "k"], KERNELS[0].2));
    let mut module = call(asset, &norm);
    let graph = &module.root.regions[0].blocks[0].operations[0];
    let properties = graph.properties.unwrap();
    let encoding = module.properties_encoding(properties).unwrap().clone();
    let mlir_bytecode::Encoding::Fields(mut fields) = encoding else {
        panic!("a graph has properties");
    };
    let Field::OptionalAttr(Some(declaration)) = fields[1] else {
        panic!("the graph is a composite");
    };
    let Ok(Attribute::Opaque(name, mut parts)) = Attribute::read(&module, declaration) else {
        panic!("a declaration is opaque");
    };
    for part in &mut parts {
        if let Attribute::Opaque(name, values) = part
            && name.as_ref() == "input_names"
        {
            let names = names.iter().map(|name| Attribute::string(name));
            *values = vec![Attribute::Array(names.collect())];
        }
    }
    let declaration = Attribute::Opaque(name, parts).intern(&mut module).unwrap();
    fields[1] = Field::OptionalAttr(Some(declaration));
    let properties = module.properties(fields);
    module.root.regions[0].blocks[0].operations[0].properties = Some(properties);
    look(at, &module)
}

/// `rms_norm` that declares only these attributes.
pub fn kernel(at: &Path, attributes: &[&str]) -> Vec<Finding> {
    let all = [
        ("axes", Attribute::si64(-1)),
        ("eps", Attribute::f32(1e-6)),
        ("version", Attribute::si64(1)),
    ];
    let op_attrs = all
        .into_iter()
        .filter(|(name, _)| attributes.contains(name));
    let mut asset = AssetBuilder::new();
    let mut norm = asset.composite("norm", Composite::new("rms_norm", op_attrs));
    let x = norm.input("input", row()).unwrap();
    let scale = norm.input("scale", row()).unwrap();
    let y = norm.mul(x, scale).unwrap();
    let norm = norm.finish(&[("output", y)]).unwrap();
    look(at, &call(asset, &norm))
}

/// A private graph that stays a call and says nothing of itself.
pub fn undeclared(at: &Path) -> Vec<Finding> {
    let mut asset = AssetBuilder::new();
    let norm = declared(&mut asset, KERNELS[0]);
    let mut module = call(asset, &norm);
    let graph = &module.root.regions[0].blocks[0].operations[0];
    let properties = graph.properties.unwrap();
    let encoding = module.properties_encoding(properties).unwrap().clone();
    let mlir_bytecode::Encoding::Fields(mut fields) = encoding else {
        panic!("a graph has properties");
    };
    fields[1] = Field::OptionalAttr(None);
    let properties = module.properties(fields);
    module.root.regions[0].blocks[0].operations[0].properties = Some(properties);
    look(at, &module)
}

/// A function that calls a graph of two rows.
fn call(mut asset: AssetBuilder, graph: &Graph) -> Module {
    let mut main = asset.graph("main");
    let x = main.input("x", row()).unwrap();
    let y = main.invoke(graph, &[x, x]).unwrap();
    main.finish(&[("y", y)]).unwrap();
    asset.finish().unwrap()
}

/// Puts an operation at another location.
fn relocate(at: &Path, locate: impl FnOnce(&mut Module, AttrId) -> AttrId) -> Vec<Finding> {
    let mut module = function(|main, x| main.add(x, x).unwrap());
    let location = operations(&mut module).next().unwrap().location;
    let location = locate(&mut module, location);
    operations(&mut module).next().unwrap().location = location;
    look(at, &module)
}

pub fn builtin_location(at: &Path) -> Vec<Finding> {
    relocate(at, |module, _| {
        module.dialect("builtin");
        // MLIR's unknown location.
        module.attribute(Entry::fields(&"builtin".into(), [Field::Int(15)]))
    })
}

pub fn fused_locations(at: &Path) -> Vec<Finding> {
    /// A location with others fused into it: `docs/format.md` has the fields.
    fn fuse(module: &mut Module, location: AttrId, with: AttrId) -> AttrId {
        let entry = module.attr_entry(location).unwrap();
        let fields = entry.as_fields().unwrap().to_vec();
        assert_eq!(fields[3], Field::Int(0));
        let mut fused = fields[..3].to_vec();
        fused.extend([Field::Int(1), Field::Attr(with)]);
        fused.extend_from_slice(&fields[4..]);
        module.attribute(Entry::fields(&NAMESPACE.into(), fused))
    }
    relocate(at, |module, location| {
        let inner = fuse(module, location, location);
        fuse(module, location, inner)
    })
}

/// Weights [4, 64] of si8 with scales of that shape.
pub fn scaled(at: &Path, scales: [u64; 2]) -> Vec<Finding> {
    let module = function(|main, x| {
        let count = (scales[0] * scales[1]) as usize;
        let si8 = |dims: [u64; 2]| TensorType::fixed(dims, ElementType::Si8);
        let data = main.dense(si8([4, 64]), &[7; 256]).unwrap();
        let scale = main
            .dense(TensorType::fixed(scales, F16), &vec![1; 2 * count])
            .unwrap();
        let zero = main.dense(si8(scales), &vec![0; count]).unwrap();
        let offset = main
            .dense(TensorType::fixed(scales, F16), &vec![0; 2 * count])
            .unwrap();
        let weight = main
            .blockwise_shift_scale(data, scale, zero, offset)
            .unwrap();
        main.batch_matmul(x, weight).unwrap()
    });
    look(at, &module)
}

pub fn palette(at: &Path) -> Vec<Finding> {
    let mut module = function(|main, x| {
        let axis = main.scalar_si32(1).unwrap();
        let indices = main
            .dense(TensorType::fixed([2, 4], SI32), &[0; 32])
            .unwrap();
        main.gather_along_axis(x, indices, axis).unwrap()
    });
    rename(
        &mut module,
        "primitive.gather_along_axis_v1",
        "primitive.lut_to_dense_v1",
    );
    look(at, &module)
}

/// Attention of that many queries over a cache, whose values are `width` wide
/// where queries and keys are 8.
pub fn attention(at: &Path, queries: u64, width: u64) -> Vec<Finding> {
    let ty = |rows: Dim, width: u64| TensorType::new([1.into(), 2.into(), rows, width.into()], F16);
    let types = [
        ty(queries.into(), 8),
        ty(Dim::Dynamic, 8),
        ty(Dim::Dynamic, width),
    ];
    let names = ["query", "key", "value"];
    let op_attrs = vec![
        ("is_causal", Attribute::boolean(true)),
        ("window_size", Attribute::si64(0)),
        ("version", Attribute::si64(1)),
    ];
    let mut asset = AssetBuilder::new();
    let declared = Composite::new("scaled_dot_product_attention", op_attrs);
    let mut kernel = asset.composite("attention", declared);
    let inputs = names.iter().zip(&types);
    let inputs: Vec<Value> = inputs
        .map(|(name, ty)| kernel.input(name, ty.clone()).unwrap())
        .collect();
    let mixed = kernel.add(inputs[0], inputs[0]).unwrap();
    let kernel = kernel.finish(&[("mixed", mixed)]).unwrap();
    let mut main = asset.graph("main");
    let inputs = names.iter().zip(types);
    let inputs: Vec<Value> = inputs
        .map(|(name, ty)| main.input(name, ty).unwrap())
        .collect();
    let mixed = main.invoke(&kernel, &inputs).unwrap();
    main.finish(&[("mixed", mixed)]).unwrap();
    look(at, &asset.finish().unwrap())
}

/// A mask of floats from integers of 64 bits.
pub fn wide_mask(at: &Path) -> Vec<Finding> {
    let module = function(|main, x| {
        let wide = main.cast(x, ElementType::Si64).unwrap();
        let greater = main.greater(wide, wide).unwrap();
        let not = main.not(greater).unwrap();
        main.cast(not, F16).unwrap()
    });
    look(at, &module)
}

/// A mask of floats from integers of 32 bits, which a shape of 64 bits says the
/// extents of.
pub fn narrow_mask(at: &Path) -> Vec<Finding> {
    let module = function(|main, x| {
        let narrow = main.cast(x, SI32).unwrap();
        let greater = main.greater(narrow, narrow).unwrap();
        let shape = TensorType::fixed([2], ElementType::Si64);
        let bytes = [4_i64, 2].map(i64::to_le_bytes).concat();
        let shape = main.dense(shape, &bytes).unwrap();
        let mask = main.reshape(greater, shape).unwrap();
        main.cast(mask, F16).unwrap()
    });
    look(at, &module)
}

/// A decoder whose caches have these last extents.
pub fn caches(at: &Path, widths: [u64; 2]) -> Vec<Finding> {
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let x = main.input("x", row()).unwrap();
    let positions = TensorType::fixed([1], SI32);
    main.input("position_ids", positions).unwrap();
    for (name, width) in ["keys", "values"].iter().zip(widths) {
        let ty = TensorType::new([2.into(), Dim::Dynamic, width.into()], F16);
        main.state(name, ty).unwrap();
    }
    let token = main.create_token().unwrap();
    let logits = main.add(x, x).unwrap();
    let results = [("keys", token), ("values", token), ("logits", logits)];
    main.finish(&results).unwrap();
    look(at, &asset.finish().unwrap())
}

/// What a program with states is besides.
#[derive(Clone, Copy)]
struct Stateful<'a> {
    states: usize,
    /// S of the states, [2, S, 4].
    extent: Dim,
    /// How often each is written.
    writes: usize,
    /// Whether what was written is read before the next write.
    reads: bool,
    /// The inputs, of which the first says where it writes.
    inputs: &'a [&'a str],
}

impl Default for Stateful<'_> {
    fn default() -> Self {
        Self {
            states: 2,
            extent: Dim::Dynamic,
            writes: 1,
            reads: false,
            inputs: &["position_ids"],
        }
    }
}

/// A decoder with states.
fn stateful(
    how: Stateful<'_>,
    mut begin: impl FnMut(&mut GraphBuilder<'_>, Value, i64) -> Value,
) -> Module {
    let Stateful {
        states,
        extent,
        writes,
        reads,
        inputs,
    } = how;
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let x = main.input("x", TensorType::fixed([1, 1, 4], F16)).unwrap();
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|name| main.input(name, TensorType::fixed([1], SI32)).unwrap())
        .collect();
    let at = inputs[0];
    let ty = TensorType::new([2.into(), extent, 4.into()], F16);
    let names: Vec<String> = (0..states).map(|n| format!("state{n}")).collect();
    let handles: Vec<Value> = names
        .iter()
        .map(|name| main.state(name, ty.clone()).unwrap())
        .collect();
    let (mut results, mut logits) = (Vec::new(), x);
    for (name, handle) in names.iter().zip(handles) {
        let mut token = main.create_token().unwrap();
        for slot in 0..writes {
            let (held, read) = main.read_handle(handle, token).unwrap();
            let begin = begin(&mut main, at, slot as i64);
            let end = main.si32(&[slot as i64 + 1, 1, 4]).unwrap();
            let ones = main.si32(&[1; 3]).unwrap();
            let updated = main.slice_update(held, x, [begin, end, ones]).unwrap();
            token = main.write_handle(handle, updated, read).unwrap();
            if reads {
                let (held, _) = main.read_handle(handle, token).unwrap();
                logits = main.add(held, held).unwrap();
            }
        }
        results.push((name.as_str(), token));
    }
    results.push(("logits", logits));
    main.finish(&results).unwrap();
    asset.finish().unwrap()
}

/// That many states, written at the place that a shape says, beside `x` and these
/// inputs.
pub fn states(at: &Path, states: usize, inputs: &[&str]) -> Vec<Finding> {
    let by_shape = |body: &mut GraphBuilder<'_>, at: Value, _| {
        let shape = body.get_shape(at).unwrap();
        let shape = body.cast(shape, SI32).unwrap();
        let zero = body.si32(&[0]).unwrap();
        let axis = body.scalar_si32(0).unwrap();
        body.concat(axis, &[zero, shape, zero]).unwrap()
    };
    let how = Stateful {
        states,
        inputs,
        ..Stateful::default()
    };
    look(at, &stateful(how, by_shape))
}

/// Two states, written at the place that the value of an input says.
pub fn position(at: &Path, scatter: bool) -> Vec<Finding> {
    let by_value = |body: &mut GraphBuilder<'_>, at: Value, _| {
        let zero = body.si32(&[0]).unwrap();
        let axis = body.scalar_si32(0).unwrap();
        let past = body.sub(at, zero).unwrap();
        body.concat(axis, &[zero, past, zero]).unwrap()
    };
    let mut module = stateful(Stateful::default(), by_value);
    if scatter {
        // input, indices, updates: the bounds become the indices.
        let update = module.op_name(NAMESPACE, "primitive.slice_update_v1", true);
        for op in operations(&mut module).filter(|op| op.name == update) {
            op.operands = vec![op.operands[0], op.operands[1], op.operands[4]];
        }
        for _ in 0..2 {
            rename(
                &mut module,
                "primitive.slice_update_v1",
                "primitive.scatter_nd_v1",
            );
        }
    }
    look(at, &module)
}

/// Two states of a fixed shape, two slots of each written, and read in between if
/// `reads`.
pub fn fixed_states(at: &Path, reads: bool) -> Vec<Finding> {
    let slots = |body: &mut GraphBuilder<'_>, _, slot| body.si32(&[slot, 0, 0]).unwrap();
    let how = Stateful {
        extent: Dim::Static(8),
        writes: 2,
        reads,
        ..Stateful::default()
    };
    look(at, &stateful(how, slots))
}

/// The kernels of a decoder, with the names of their inputs.
pub const KERNELS: [Kernel; 3] = [
    ("rms_norm", ["input", "scale"], &["axes", "eps"]),
    (
        "scaled_dot_product_attention",
        ["query", "key"],
        &["is_causal", "window_size"],
    ),
    (
        "rope",
        ["input", "position_ids"],
        &["base", "interleaved", "scale"],
    ),
];

type Kernel = (&'static str, [&'static str; 2], &'static [&'static str]);

/// A kernel with its declaration, of two rows; what it computes is not looked
/// at.
fn declared(asset: &mut AssetBuilder, (name, inputs, attributes): Kernel) -> Graph {
    let attributes = attributes.iter().map(|key| (*key, Attribute::f32(1.0)));
    let version = ("version", Attribute::si64(1));
    let op_attrs = attributes.chain([version]);
    let mut graph = asset.composite(name, Composite::new(name, op_attrs));
    let [x, y] = inputs.map(|name| graph.input(name, row()).unwrap());
    let sum = graph.add(x, y).unwrap();
    graph.finish(&[("output", sum)]).unwrap()
}

/// A decoder in shape, though it computes nothing of use.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// Tokens of a call.
    pub rows: Option<u64>,
    /// Inputs besides ids and positions, and their first extent.
    pub inputs: usize,
    pub input_extent: Option<u64>,
    pub vocab_size: u64,
    /// The name of the result.
    pub logits: &'static str,
    pub kernels: &'static [Kernel],
}

impl Decoder {
    /// One that the lint has nothing against.
    pub fn good() -> Self {
        Self {
            rows: Some(1),
            inputs: 4,
            input_extent: Some(1),
            vocab_size: 512,
            logits: "logits",
            kernels: &KERNELS,
        }
    }

    pub fn build(&self) -> Module {
        let dim = |extent: Option<u64>| extent.map_or(Dim::Dynamic, Dim::Static);
        let mut asset = AssetBuilder::new();
        let kernels: Vec<Graph> = self
            .kernels
            .iter()
            .map(|k| declared(&mut asset, *k))
            .collect();
        let mut main = asset.graph("main");
        let vector = |extent| TensorType::new([1.into(), extent], SI32);
        main.input("input_ids", vector(dim(self.rows))).unwrap();
        main.input("position_ids", vector(Dim::Dynamic)).unwrap();
        for index in 0..self.inputs {
            let ty = TensorType::new([dim(self.input_extent)], SI32);
            main.input(&format!("extra{index}"), ty).unwrap();
        }
        let cache = TensorType::new([1.into(), 1.into(), 2.into(), Dim::Dynamic, 4.into()], F16);
        let mut results = Vec::new();
        for name in ["keyCache", "valueCache"] {
            let handle = main.state(name, cache.clone()).unwrap();
            let token = main.create_token().unwrap();
            let (_, token) = main.read_handle(handle, token).unwrap();
            results.push((name, token));
        }
        let mut x = main.dense(row(), &[1; 16]).unwrap();
        for kernel in &kernels {
            x = main.invoke(kernel, &[x, x]).unwrap();
        }
        let logits = TensorType::fixed([1, 1, self.vocab_size], F16);
        results.push((self.logits, main.splat(logits, &[0, 0]).unwrap()));
        main.finish(&results).unwrap();
        asset.finish().unwrap()
    }
}

/// Replaces an asset by one that makes rows of `width` zeros of token ids.
pub fn embedding(asset: &Path, width: u64) {
    let mut builder = AssetBuilder::new();
    let mut body = builder.graph("embed_tokens");
    let ids = TensorType::new([1.into(), Dim::Dynamic], SI32);
    let ids = body.input("input_ids", ids).unwrap();
    let shape = body.get_shape(ids).unwrap();
    let axis = body.scalar_si32(0).unwrap();
    let width = body.ui32(&[width]).unwrap();
    let shape = body.concat(axis, &[shape, width]).unwrap();
    let zero = body.scalar_f16(0.0).unwrap();
    let rows = body.broadcast_to(zero, shape).unwrap();
    body.finish(&[("inputs_embeds", rows)]).unwrap();
    std::fs::remove_dir_all(asset).unwrap();
    super::write(asset, &builder.finish().unwrap());
}
