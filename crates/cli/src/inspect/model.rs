//! What a language model in a bundle has and lacks, compared with a Qwen3-VL
//! checkpoint: read off the programs, whatever files and names say.

use super::contents::{Contents, Program};
use crate::progress::size;
use aimodel::{Dim, ElementType, Function, TensorType, Type, graphs};
use bundle::{AssetRole, contract};
use serde_json::{Value, json};

/// Elements of a row that say where a token stands in its picture.
const MARKS: u64 = 3;

/// What the programs of a bundle with a decoder are.
pub struct Model {
    layers: u64,
    vocabulary: u64,
    /// Tokens that a call takes; `None` is any number.
    call: Option<u64>,
    pictures: Pictures,
    cache: Option<Cache>,
    vision: Option<Vision>,
}

/// How pictures come to the decoder.
enum Pictures {
    /// It takes ids alone.
    None,
    /// As rows of tokens.
    Rows {
        /// W.
        width: u64,
        /// h, of the table of embeddings.
        embedding: u64,
        /// Whether the kernel `rope` rotates heads, which knows one coordinate.
        ropes: bool,
    },
    /// As inputs beside the ids.
    Inputs {
        /// K.
        deepstack: u64,
        /// Whether positions behind a picture are shifted back.
        shifts: bool,
    },
}

/// What a decoder keeps between calls.
struct Cache {
    /// Tokens that it has room for; `None` where it grows.
    tokens: Option<u64>,
    /// Bytes that a token takes.
    bytes: u64,
}

/// A vision encoder in the bundle.
struct Vision {
    /// Pixels along a side, and tokens of a picture.
    side: u64,
    tokens: u64,
    /// The element that most of its constants have, and their bytes.
    stored: Option<(ElementType, u64)>,
    /// What its products are of.
    computed: Option<ElementType>,
}

impl Model {
    /// The model of a bundle; `None` where its programs are of another kind.
    pub fn of(contents: &Contents) -> Option<Self> {
        let (metadata, _) = contents.bundle.as_ref()?;
        let program = |role: AssetRole| {
            let name = metadata["assets"][role.key()].as_str()?;
            let mut programs = contents.programs.iter();
            programs.find(|program| program.path.file_name().is_some_and(|file| file == name))
        };
        let main = function(program(AssetRole::Main)?, &[contract::MAIN])?;
        let vocabulary = match main.outputs.first()?.ty.dims[..] {
            [_, _, Dim::Static(width)] => width,
            _ => return None,
        };
        let call = match main.inputs.first()?.ty.dims.get(1)? {
            Dim::Static(tokens) => Some(*tokens),
            Dim::Dynamic => None,
        };
        Some(Self {
            layers: main.states.first()?.ty.dims.first()?.known()?,
            vocabulary,
            call,
            pictures: pictures(
                main,
                calls_rope(program(AssetRole::Main)?),
                program(AssetRole::Embedding),
            )?,
            cache: cache(main),
            vision: program(AssetRole::Vision).and_then(vision),
        })
    }

    /// How many parts DeepStack adds, if pictures can come.
    fn deepstack(&self) -> Option<u64> {
        match self.pictures {
            Pictures::None => None,
            Pictures::Rows {
                width, embedding, ..
            } => {
                let rest = width.saturating_sub(embedding);
                Some(
                    rest.saturating_sub(MARKS)
                        .checked_div(embedding)
                        .unwrap_or(0),
                )
            }
            Pictures::Inputs { deepstack, .. } => Some(deepstack),
        }
    }

    /// How many coordinates a picture's positions have, if pictures can come.
    fn coordinates(&self) -> Option<u64> {
        let has_all = match self.pictures {
            Pictures::None => return None,
            // Marks are the only way for a row to say where its token stands.
            Pictures::Rows {
                width,
                embedding,
                ropes,
            } => {
                let parts = self.deepstack().unwrap_or(0);
                let known = embedding.saturating_mul(parts + 1);
                width.saturating_sub(known) >= MARKS && !ropes
            }
            Pictures::Inputs { shifts, .. } => shifts,
        };
        Some(if has_all { 3 } else { 1 })
    }

