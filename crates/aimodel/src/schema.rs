//! The binary encodings of the AICode dialect.
//!
//! An attribute or a type is a code and the fields that belong to it. The
//! layouts were found in files that Core AI's own library writes, and are
//! checked against it by the conformance tests; see `docs/format.md`.

use std::sync::Arc;

use mlir_bytecode::{Dialect, Error, FieldReader, Result, Str};

/// The namespace of the dialect in stored form.
pub const NAMESPACE: &str = "aicode";

/// The content of the dialect's version section: version 2, as a varint.
pub const DIALECT_VERSION: &[u8] = &[0x05];

/// The namespace as a string that tables can share.
pub(crate) fn dialect() -> Str {
    Arc::from(NAMESPACE)
}

/// Codes of the types that this crate makes.
pub(crate) mod type_code {
    pub const TENSOR: u64 = 2;
    pub const FUNCTION: u64 = 30;
    pub const HANDLE: u64 = 31;
    pub const TOKEN: u64 = 32;
    pub const SYMBOL: u64 = 33;
}

/// Codes of the attributes that this crate makes or looks into.
pub(crate) mod attr_code {
    pub const STRING: u64 = 1;
    pub const INTEGER: u64 = 2;
    pub const FLOAT: u64 = 3;
    pub const TYPE: u64 = 4;
    pub const ARRAY: u64 = 5;
    pub const DENSE_ELEMENTS: u64 = 6;
    pub const DENSE_RESOURCE: u64 = 7;
    pub const OPAQUE: u64 = 9;
    pub const SYMBOL_REF: u64 = 14;
    pub const PARAM_CONSTANT: u64 = 16;
    pub const PADDING_MODE: u64 = 17;
    pub const APPROXIMATE: u64 = 19;
    pub const FILE: u64 = 30;
    pub const SOURCE_LOCATION: u64 = 31;
    pub const METADATA_DATA: u64 = 33;
    pub const METADATA: u64 = 35;
    pub const LOCATION: u64 = 40;
    pub const INLINED_LOCATION: u64 = 41;
    pub const DICTIONARY: u64 = 45;
    pub const UNIT: u64 = 46;
}

/// The layout of an encoding: one letter for each field.
///
/// `S` string, `A` attribute, `O` optional attribute, `T` type, `V` varint,
/// `R` resource; `s a t v` a count and as many of them; `p` a count and as many
/// pairs of attributes; `I` width, sign and bits of an integer; `F` width and
/// bits of a float; `B` a flag and bytes.
type Layout = &'static str;

/// Name and layout of the attribute with a code.
pub(crate) fn attribute_layout(code: u64) -> Option<(&'static str, Layout)> {
    Some(match code {
        1 => ("string", "S"),
        2 => ("integer", "I"),
        3 => ("float", "F"),
        4 => ("type", "T"),
        5 => ("array", "a"),
        6 => ("dense_elements", "B"),
        7 => ("dense_resource", "R"),
        9 => ("opaque", "Sa"),
        10 => ("param.decl", "ST"),
        11 => ("param.decl", "STA"),
        12 => ("ax.hw_constraints", "vvV"),
        13 => ("ax.hw_constraints", "vvVA"),
        14 => ("symbol_ref", "s"),
        15 => ("param.bind", "ATa"),
        16 => ("param.constant", "AT"),
        17 => ("padding_mode", "V"),
        18 => ("execution.lifecycle_phase", "V"),
        19 => ("approximate", "V"),
        20 => ("scatter_mode", "V"),
        25 => ("scan_combiner", "V"),
        26 => ("ax.image_constraints", "Vv"),
        27 => ("fourcc", "V"),
        28 => ("execution.compilation", "V"),
        29 => ("execution.target_spec", "AAA"),
        30 => ("debuginfo.file", "SSS"),
        31 => ("debuginfo.source_location", "AVVVV"),
        32 => ("debuginfo.compile_unit", "SASVSa"),
        33 => ("debuginfo.metadata_data", "A"),
        35 => ("debuginfo.metadata", "SA"),
        36 => ("debuginfo.subprogram", "TAASSV"),
        38 => ("debuginfo.bounds", "VVVV"),
        39 => ("debuginfo.composite_element", "A"),
        40 => ("debuginfo.location", "AAaa"),
        41 => ("debuginfo.inlined_location", "AAAaa"),
        42 => ("debuginfo.metadata_location", "a"),
        43 => ("interpolation_mode", "V"),
        44 => ("execution.intent", "V"),
        45 => ("dictionary", "a"),
        46 => ("unit", ""),
        47 => ("opaque_loc", "A"),
        _ => return None,
    })
}

