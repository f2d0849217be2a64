//! Graphs that Core AI's compiler replaces with kernels of its own. It knows
//! them by their declaration; what they compute is spelled out for everyone
//! else.

use aimodel::{
    AssetBuilder, Attribute, Composite, Dim, ElementType, Graph, GraphBuilder, TensorType, Value,
};
use half::f16;

use super::Result;

/// The bound of a slice that goes to the end.
pub const TO_END: i64 = i32::MAX as i64;

/// What the mask adds to the score of a key that must not be seen.
const MASKED: f32 = -1e4;

/// The version of a declaration.
fn version() -> (&'static str, Attribute) {
    ("version", Attribute::si64(1))
}

/// Widens f16 to f32, in which norms are computed.
fn widened(body: &mut GraphBuilder<'_>, x: Value) -> Result<Value> {
    Ok(body.cast(x, ElementType::F32)?)
}

/// `1 / √(mean(x²) + ε)` over the axes.
fn inverse_root_mean_square(
    body: &mut GraphBuilder<'_>,
    x: Value,
    axes: Value,
    eps: Value,
) -> Result<Value> {
    let squares = body.mul(x, x)?;
    let mean = body.reduce_mean(squares, axes)?;
    let above = body.add(mean, eps)?;
    Ok(body.rsqrt(above)?)
}

/// `rms_norm(input, scale)` over the last dimension.
pub fn rms_norm(
    asset: &mut AssetBuilder,
    name: &str,
    input: TensorType,
    scale: TensorType,
    eps: f32,
) -> Result<Graph> {
    let op_attrs = vec![
        ("axes", Attribute::si64(-1)),
        ("eps", Attribute::f32(eps)),
        version(),
    ];
    let mut graph = asset.composite(name, Composite::new("rms_norm", op_attrs));
    let last = input.rank() as i64 - 1;
    let x = graph.input("input", input)?;
    let scale = graph.input("scale", scale)?;
    let axes = graph.si32(&[last])?;
    let eps = graph.scalar_f32(eps)?;
    let wide = widened(&mut graph, x)?;
    let factor = inverse_root_mean_square(&mut graph, wide, axes, eps)?;
    let normed = graph.mul(wide, factor)?;
    let normed = graph.cast(normed, ElementType::F16)?;
    let scaled = graph.mul(normed, scale)?;
    Ok(graph.finish(&[("mul_2", scaled)])?)
}

/// `layer_norm(input, gamma, beta)` of `[rows, width]` over the last dimension,
/// all of f16 or all of f32. It is computed in f32.
pub fn layer_norm(
    asset: &mut AssetBuilder,
    name: &str,
    [rows, width]: [u64; 2],
    element: ElementType,
    eps: f32,
) -> Result<Graph> {
    let op_attrs = vec![
        ("axes", Attribute::Array(vec![Attribute::si64(1)])),
        ("eps", Attribute::f32(eps)),
        version(),
    ];
    let mut graph = asset.composite(name, Composite::new("layer_norm", op_attrs));
    let x = graph.input("input", TensorType::fixed([rows, width], element))?;
    let parameter = TensorType::fixed([width], element);
    let gamma = graph.input("gamma", parameter.clone())?;
    let beta = graph.input("beta", parameter)?;
    let eps = graph.scalar_f32(eps)?;
    let axes = graph.si32(&[1])?;
    let is_wide = element == ElementType::F32;
    let wide = if is_wide { x } else { widened(&mut graph, x)? };
    let mean = graph.reduce_mean(wide, axes)?;
    let centred = graph.sub(wide, mean)?;
    let factor = inverse_root_mean_square(&mut graph, centred, axes, eps)?;
    let normed = graph.mul(centred, factor)?;
    let normed = if is_wide {
        normed
    } else {
        graph.cast(normed, element)?
    };
    let scaled = graph.mul(normed, gamma)?;
    let shifted = graph.add(scaled, beta)?;
    Ok(graph.finish(&[("", shifted)])?)
}