    /// The facts, one a line: what they are about, and the words.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("decoder", self.decoder())];
        if let Some(parts) = self.deepstack() {
            lines.push(("DeepStack", self.deepstack_words(parts)));
        }
        match (self.coordinates(), &self.pictures) {
            (Some(3), _) => lines.push((
                "M-RoPE",
                "there: the decoder knows row and column of a picture's tokens".to_owned(),
            )),
            (Some(_), _) => lines.push((
                "M-RoPE",
                "missing: positions have one dimension, and nothing tells the decoder where in a \
                 picture a token stands; the tokens of a picture are counted like words"
                    .to_owned(),
            )),
            (None, _) => lines.push((
                "pictures",
                "missing: the decoder takes the ids of tokens and their positions alone, so \
                 DeepStack and M-RoPE have no use here"
                    .to_owned(),
            )),
        }
        if let Some(cache) = &self.cache {
            lines.push(("cache", cache.words()));
        }
        if let Some(vision) = &self.vision {
            lines.push(("vision encoder", vision.words()));
        }
        lines
    }

    fn decoder(&self) -> String {
        let call = match self.call {
            None => "any number of tokens".to_owned(),
            Some(1) => "one token".to_owned(),
            Some(count) => format!("{count} tokens"),
        };
        format!(
            "{} layers of cache, {} tokens in the vocabulary, {call} a call",
            self.layers, self.vocabulary
        )
    }

    fn deepstack_words(&self, parts: u64) -> String {
        match (parts, &self.pictures) {
            (
                0,
                Pictures::Rows {
                    width, embedding, ..
                },
            ) => format!(
                "missing: rows are {width} wide and an embedding {embedding}, so that nothing of \
                 the vision encoder's earlier blocks reaches the decoder's first layers"
            ),
            (0, _) => "missing: there is no input for it".to_owned(),
            (
                parts,
                Pictures::Rows {
                    width, embedding, ..
                },
            ) => format!(
                "there: rows are {width} wide, with an embedding of {embedding} and {parts} parts \
                 for the first layers"
            ),
            (parts, _) => format!("there: an input of {parts} parts for the first layers"),
        }
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let cache = self
            .cache
            .as_ref()
            .map(|cache| json!({ "tokens": cache.tokens, "bytes_per_token": cache.bytes }));
        let vision = self.vision.as_ref().map(|vision| {
            json!({
                "image_size": vision.side,
                "image_tokens": vision.tokens,
                "stored": vision.stored.map(|(element, _)| element.to_string()),
                "computed": vision.computed.map(|element| element.to_string()),
            })
        });
        json!({
            "takes_pictures": self.deepstack().is_some(),
            "deepstack_parts": self.deepstack(),
            "position_coordinates": self.coordinates(),
            "tokens_per_call": self.call,
            "vocabulary": self.vocabulary,
            "cache": cache,
            "vision": vision,
        })
    }
}

impl Cache {
    fn words(&self) -> String {
        match self.tokens {
            None => format!(
                "grows with the conversation, by {} a token",
                size(self.bytes)
            ),
            Some(tokens) => format!(
                "fixed at {tokens} tokens: {} from the first token on, and no room for more",
                size(tokens.saturating_mul(self.bytes))
            ),
        }
    }
}

impl Vision {
    fn words(&self) -> String {
        let Self { side, tokens, .. } = self;
        let mut words = format!("pictures of {side} × {side} pixels, {tokens} tokens each");
        if let Some((stored, bytes)) = self.stored {
            words += &format!("; stored as {stored}, {}", size(bytes));
            if stored == ElementType::F32 {
                words += " where f16 takes half";
            }
        }
        if let Some(computed) = self.computed {
            words += &format!("; computed in {computed}");
        }
        words
    }
}

/// The first of these functions that a program has.
fn function<'p>(program: &'p Program, names: &[&str]) -> Option<&'p Function> {
    let functions = &program.summary.as_ref().ok()?.functions;
    let find = |name: &&str| functions.iter().find(|function| function.name == **name);
    names.iter().find_map(find)
}