fn type_layout(code: u64) -> Option<Layout> {
    Some(match code {
        1 => "Sa",
        2 => "vT",
        3 => "vTA",
        30 => "tt",
        31 | 41 => "T",
        35 => "ST",
        39 => "AVV",
        40 => "AVVA",
        4..=29 | 32..=34 | 36..=38 | 46 | 47 => "",
        _ => return None,
    })
}

/// The names of an operation's properties, in the order in which they are
/// stored, and their layout.
pub(crate) fn properties_layout(op: &str) -> Option<(&'static [&'static str], Layout)> {
    Some(match op {
        "serialization.asset" => (&["source", "version"], "OO"),
        "dataflow.graph_v1" => (
            &[
                "argAttrs",
                "compositeDecl",
                "externalize",
                "functionType",
                "isPrivate",
                "name",
                "noInline",
                "paramDecls",
                "resAttrs",
            ],
            "AOAAAAAAA",
        ),
        "dataflow.invoke_v1" => (&["arg_attrs", "callee", "res_attrs"], "AAA"),
        "primitive.constant_v1" => (&["value"], "A"),
        "primitive.gelu_v1" => (&["approximate"], "A"),
        "primitive.pad_v1" => (&["padding_mode"], "A"),
        _ => return None,
    })
}

/// The AICode dialect, for reading bytecode.
#[derive(Clone, Copy, Debug, Default)]
pub struct AiCode;

impl Dialect for AiCode {
    fn name(&self) -> &str {
        NAMESPACE
    }

    fn read_attribute(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        let code = fields.int()?;
        match attribute_layout(code) {
            Some((_, layout)) => read(layout, fields),
            None => Err(fields.error(format!("unknown AICode attribute code {code}"))),
        }
    }

    fn read_type(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        let code = fields.int()?;
        match type_layout(code) {
            Some(layout) => read(layout, fields),
            None => Err(fields.error(format!("unknown AICode type code {code}"))),
        }
    }

    fn read_properties(&self, op: &str, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        match properties_layout(op) {
            Some((_, layout)) => read(layout, fields),
            None => Err(fields.error(format!(
                "`{NAMESPACE}.{op}` is not known to have properties"
            ))),
        }
    }
}

/// The part of MLIR's builtin dialect that assets of coreai-core 1.0.0b1 have:
/// locations, and what coreai-torch 0.4.0 stores in them. Later versions refuse
/// such assets, but they can be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builtin;

impl Dialect for Builtin {
    fn name(&self) -> &str {
        "builtin"
    }

    fn read_attribute(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        let layout = match fields.int()? {
            // Array, dictionary, string, type, unit; call site, file line
            // column, fused, fused with metadata, name, unknown.
            0 => "a",
            1 => "p",
            2 => "S",
            6 => "T",
            7 => "",
            8 => {
                // An integer is as wide as its type, which may come later in
                // the file. A value of one byte is the same in every width.
                fields.ty()?;
                return match fields.remaining() {
                    1 => fields.byte().map(drop),
                    _ => fields.int().map(drop),
                };
            }
            10 | 14 => "AA",
            11 => "AVV",
            12 => "a",
            13 => "aA",
            15 => "",
            code => return Err(fields.error(format!("unknown builtin attribute code {code}"))),
        };
        read(layout, fields)
    }

    fn read_type(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        let layout = match fields.int()? {
            // Integer, index.
            0 => "V",
            1 => "",
            code => return Err(fields.error(format!("unknown builtin type code {code}"))),
        };
        read(layout, fields)
    }

    fn read_properties(&self, op: &str, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        Err(fields.error(format!("`builtin.{op}` is not known")))
    }
}