/// `rope(input [1, heads, S, D], position_ids [1, S])`: turns each head by its
/// positions, the first half of its elements with the second.
pub fn rope(
    asset: &mut AssetBuilder,
    name: &str,
    heads: u64,
    rows: Dim,
    head_dim: u64,
    theta: f64,
) -> Result<Graph> {
    let op_attrs = vec![
        ("base", Attribute::f32(theta as f32)),
        ("interleaved", Attribute::boolean(false)),
        ("scale", Attribute::f32(1.0)),
        version(),
    ];
    let mut graph = asset.composite(name, Composite::new("rope", op_attrs));
    let dims = [1.into(), heads.into(), rows, head_dim.into()];
    let x = graph.input("input", TensorType::new(dims, ElementType::F16))?;
    let positions = TensorType::new([1.into(), rows], ElementType::Si32);
    let positions = graph.input("position_ids", positions)?;

    let half = head_dim / 2;
    let frequencies = rope_frequencies(theta, head_dim as usize);
    let bytes: Vec<u8> = frequencies.iter().flat_map(|f| f.to_le_bytes()).collect();
    let frequencies = graph.dense(TensorType::fixed([half], ElementType::F32), &bytes)?;
    let (cos, sin) = match rows {
        // One row: the angles are a vector, and get their dimensions later.
        Dim::Static(1) => {
            let shape = graph.ui32(&[1, 1, 1])?;
            let positions = graph.reshape(positions, shape)?;
            let positions = graph.cast(positions, ElementType::F32)?;
            let angles = graph.mul(positions, frequencies)?;
            let shape = graph.ui32(&[1, 1, 1, half])?;
            let cos = graph.cos(angles)?;
            let cos = graph.reshape(cos, shape)?;
            let cos = graph.cast(cos, ElementType::F16)?;
            let sin = graph.sin(angles)?;
            let sin = graph.reshape(sin, shape)?;
            (cos, graph.cast(sin, ElementType::F16)?)
        }
        _ => {
            let positions = add_axis(&mut graph, positions, 1)?;
            let positions = graph.cast(positions, ElementType::F32)?;
            let positions = add_axis(&mut graph, positions, -1)?;
            let angles = graph.mul(positions, frequencies)?;
            let cos = graph.cos(angles)?;
            let cos = graph.cast(cos, ElementType::F16)?;
            let sin = graph.sin(angles)?;
            (cos, graph.cast(sin, ElementType::F16)?)
        }
    };
    let rotated = rotate_halves(&mut graph, x, (cos, sin), head_dim)?;
    Ok(graph.finish(&[("cat", rotated)])?)
}

/// Rotates heads `[1, n, S, D]`: the first half of a head's elements with the
/// second, by angles whose cosines and sines are `[1, 1, S, D / 2]` or broadcast
/// to it.
pub fn rotate_halves(
    body: &mut GraphBuilder<'_>,
    x: Value,
    (cos, sin): (Value, Value),
    head_dim: u64,
) -> Result<Value> {
    let (half, head_dim) = (head_dim as i64 / 2, head_dim as i64);
    let ones = body.si32(&[1; 4])?;
    let begin = body.si32(&[0; 4])?;
    let end = body.si32(&[TO_END, TO_END, TO_END, half])?;
    let first = body.slice(x, begin, end, ones)?;
    let begin = body.si32(&[0, 0, 0, half])?;
    let end = body.si32(&[TO_END, TO_END, TO_END, head_dim])?;
    let second = body.slice(x, begin, end, ones)?;
    let (a, b) = (body.mul(cos, first)?, body.mul(sin, second)?);
    let real = body.sub(a, b)?;
    let (a, b) = (body.mul(sin, first)?, body.mul(cos, second)?);
    let imaginary = body.add(a, b)?;
    let axis = body.scalar_si32(3)?;
    Ok(body.concat(axis, &[real, imaginary])?)
}

/// Adds a dimension of extent 1; a reshape where the extents are known.
pub fn add_axis(body: &mut GraphBuilder<'_>, x: Value, axis: i64) -> Result<Value> {
    let mut dims = body.tensor("expand_dims", x)?.dims;
    let at = if axis < 0 {
        dims.len() as i64 + 1 + axis
    } else {
        axis
    };
    dims.insert(at as usize, Dim::Static(1));
    let known: Option<Vec<u64>> = dims.iter().map(|dim| dim.known()).collect();
    match known {
        Some(dims) => {
            let shape = body.ui32(&dims)?;
            Ok(body.reshape(x, shape)?)
        }
        None => {
            let axes = body.si32(&[axis])?;
            Ok(body.expand_dims(x, axes)?)
        }
    }
}

/// One element of a shape vector, as a vector.
pub fn extent(body: &mut GraphBuilder<'_>, shape: Value, axis: i64) -> Result<Value> {
    let (begin, end, one) = (
        body.si32(&[axis])?,
        body.si32(&[axis + 1])?,
        body.si32(&[1])?,
    );
    Ok(body.slice(shape, begin, end, one)?)
}

fn sdpa_declaration(is_causal: bool) -> Composite {
    let op_attrs = vec![
        ("is_causal", Attribute::boolean(is_causal)),
        version(),
        ("window_size", Attribute::si64(0)),
    ];
    Composite::new("scaled_dot_product_attention", op_attrs)
}

