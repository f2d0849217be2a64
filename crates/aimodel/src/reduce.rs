//! Reductions, and the activations that are decomposed into them; see
//! [`decompose`](crate::decompose).

use mlir_bytecode::Value;

use crate::{
    Dim,
    ElementType::{self, BF16, F16, F32, Si32, Si64, Ui64},
    GraphBuilder, Result, TensorType, Type,
    build::operands,
    decompose::Binary,
    shape,
};

/// What a reduction does with two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combine {
    Sum,
    Product,
}

impl Combine {
    /// The name of the reduction, the primitive that combines, and its neutral
    /// element.
    fn parts(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Sum => ("reduce_sum_v1", "primitive.add_v1", 0),
            Self::Product => ("reduce_product_v1", "primitive.mul_v1", 1),
        }
    }
}

/// The element type that a reduction accumulates in.
fn accumulator(op: &str, element: ElementType) -> Result<ElementType> {
    match element {
        F16 | BF16 | F32 => Ok(F32),
        Si32 | Si64 => Ok(Si64),
        Ui64 => Ok(Ui64),
        other => Err(operands(op, format!("does not reduce elements of {other}"))),
    }
}

/// A small number as a little-endian element.
fn element_bytes(element: ElementType, number: u8) -> Vec<u8> {
    match element {
        F16 => half::f16::from(number).to_le_bytes().to_vec(),
        BF16 => half::bf16::from(number).to_le_bytes().to_vec(),
        F32 => f32::from(number).to_le_bytes().to_vec(),
        other => {
            let mut bytes = vec![0; (other.bits() / 8) as usize];
            bytes[0] = number;
            bytes
        }
    }
}

