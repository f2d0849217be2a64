//! Operations that are stored with their decomposition into primitives.
//!
//! Core AI stores a decomposable operation with a region that computes the same
//! with primitives, for readers that do not know the operation. Its serializer
//! makes the region from the types of the operands alone; the rules here give
//! the same regions. Constants are not shared within them.

use mlir_bytecode::Value;

use crate::{Dim, ElementType, GraphBuilder, Result, TensorType, build::operands, shape};

/// The broadcasting operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Divide,
    FloorDivide,
    Greater,
    Maximum,
    Minimum,
}

impl Binary {
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Divide => "divide",
            Self::FloorDivide => "floor_divide",
            Self::Greater => "greater",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
        }
    }

    fn result(self, element: ElementType) -> ElementType {
        if self == Self::Greater {
            ElementType::Bool
        } else {
            element
        }
    }
}

impl GraphBuilder<'_> {
    pub(crate) fn binary(&mut self, op: Binary, x: Value, y: Value) -> Result<Value> {
        let (tx, ty) = (self.tensor(op.name(), x)?, self.tensor(op.name(), y)?);
        if tx.element != ty.element {
            return Err(operands(
                op.name(),
                format!("{tx} and {ty} differ in their elements"),
            ));
        }
        let dims = shape::broadcast(op.name(), &tx.dims, &ty.dims)?;
        let result = TensorType::new(dims.clone(), op.result(tx.element));
        let region = self.region(&[tx.into(), ty.into()], |body, args| {
            let (x, y) = body.broadcast_both(&dims, args[0], args[1])?;
            body.emit(
                &format!("primitive.{}_v1", op.name()),
                &[x, y],
                result.clone(),
            )
        })?;
        let value = self.context.value(result.into())?;
        let name = format!("broadcasting_{}_v1", op.name());
        self.push(&name, &[x, y], None, vec![value], vec![region])?;
        Ok(value)
    }

    /// Brings both arguments of a region to the same extents.
    fn broadcast_both(&mut self, dims: &[Dim], x: Value, y: Value) -> Result<(Value, Value)> {
        let (tx, ty) = (self.tensor("broadcast", x)?, self.tensor("broadcast", y)?);
        if let (Some(x_dims), Some(y_dims)) = (tx.static_dims(), ty.static_dims()) {
            let dims: Vec<u64> = dims.iter().filter_map(|dim| dim.known()).collect();
            return Ok((
                self.align(x, &x_dims, &dims)?,
                self.align(y, &y_dims, &dims)?,
            ));
        }
        let known: Option<Vec<u64>> = dims.iter().map(|dim| dim.known()).collect();
        let to = match known {
            Some(dims) => self.ui32(&dims)?,
            None if tx.rank() == 0 => self.shape_of(y)?,
            None if ty.rank() == 0 => self.shape_of(x)?,
            None => {
                let (x_shape, y_shape) = (self.shape_of(x)?, self.shape_of(y)?);
                self.broadcast_shapes(x_shape, y_shape)?
            }
        };
        Ok((self.stretch(x, dims, to)?, self.stretch(y, dims, to)?))
    }

    /// Brings a tensor of known extents to known extents.
    fn align(&mut self, value: Value, from: &[u64], dims: &[u64]) -> Result<Value> {
        let element = self.tensor("broadcast", value)?.element;
        let mut padded = vec![1; dims.len() - from.len()];
        padded.extend_from_slice(from);
        let mut value = value;
        if from.len() < dims.len() {
            let shape: Vec<i64> = padded.iter().map(|&extent| extent as i64).collect();
            let shape = self.si32(&shape)?;
            value = self.emit(
                "primitive.reshape_v2",
                &[value, shape],
                TensorType::fixed(&padded, element),
            )?;
        }
        let axes: Vec<usize> = (0..dims.len()).filter(|&i| padded[i] != dims[i]).collect();
        if !axes.is_empty() {
            let extents: Vec<u64> = axes.iter().map(|&i| dims[i]).collect();
            let extents = self.ui32(&extents)?;
            let axes: Vec<i64> = axes.iter().map(|&i| i as i64).collect();
            let axes = self.si32(&axes)?;
            let result = TensorType::fixed(dims, element);
            value = self.emit(
                "primitive.broadcast_in_dims_v1",
                &[value, extents, axes],
                result,
            )?;
        }
        Ok(value)
    }

    /// Broadcasts to a shape vector, unless it is known to be that already.
    fn stretch(&mut self, value: Value, dims: &[Dim], to: Value) -> Result<Value> {
        let ty = self.tensor("broadcast_to", value)?;
        if ty.dims == dims && ty.static_dims().is_some() {
            return Ok(value);
        }
        self.emit(
            "primitive.broadcast_to_v1",
            &[value, to],
            TensorType::new(dims, ty.element),
        )
    }

    /// The shape vector of a tensor: a constant where its extents are known.
    fn shape_of(&mut self, value: Value) -> Result<Value> {
        let ty = self.tensor("get_shape", value)?;
        match ty.static_dims() {
            Some(dims) => self.ui32(&dims),
            None => self.get_shape(value),
        }
    }

    fn broadcast_shapes(&mut self, a: Value, b: Value) -> Result<Value> {
        let length = |body: &Self, value| match body.tensor("broadcast_shapes", value)?.dims[..] {
            [Dim::Static(length)] => Ok(length),
            _ => Err(operands(
                "broadcast_shapes",
                "expected vectors of known length",
            )),
        };
        let rank = length(self, a)?.max(length(self, b)?);
        self.emit(
            "primitive.broadcast_shapes_v1",
            &[a, b],
            TensorType::fixed([rank], ElementType::Ui32),
        )
    }

    /// `condition ? x : y`, element by element, broadcasting all three.
    ///
    /// # Errors
    /// A condition that is not boolean, branches of other elements than each
    /// other, or extents that do not broadcast.
    pub fn select(&mut self, condition: Value, x: Value, y: Value) -> Result<Value> {
        let tc = self.tensor("where", condition)?;
        let (tx, ty) = (self.tensor("where", x)?, self.tensor("where", y)?);
        if tc.element != ElementType::Bool || tx.element != ty.element {
            return Err(operands(
                "where",
                format!("does not choose by {tc} between {tx} and {ty}"),
            ));
        }
        let first = shape::broadcast("where", &tc.dims, &tx.dims)?;
        let dims = shape::broadcast("where", &first, &ty.dims)?;
        let result = TensorType::new(dims.clone(), tx.element);
        let arguments = [tc.clone().into(), tx.clone().into(), ty.clone().into()];
        let region = self.region(&arguments, |body, args| {
            let shapes = [
                body.shape_of(args[0])?,
                body.shape_of(args[1])?,
                body.shape_of(args[2])?,
            ];
            let known: Option<Vec<u64>> = first.iter().map(|dim| dim.known()).collect();
            let inner = match known {
                _ if tc.rank() == 0 => shapes[1],
                _ if tx.rank() == 0 => shapes[0],
                Some(dims) => body.ui32(&dims)?,
                None => body.broadcast_shapes(shapes[0], shapes[1])?,
            };
            let outer = match () {
                () if first.is_empty() => shapes[2],
                () if ty.rank() == 0 => inner,
                () => body.broadcast_shapes(inner, shapes[2])?,
            };
            let condition = body.stretch(args[0], &dims, outer)?;
            let x = body.stretch(args[1], &dims, outer)?;
            let y = body.stretch(args[2], &dims, outer)?;
            body.emit("primitive.where_v1", &[condition, x, y], result.clone())
        })?;
        let value = self.context.value(result.into())?;
        self.push(
            "broadcasting_where_v1",
            &[condition, x, y],
            None,
            vec![value],
            vec![region],
        )?;
        Ok(value)
    }

    /// The matrix product of the last two dimensions, `[.., m, k] × [.., k, n]
    /// → [.., m, n]`; the dimensions before them broadcast.
    ///
    /// # Errors
    /// Fewer than two dimensions, elements that differ, or extents that do not
    /// fit.
    pub fn batch_matmul(&mut self, x: Value, y: Value) -> Result<Value> {
        const OP: &str = "batch_matmul";
        let (tx, ty) = (self.tensor(OP, x)?, self.tensor(OP, y)?);
        let (Some(x_batch), Some(y_batch)) = (tx.rank().checked_sub(2), ty.rank().checked_sub(2))
        else {
            return Err(operands(
                OP,
                format!("expected two dimensions or more, found {tx} and {ty}"),
            ));
        };
        let inner = (tx.dims[x_batch + 1].known(), ty.dims[y_batch].known());
        let fits = match inner {
            (Some(columns), Some(rows)) => columns == rows,
            _ => true,
        };
        if tx.element != ty.element || !fits {
            return Err(operands(OP, format!("{tx} and {ty} do not multiply")));
        }
        let batch = shape::broadcast(OP, &tx.dims[..x_batch], &ty.dims[..y_batch])?;
        let with_batch = |last: &[Dim]| [batch.as_slice(), last].concat();
        let result = TensorType::new(
            with_batch(&[tx.dims[x_batch], ty.dims[y_batch + 1]]),
            tx.element,
        );
        let x_dims = with_batch(&tx.dims[x_batch..]);
        let y_dims = with_batch(&ty.dims[y_batch..]);
        let region = self.region(&[tx.clone().into(), ty.clone().into()], |body, args| {
            let (mut left, mut right) = (args[0], args[1]);
            if tx.rank() > 2 || ty.rank() > 2 {
                let axis = body.scalar_si32(0)?;
                let (zero, one) = (body.si32(&[0])?, body.si32(&[1])?);
                let x_bounds = body.matrix_bounds(tx.rank())?;
                let y_bounds = body.matrix_bounds(ty.rank())?;
                let (x_shape, y_shape) = (body.shape_of(left)?, body.shape_of(right)?);
                let x_parts = body.split_shape(x_shape, tx.rank(), zero, x_bounds, one)?;
                let y_parts = body.split_shape(y_shape, ty.rank(), zero, y_bounds, one)?;
                let batch_shape = match (x_parts.0, y_parts.0) {
                    (Some(x), Some(y)) => body.broadcast_shapes(x, y)?,
                    (Some(only), None) | (None, Some(only)) => only,
                    (None, None) => zero,
                };
                let to_x = body.concat(axis, &[batch_shape, x_parts.1])?;
                let to_y = body.concat(axis, &[batch_shape, y_parts.1])?;
                if ty.rank() > 2 {
                    left = body.stretch(left, &x_dims, to_x)?;
                }
                if tx.rank() > 2 {
                    right = body.stretch(right, &y_dims, to_y)?;
                }
            }
            body.emit("primitive.batch_matmul_v1", &[left, right], result.clone())
        })?;
        let value = self.context.value(result.into())?;
        self.push(
            "broadcasting_batch_matmul_v1",
            &[x, y],
            None,
            vec![value],
            vec![region],
        )?;
        Ok(value)
    }

    /// Where the matrix starts and ends in a shape vector of a rank.
    fn matrix_bounds(&mut self, rank: usize) -> Result<(Value, Value)> {
        Ok((self.si32(&[rank as i64 - 2])?, self.si32(&[rank as i64])?))
    }

    /// The part of a shape vector before the last two extents, where there is
    /// one, and those two.
    fn split_shape(
        &mut self,
        shape: Value,
        rank: usize,
        zero: Value,
        (matrix, end): (Value, Value),
        one: Value,
    ) -> Result<(Option<Value>, Value)> {
        if rank == 2 {
            return Ok((None, shape));
        }
        let batch = self.slice(shape, zero, matrix, one)?;
        Ok((Some(batch), self.slice(shape, matrix, end, one)?))
    }
}
