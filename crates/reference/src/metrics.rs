//! How far two vectors are apart.

/// The cosine of the angle between two vectors of one length, in f64; 1 if
/// both are zero, 0 if one is. 0 too if a number is not finite: no bar lets that
/// pass, while a NaN would be lost in the least of many cosines.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let (aa, bb) = (dot(a, a), dot(b, b));
    match (aa == 0.0, bb == 0.0) {
        (true, true) => 1.0,
        (false, false) => {
            let cosine = dot(a, b) / (aa.sqrt() * bb.sqrt());
            if cosine.is_finite() { cosine } else { 0.0 }
        }
        _ => 0.0,
    }
}
