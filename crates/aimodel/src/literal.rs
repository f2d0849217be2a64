//! Constants and plain attributes as text.

use std::fmt::Write as _;

use half::{bf16, f16};

use crate::{Approximate, Attribute, ElementType, PaddingMode, TensorType};

/// How many elements of a constant are shown at most.
const SHOWN: u64 = 16;

/// A string in quotes, on one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

fn is_word(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$-".contains(&byte);
    !text.is_empty() && text.bytes().all(word)
}

/// A reference to a graph.
pub(crate) fn symbol(name: &str) -> String {
    if is_word(name) {
        format!("@{name}")
    } else {
        format!("@{}", quoted(name))
    }
}

/// A key of a dictionary.
pub(crate) fn key(name: &str) -> String {
    if is_word(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// An attribute that holds no others.
pub(crate) fn plain(attribute: &Attribute, out: &mut String) {
    let _ = match attribute {
        Attribute::String(text) => write!(out, "{}", quoted(text)),
        Attribute::Integer { width: 1, bits, .. } => write!(out, "{}", *bits != 0),
        Attribute::Integer {
            width,
            unsigned: true,
            bits,
        } => write!(out, "{bits} : ui{width}"),
        Attribute::Integer { width, bits, .. } => {
            let unused = 64_u64.saturating_sub(*width).min(63) as u32;
            write!(out, "{} : si{width}", (*bits as i64) << unused >> unused)
        }
        Attribute::Float { width: 16, bits } => {
            write!(out, "{} : f16", real(f16::from_bits(*bits as u16).into()))
        }
        Attribute::Float { width: 32, bits } => {
            write!(out, "{} : f32", real(f32::from_bits(*bits as u32).into()))
        }
        Attribute::Float { width, bits } => {
            write!(out, "{} : f{width}", real(f64::from_bits(*bits)))
        }
        Attribute::Type(ty) => write!(out, "{ty}"),
        Attribute::DenseElements { splat, bytes } => {
            let splat = if *splat { "splat, " } else { "" };
            write!(out, "dense_elements<{splat}{} bytes>", bytes.len())
        }
        Attribute::SymbolRef(path) => {
            let path: Vec<String> = path.iter().map(|name| symbol(name)).collect();
            write!(out, "{}", path.join("::"))
        }
        Attribute::Approximate(Approximate::None) => write!(out, "<none>"),
        Attribute::Approximate(Approximate::Tanh) => write!(out, "<tanh>"),
        Attribute::Approximate(Approximate::Sigmoid) => write!(out, "<sigmoid>"),
        Attribute::PaddingMode(PaddingMode::Circular) => write!(out, "<circular>"),
        Attribute::PaddingMode(PaddingMode::Constant) => write!(out, "<constant>"),
        Attribute::PaddingMode(PaddingMode::Reflect) => write!(out, "<reflect>"),
        Attribute::PaddingMode(PaddingMode::Replicate) => write!(out, "<replicate>"),
        Attribute::PaddingMode(PaddingMode::Symmetric) => write!(out, "<symmetric>"),
        _ => write!(out, "unit"),
    };
}

/// The content of a constant, if it is short.
pub(crate) fn dense(ty: &TensorType, splat: bool, bytes: &[u8], out: &mut String) {
    let size = ty.element.bits().div_ceil(8) as usize;
    let count = ty.element_count();
    out.push_str("dense<");
    match count {
        _ if splat && bytes.len() >= size => out.push_str(&element(ty.element, &bytes[..size])),
        Some(0) => {}
        Some(count) if count <= SHOWN && count as usize * size == bytes.len() => {
            let extents: Vec<usize> = ty
                .dims
                .iter()
                .map(|dim| dim.known().unwrap_or_default() as usize)
                .collect();
            nested(ty.element, &extents, bytes, out);
        }
        _ => {
            let count = count.map_or("?".to_owned(), |count| count.to_string());
            let _ = write!(out, "... {count} elements, {} bytes", bytes.len());
        }
    }
    out.push('>');
}

/// Elements in as many brackets as there are dimensions.
fn nested(kind: ElementType, extents: &[usize], bytes: &[u8], out: &mut String) {
    let Some((first, rest)) = extents.split_first() else {
        return out.push_str(&element(kind, bytes));
    };
    out.push('[');
    let each = bytes.len() / (*first).max(1);
    for (index, part) in bytes.chunks(each.max(1)).enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        nested(kind, rest, part, out);
    }
    out.push(']');
}

/// One element.
fn element(kind: ElementType, bytes: &[u8]) -> String {
    let mut raw = [0; 16];
    raw[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
    let raw = u128::from_le_bytes(raw);
    let bits = raw as u64;
    match kind {
        ElementType::Bool => (bits != 0).to_string(),
        ElementType::F64 => real(f64::from_bits(bits)),
        ElementType::F32 => real(f32::from_bits(bits as u32).into()),
        ElementType::F16 => real(f16::from_bits(bits as u16).into()),
        ElementType::BF16 => real(bf16::from_bits(bits as u16).into()),
        ElementType::Si64 => (bits as i64).to_string(),
        ElementType::Si32 => (bits as i32).to_string(),
        ElementType::Si16 => (bits as i16).to_string(),
        // Smaller ones take a byte each.
        ElementType::Si8 | ElementType::Si4 | ElementType::Si2 => (bits as i8).to_string(),
        ElementType::Ui64
        | ElementType::Ui32
        | ElementType::Ui16
        | ElementType::Ui8
        | ElementType::Ui6
        | ElementType::Ui4
        | ElementType::Ui3
        | ElementType::Ui2
        | ElementType::Ui1 => bits.to_string(),
        _ => format!("{raw:#x}"),
    }
}

/// A number in the fewest digits that identify it as an f32, or as an f64 where
/// that is not enough.
fn real(value: f64) -> String {
    let single = value as f32;
    if f64::from(single) == value || value.is_nan() {
        format!("{single:?}")
    } else {
        format!("{value:?}")
    }
}