impl GraphBuilder<'_> {
    /// A reduction whose result is labelled `result`.
    fn reduce(&mut self, how: Combine, x: Value, axes: Value, result: TensorType) -> Result<Value> {
        let (name, combine, neutral) = how.parts();
        let (tx, taxes) = (self.tensor(name, x)?, self.tensor(name, axes)?);
        let accumulate = accumulator(name, tx.element)?;
        let unknown = TensorType::new(vec![Dim::Dynamic; tx.rank()], tx.element);
        let region = self.region(&[tx.clone().into(), taxes.into()], |body, args| {
            let start = TensorType::fixed([], accumulate);
            let start = body.dense(start, &element_bytes(accumulate, neutral))?;
            let scalars = [accumulate, tx.element].map(|e| Type::from(TensorType::fixed([], e)));
            let combiner = body.region(&scalars, |body, args| {
                let mut element = args[1];
                if tx.element != accumulate {
                    element = body.cast(element, accumulate)?;
                }
                body.emit(combine, &[args[0], element], scalars[0].clone())
            })?;
            let reduced = body.context.value(unknown.into())?;
            let taken = [args[0], args[1], start];
            body.push(
                "primitive.reduce_v1",
                &taken,
                None,
                vec![reduced],
                vec![combiner],
            )?;
            Ok(reduced)
        })?;
        let value = self.context.value(result.into())?;
        self.push(name, &[x, axes], None, vec![value], vec![region])?;
        Ok(value)
    }

    /// The sum over some axes, which stay as extents of 1.
    ///
    /// # Errors
    /// Axes that are not a constant vector of si32, or that the tensor does not
    /// have; elements that are not summed.
    pub fn reduce_sum(&mut self, x: Value, axes: Value) -> Result<Value> {
        let (result, _) = self.reduced("reduce_sum", x, axes)?;
        self.reduce(Combine::Sum, x, axes, result)
    }

    /// The type of a reduction over constant axes, and how many they are.
    fn reduced(&self, op: &str, x: Value, axes: Value) -> Result<(TensorType, usize)> {
        let known = self.known(axes);
        let known = known.and_then(|axes| axes.iter().copied().collect::<Option<Vec<_>>>());
        let known = known.ok_or_else(|| operands(op, "expected constant axes"))?;
        let mut result = self.tensor(op, x)?;
        let rank = result.rank();
        for &axis in &known {
            result.dims[shape::axis(op, axis, rank)?] = Dim::Static(1);
        }
        Ok((result, known.len()))
    }

    /// The mean over some axes, which stay as extents of 1.
    ///
    /// # Errors
    /// Axes that are not a constant vector of si32, or that the tensor does not
    /// have.
    pub fn reduce_mean(&mut self, x: Value, axes: Value) -> Result<Value> {
        const OP: &str = "reduce_mean";
        let (tx, taxes) = (self.tensor(OP, x)?, self.tensor(OP, axes)?);
        let (result, count) = self.reduced(OP, x, axes)?;
        let region = self.region(&[tx.clone().into(), taxes.into()], |body, args| {
            let wide = if tx.element == F32 {
                args[0]
            } else {
                body.cast(args[0], F32)?
            };
            let unknown = TensorType::new(vec![Dim::Dynamic; tx.rank()], F32);
            let sum = body.reduce(Combine::Sum, wide, args[1], unknown)?;
            let shape = match tx.static_dims() {
                Some(dims) => body.ui32(&dims)?,
                None => body.get_shape(wide)?,
            };
            let column = body.si32(&[count as i64, 1])?;
            let column = body.reshape(args[1], column)?;
            let extents = body.gather_nd(shape, column)?;
            let zero = body.si32(&[0])?;
            let extents = body.cast(extents, Ui64)?;
            let one = TensorType::fixed([1], Ui64);
            let elements = body.reduce(Combine::Product, extents, zero, one)?;
            let elements = body.cast(elements, F32)?;
            let mean = body.binary(Binary::Divide, sum, elements)?;
            if tx.element == F32 {
                Ok(mean)
            } else {
                body.cast(mean, tx.element)
            }
        })?;
        let value = self.context.value(result.into())?;
        self.push(
            "reduce_mean_v1",
            &[x, axes],
            None,
            vec![value],
            vec![region],
        )?;
        Ok(value)
    }

    /// The softmax along one axis, a scalar of si32.
    ///
    /// # Errors
    /// Elements that are not floats.
    pub fn softmax(&mut self, x: Value, axis: Value) -> Result<Value> {
        let (tx, taxis) = (self.tensor("softmax", x)?, self.tensor("softmax", axis)?);
        let region = self.region(&[tx.clone().into(), taxis.into()], |body, args| {
            let vector = body.si32(&[1])?;
            let axes = body.reshape(args[1], vector)?;
            let powers = body.emit("primitive.exp_v1", &[args[0]], tx.clone())?;
            // The serializer labels the sum with the operand's own type.
            let sum = body.reduce(Combine::Sum, powers, axes, tx.clone())?;
            body.binary(Binary::Divide, powers, sum)
        })?;
        let value = self.context.value(tx.into())?;
        self.push("softmax_v1", &[x, axis], None, vec![value], vec![region])?;
        Ok(value)
    }

    /// `x · 1 / (1 + exp(−x))`.
    ///
    /// # Errors
    /// Elements that are not floats.
    pub fn silu(&mut self, x: Value) -> Result<Value> {
        let tx = self.tensor("silu", x)?;
        let region = self.region(&[tx.clone().into()], |body, args| {
            let one_element = TensorType::fixed([1], tx.element);
            let zero = body.dense(one_element.clone(), &element_bytes(tx.element, 0))?;
            let one = body.dense(one_element, &element_bytes(tx.element, 1))?;
            let negative = body.binary(Binary::Sub, zero, args[0])?;
            let power = body.emit("primitive.exp_v1", &[negative], tx.clone())?;
            let below = body.binary(Binary::Add, one, power)?;
            let sigmoid = body.binary(Binary::Divide, one, below)?;
            body.binary(Binary::Mul, args[0], sigmoid)
        })?;
        let value = self.context.value(tx.into())?;
        self.push("silu_v1", &[x], None, vec![value], vec![region])?;
        Ok(value)
    }
}