/// `1 / √head_dim` as a half.
fn scale(body: &mut GraphBuilder<'_>, head_dim: u64, element: ElementType) -> Result<Value> {
    let scale = (head_dim as f64).powf(-0.5);
    Ok(match element {
        ElementType::F32 => body.scalar_f32(scale as f32)?,
        _ => body.dense(
            TensorType::fixed([], ElementType::F16),
            &f16::from_f64(scale).to_le_bytes(),
        )?,
    })
}

/// `scaled_dot_product_attention(query, key, value)` over all keys, `[1, heads,
/// rows, D]` each, all of f16 or all of f32.
pub fn attention(
    asset: &mut AssetBuilder,
    name: &str,
    [heads, rows, head_dim]: [u64; 3],
    element: ElementType,
) -> Result<Graph> {
    let mut graph = asset.composite(name, sdpa_declaration(false));
    let ty = TensorType::fixed([1, heads, rows, head_dim], element);
    let query = graph.input("query", ty.clone())?;
    let key = graph.input("key", ty.clone())?;
    let value = graph.input("value", ty)?;
    let axis = graph.scalar_si32(3)?;
    let swap = graph.ui32(&[0, 1, 3, 2])?;
    let scale = scale(&mut graph, head_dim, element)?;
    let query = graph.mul(query, scale)?;
    let key = graph.transpose(key, swap)?;
    let scores = graph.batch_matmul(query, key)?;
    let weights = graph.softmax(scores, axis)?;
    let mixed = graph.batch_matmul(weights, value)?;
    Ok(graph.finish(&[("view_5", mixed)])?)
}

/// `scaled_dot_product_attention(query [1, heads, S, D], key, value [1, kv, T,
/// D])`, causal: the last query sees all T keys. Heads share keys in groups.
pub fn causal_attention(
    asset: &mut AssetBuilder,
    name: &str,
    heads: u64,
    kv_heads: u64,
    rows: Dim,
    head_dim: u64,
) -> Result<Graph> {
    let mut graph = asset.composite(name, sdpa_declaration(true));
    let query_ty = [1.into(), heads.into(), rows, head_dim.into()];
    let cache_ty = TensorType::new(
        [1.into(), kv_heads.into(), Dim::Dynamic, head_dim.into()],
        ElementType::F16,
    );
    let query = graph.input("query", TensorType::new(query_ty, ElementType::F16))?;
    let key = graph.input("key", cache_ty.clone())?;
    let value = graph.input("value", cache_ty)?;
    let body = &mut graph;

    let row_count = match rows {
        Dim::Static(_) => None,
        Dim::Dynamic => {
            let shape = body.get_shape(query)?;
            let shape = body.cast(shape, ElementType::Si32)?;
            Some(extent(body, shape, 2)?)
        }
    };
    let key_shape = body.get_shape(key)?;
    let shape = body.cast(key_shape, ElementType::Si32)?;
    let key_count = extent(body, shape, 2)?;
    let visible = visible_keys(body, rows, row_count, key_count)?;

    let groups = (heads, kv_heads);
    let result = if heads == kv_heads {
        "view_5"
    } else {
        "view_7"
    };
    let key = if heads == kv_heads {
        key
    } else {
        per_head(body, key, key_shape, groups)?
    };
    let value = if heads == kv_heads {
        value
    } else {
        let value_shape = body.get_shape(value)?;
        per_head(body, value, value_shape, groups)?
    };

    let scale = scale(body, head_dim, ElementType::F16)?;
    let swap = body.ui32(&[0, 1, 3, 2])?;
    let mut query = body.mul(query, scale)?;
    let key = body.transpose(key, swap)?;
    let axis = body.scalar_si32(0)?;
    let scalar = |body: &mut GraphBuilder<'_>, extent: u64| -> Result<Value> {
        Ok(body.integers(ElementType::Ui32, &[], &[extent as i64])?)
    };
    let one = scalar(body, 1)?;
    let heads_scalar = scalar(body, heads)?;
    let dim_scalar = scalar(body, head_dim)?;
    let rows_unsigned = match row_count {
        Some(count) => {
            let count = body.cast(count, ElementType::Ui32)?;
            let to = body.concat(axis, &[one, heads_scalar, count, dim_scalar])?;
            query = body.broadcast_to(query, to)?;
            count
        }
        None => scalar(body, rows.known().unwrap_or(1))?,
    };
    let keys_unsigned = body.cast(key_count, ElementType::Ui32)?;
    let to = body.concat(axis, &[one, heads_scalar, dim_scalar, keys_unsigned])?;
    let key = body.broadcast_to(key, to)?;
    let scores = body.batch_matmul(query, key)?;

    let one_vector = body.si32(&[1])?;
    let heads_vector = body.si32(&[heads as i64])?;
    let dim_vector = body.si32(&[head_dim as i64])?;
    let rows_vector = match row_count {
        Some(count) => count,
        None => body.si32(&[rows.known().unwrap_or(1) as i64])?,
    };
    let hidden = body.not(visible)?;
    let hidden = body.cast(hidden, ElementType::F16)?;
    let masked = body.scalar_f16(MASKED)?;
    let bias = body.mul(hidden, masked)?;
    let mut scores = body.add(scores, bias)?;
    if !matches!(rows, Dim::Static(2..)) {
        // With one row, or who knows how many, the mask has taken the number
        // of rows out of the type.
        let shape = body.concat(axis, &[one_vector, heads_vector, rows_vector, key_count])?;
        let ty = body.tensor("softmax", scores)?;
        scores = body.reshape_as(scores, shape, ty)?;
    }
    let along = body.scalar_si32(3)?;
    let weights = body.softmax(scores, along)?;
    let to = body.concat(axis, &[one, heads_scalar, rows_unsigned, keys_unsigned])?;
    let weights = body.broadcast_to(weights, to)?;
    let shape = body.concat(axis, &[heads_vector, rows_vector, key_count])?;
    let weights = body.reshape(weights, shape)?;
    let to = body.concat(axis, &[one, heads_scalar, keys_unsigned, dim_scalar])?;
    let value = body.broadcast_to(value, to)?;
    let shape = body.concat(axis, &[heads_vector, key_count, dim_vector])?;
    let value = body.reshape(value, shape)?;
    let mixed = body.batch_matmul(weights, value)?;
    let shape = match (rows, row_count) {
        (Dim::Static(rows), _) => body.ui32(&[1, heads, rows, head_dim])?,
        (_, Some(count)) => body.concat(axis, &[one_vector, heads_vector, count, dim_vector])?,
        (_, None) => one_vector,
    };
    let mixed = body.reshape(mixed, shape)?;
    Ok(graph.finish(&[(result, mixed)])?)
}