fn read(layout: Layout, fields: &mut FieldReader<'_, '_>) -> Result<()> {
    for kind in layout.chars() {
        match kind {
            'S' => drop(fields.string()?),
            'A' => drop(fields.attr()?),
            'O' => drop(fields.optional_attr()?),
            'T' => drop(fields.ty()?),
            'V' => drop(fields.int()?),
            'R' => drop(fields.resource()?),
            's' => (0..fields.count()?).try_for_each(|_| fields.string().map(drop))?,
            'a' => (0..fields.count()?).try_for_each(|_| fields.attr().map(drop))?,
            'p' => (0..2 * fields.count()?).try_for_each(|_| fields.attr().map(drop))?,
            't' => (0..fields.count()?).try_for_each(|_| fields.ty().map(drop))?,
            'v' => (0..fields.count()?).try_for_each(|_| fields.int().map(drop))?,
            'I' => {
                let width = fields.int()?;
                flag(fields)?;
                bits(width, fields)?;
            }
            'F' => {
                let width = fields.int()?;
                bits(width, fields)?;
            }
            'B' => {
                flag(fields)?;
                fields.blob()?;
            }
            other => return Err(fields.error(format!("layout letter `{other}` has no meaning"))),
        }
    }
    Ok(())
}

fn flag(fields: &mut FieldReader<'_, '_>) -> Result<(), Error> {
    match fields.byte()? {
        0 | 1 => Ok(()),
        other => Err(fields.error(format!("expected a flag of 0 or 1, found {other}"))),
    }
}

/// The bits of a number: a byte up to 8 bits, else zig-zag coded words.
fn bits(width: u64, fields: &mut FieldReader<'_, '_>) -> Result<(), Error> {
    match width {
        0..=8 => fields.byte().map(drop),
        9..=64 => fields.int().map(drop),
        _ => (0..fields.count()?).try_for_each(|_| fields.int().map(drop)),
    }
}

/// The version of the asset from which on an operation exists; `None` for one
/// that the builder does not make. An asset states the newest that its
/// operations ask for, and one that states too old a version does not load: so
/// there is no default. `docs/format.md` says where the dates come from.
pub(crate) fn op_version(op: &str) -> Option<u32> {
    Some(match op {
        "primitive.get_shape_v2" => 20260317,
        // Stands for the dictionaries in the declarations of composite graphs,
        // which only they have.
        "dataflow.invoke_v1" => 20260313,
        "primitive.reshape_v2" => 20260204,
        "primitive.blockwise_shift_scale_v2" => 20260202,
        "broadcasting_batch_matmul_v1" => 20251202,
        "primitive.gather_along_axis_v1" => 20251028,
        "primitive.gelu_v1" | "broadcasting_where_v1" => 20251024,
        "primitive.range_v1" => 20251017,
        "primitive.shrink_dims_v1" => 20251002,
        "primitive.cos_v1" | "primitive.sin_v1" | "primitive.rsqrt_v1" => 20250928,
        "primitive.expand_dims_v1" => 20250924,
        "primitive.not_v1" => 20250923,
        "primitive.slice_v1" | "primitive.slice_update_v1" => 20250922,
        "primitive.broadcast_to_v1" => 20250911,
        "primitive.concat_v1" => 20250903,
        "broadcasting_add_v1"
        | "broadcasting_divide_v1"
        | "broadcasting_floor_divide_v1"
        | "broadcasting_greater_v1"
        | "broadcasting_maximum_v1"
        | "broadcasting_minimum_v1"
        | "broadcasting_mul_v1"
        | "broadcasting_sub_v1" => 20250827,
        "primitive.broadcast_in_dims_v1" => 20250826,
        "dataflow.read_handle_v1" | "dataflow.write_handle_v1" => 20250819,
        "primitive.transpose_v1" => 20250811,
        "primitive.cast_v1" | "primitive.gather_nd_v1" => 20250723,
        "primitive.constant_v1" | "dataflow.output_v1" | "dataflow.graph_v1" => 20250707,
        "dataflow.create_token_v1"
        | "dataflow.yield_v1"
        | "primitive.add_v1"
        | "primitive.batch_matmul_v1"
        | "primitive.broadcast_shapes_v1"
        | "primitive.divide_v1"
        | "primitive.exp_v1"
        | "primitive.floor_divide_v1"
        | "primitive.greater_v1"
        | "primitive.maximum_v1"
        | "primitive.minimum_v1"
        | "primitive.mul_v1"
        | "primitive.reduce_v1"
        | "primitive.sub_v1"
        | "primitive.where_v1"
        | "reduce_mean_v1"
        | "reduce_product_v1"
        | "reduce_sum_v1"
        | "silu_v1"
        | "softmax_v1" => 20250717,
        _ => return None,
    })
}