/// Whether a program has a graph that is declared as the kernel `rope`.
fn calls_rope(program: &Program) -> bool {
    let Ok(summary) = &program.summary else {
        return false;
    };
    let mut kernels = summary
        .graphs
        .iter()
        .map(|graph| graph.composite.as_deref());
    kernels.any(|kernel| kernel == Some("rope"))
}

fn pictures(main: &Function, ropes: bool, embedding: Option<&Program>) -> Option<Pictures> {
    let input = |name: &str| main.inputs.iter().find(|input| input.name == name);
    let rows = |name: &str| match input(name)?.ty.dims[..] {
        [Dim::Static(rows), _] => Some(rows),
        _ => None,
    };
    if let Some(embedding) = embedding {
        let Dim::Static(width) = main.inputs.first()?.ty.dims.get(2)? else {
            return None;
        };
        return Some(Pictures::Rows {
            width: *width,
            embedding: table_width(embedding)?,
            ropes,
        });
    }
    let Some(tokens) = rows(contract::IMAGE_EMBEDS) else {
        return Some(Pictures::None);
    };
    let deepstack = rows(contract::DEEPSTACK_EMBEDS).unwrap_or(0);
    Some(Pictures::Inputs {
        deepstack: deepstack.checked_div(tokens).unwrap_or(0),
        shifts: input(contract::ROPE_SHIFT_START).is_some(),
    })
}

/// h: the width of the widest table that a program gathers rows of.
fn table_width(program: &Program) -> Option<u64> {
    let mut widths = Vec::new();
    for view in graphs(&program.module).ok()? {
        for op in view.operations() {
            let gathers = view.op_name(op) == Some("primitive.gather_nd_v1");
            let table = op.operands.first().filter(|_| gathers);
            if let Some(Ok(Type::Tensor(table))) = table.map(|it| Type::of(view.module, *it))
                && let [Dim::Static(_), Dim::Static(width)] = table.dims[..]
            {
                widths.push(width);
            }
        }
    }
    widths.into_iter().max()
}

fn cache(main: &Function) -> Option<Cache> {
    let (mut bytes, mut room) = (0_u64, None::<u64>);
    for state in &main.states {
        let [
            Dim::Static(layers),
            Dim::Static(1),
            Dim::Static(heads),
            tokens,
            Dim::Static(width),
        ] = state.ty.dims[..]
        else {
            return None;
        };
        let elements = layers.checked_mul(heads)?.checked_mul(width)?;
        let held = elements.checked_mul(state.ty.element.bits())? / 8;
        bytes = bytes.checked_add(held)?;
        if let Dim::Static(tokens) = tokens {
            room = Some(room.map_or(tokens, |room| room.min(tokens)));
        }
    }
    (bytes > 0).then_some(Cache {
        tokens: room,
        bytes,
    })
}

fn vision(program: &Program) -> Option<Vision> {
    let main = function(program, &[contract::MAIN])?;
    let side = match main.inputs.first()?.ty.dims[..] {
        [_, _, Dim::Static(height), Dim::Static(width)] if height == width => width,
        _ => return None,
    };
    let tokens = main.outputs.first()?.ty.dims.get(1)?.known()?;
    let storage = &program.summary.as_ref().ok()?.storage;
    let largest = storage.iter().max_by_key(|storage| storage.bytes);
    Some(Vision {
        side,
        tokens,
        stored: largest.map(|storage| (storage.element, storage.bytes)),
        computed: computed(program),
    })
}

/// The element of a program's first product of matrices.
fn computed(program: &Program) -> Option<ElementType> {
    let views = graphs(&program.module).ok()?;
    let mut products = views.iter().flat_map(|view| {
        let ops = view.operations().iter();
        let products = ops.filter(|op| view.op_name(op) == Some("broadcasting_batch_matmul_v1"));
        products.filter_map(|op| Type::of(view.module, *op.results.first()?).ok())
    });
    products.find_map(|ty| match ty {
        Type::Tensor(TensorType { element, .. }) => Some(element),
        _ => None,
    })
}