/// `[S, T]` of booleans: whether row i may see key j, which is where j ≤ T − S
/// + i.
fn visible_keys(
    body: &mut GraphBuilder<'_>,
    rows: Dim,
    row_count: Option<Value>,
    key_count: Value,
) -> Result<Value> {
    let count = match row_count {
        Some(count) => count,
        None => body.scalar_si32(rows.known().unwrap_or(1) as i64)?,
    };
    let past = body.sub(key_count, count)?;
    let scalar = body.ui32(&[])?;
    let past = body.reshape(past, scalar)?;
    let keys = body.reshape(key_count, scalar)?;
    let (zero, step) = (body.scalar_si32(0)?, body.scalar_si32(1)?);
    let mut queries = body.range(past, keys, step)?;
    let keys = body.range(zero, keys, step)?;
    let one = body.si32(&[1])?;
    let first = body.si32(&[0])?;
    if row_count.is_some() {
        let end = body.si32(&[TO_END])?;
        queries = body.slice(queries, first, end, one)?;
    }
    let queries = body.expand_dims(queries, one)?;
    let keys = body.expand_dims(keys, first)?;
    let (begin, end, ones) = (
        body.si32(&[0; 2])?,
        body.si32(&[TO_END; 2])?,
        body.si32(&[1; 2])?,
    );
    let keys = body.slice(keys, begin, end, ones)?;
    let ahead = body.greater(keys, queries)?;
    Ok(body.not(ahead)?)
}

/// Repeats each of the `kv_heads` for the heads that share it.
fn per_head(
    body: &mut GraphBuilder<'_>,
    x: Value,
    shape: Value,
    (heads, kv_heads): (u64, u64),
) -> Result<Value> {
    let group = heads / kv_heads;
    let owners: Vec<i64> = (0..heads).map(|head| (head / group) as i64).collect();
    let owners = body.integers(ElementType::Si32, &[1, heads, 1, 1], &owners)?;
    let parts = [
        extent(body, shape, 0)?,
        extent(body, shape, 2)?,
        extent(body, shape, 3)?,
    ];
    let axis = body.scalar_si32(0)?;
    let extents = body.concat(axis, &parts)?;
    let axes = body.si32(&[0, 2, 3])?;
    let owners = body.broadcast_in_dims(owners, extents, axes)?;
    let along = body.scalar_si32(1)?;
    Ok(body.gather_along_axis(x, owners, along)?)
}

/// Inverse frequencies of the decoder's rotary embedding: `1 / θ^(i / half)`
/// for each of the `half` frequencies.
///
/// The power is rounded once, from f64. PyTorch's vectorized power is off by
/// one unit in the last place at a few indexes on some processors.
pub fn rope_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let exponent = |i: usize| i as f32 / half as f32;
    (0..half)
        .map(|i| 1.0 / (theta.powf(exponent(i).into()) as f32))
        .collect()
}
