//! The operations of a graph, and the types of their results.
//!
//! Each method is named after the operation in the `coreai` dialect. Shape
//! vectors, bounds and axes are operands there, so they are here; where they
//! are constants, or built from constants, the extents of the result are known.
//! A method that ends in `_as` takes the type of the result instead, for extents
//! that the caller knows and that do not follow from the graph.

use mlir_bytecode::{Field, Value};

use crate::{
    Approximate, Attribute, Dim, ElementType, Graph, GraphBuilder, Result, TensorType, Type,
    build::{operands, show},
    decompose::Binary,
    shape,
};

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident = $op:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// Operands of different elements, or that do not broadcast.
            pub fn $name(&mut self, x: Value, y: Value) -> Result<Value> {
                self.binary(Binary::$op, x, y)
            }
        )*
    };
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $stored:literal;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// An operand that is not a tensor.
            pub fn $name(&mut self, x: Value) -> Result<Value> {
                let ty = self.tensor(stringify!($name), x)?;
                self.emit($stored, &[x], ty)
            }
        )*
    };
}

impl GraphBuilder<'_> {
    binary! {
        /// `x + y`, broadcasting.
        add = Add;
        /// `x − y`, broadcasting.
        sub = Sub;
        /// `x · y`, broadcasting.
        mul = Mul;
        /// `x ÷ y`, broadcasting.
        divide = Divide;
        /// `⌊x ÷ y⌋`, broadcasting.
        floor_divide = FloorDivide;
        /// `x > y`, broadcasting; the result is boolean.
        greater = Greater;
        /// The maximum of the two, broadcasting.
        maximum = Maximum;
        /// The minimum of the two, broadcasting.
        minimum = Minimum;
    }

    unary! {
        /// `1 ÷ √x`.
        rsqrt = "primitive.rsqrt_v1";
        /// The sine.
        sin = "primitive.sin_v1";
        /// The cosine.
        cos = "primitive.cos_v1";
        /// The logical negation.
        not = "primitive.not_v1";
    }

    /// Converts to another element type.
    ///
    /// # Errors
    /// An operand that is not a tensor.
    pub fn cast(&mut self, x: Value, element: ElementType) -> Result<Value> {
        let ty = self.tensor("cast", x)?.with_element(element);
        let result = self.emit("primitive.cast_v1", &[x], ty)?;
        self.carry(x, result);
        Ok(result)
    }

    /// GELU.
    ///
    /// # Errors
    /// An operand that is not a tensor.
    pub fn gelu(&mut self, x: Value, approximate: Approximate) -> Result<Value> {
        let ty = self.tensor("gelu", x)?;
        let module = &mut self.context.module;
        let approximate = Attribute::Approximate(approximate).intern(module)?;
        let properties = module.properties([Field::Attr(approximate)]);
        let value = self.context.value(ty.into())?;
        self.push(
            "primitive.gelu_v1",
            &[x],
            Some(properties),
            vec![value],
            Vec::new(),
        )?;
        Ok(value)
    }

    /// The extents of a tensor, as a vector of ui32.
    ///
    /// # Errors
    /// An operand that is not a tensor.
    pub fn get_shape(&mut self, x: Value) -> Result<Value> {
        let dims = self.tensor("get_shape", x)?.dims;
        let ty = TensorType::fixed([dims.len() as u64], ElementType::Ui32);
        let result = self.emit("primitive.get_shape_v2", &[x], ty)?;
        let known = dims
            .iter()
            .map(|dim| dim.known().and_then(|extent| extent.try_into().ok()));
        self.context.known.insert(result, known.collect());
        Ok(result)
    }

    /// The same elements in the extents that a shape vector gives.
    ///
    /// # Errors
    /// A shape that is not a vector of known length, or holds another number of
    /// elements.
    pub fn reshape(&mut self, x: Value, shape: Value) -> Result<Value> {
        let ty = self.tensor("reshape", x)?;
        let dims = shape::from_elements("reshape", &self.elements("reshape", shape)?)?;
        let result = TensorType::new(dims, ty.element);
        if let (Some(before), Some(after)) = (ty.element_count(), result.element_count())
            && before != after
        {
            return Err(operands(
                "reshape",
                format!("{ty} does not have as many elements as {result}"),
            ));
        }
        self.reshape_as(x, shape, result)
    }

    /// [`reshape`](Self::reshape) to a type that is known otherwise.
    ///
    /// # Errors
    /// Elements that differ.
    pub fn reshape_as(&mut self, x: Value, shape: Value, result: TensorType) -> Result<Value> {
        self.same_elements("reshape", x, &result)?;
        let value = self.emit("primitive.reshape_v2", &[x, shape], result)?;
        self.carry(x, value);
        Ok(value)
    }

    /// Exchanges dimensions; `permutation` is a constant vector of ui32.
    ///
    /// # Errors
    /// A permutation that is not one of the operand's dimensions.
    pub fn transpose(&mut self, x: Value, permutation: Value) -> Result<Value> {
        let ty = self.tensor("transpose", x)?;
        let order = self.constants("transpose", permutation)?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().ne(0..ty.rank() as i64) {
            return Err(operands(
                "transpose",
                format!("{order:?} does not permute {ty}"),
            ));
        }
        let dims: Vec<Dim> = order.iter().map(|&from| ty.dims[from as usize]).collect();
        self.emit(
            "primitive.transpose_v1",
            &[x, permutation],
            TensorType::new(dims, ty.element),
        )
    }

    /// Joins tensors along an axis, a constant scalar of si32. Scalars count as
    /// vectors of one element.
    ///
    /// # Errors
    /// No parts, parts of different elements or extents, or no such axis.
    pub fn concat(&mut self, axis: Value, parts: &[Value]) -> Result<Value> {
        const OP: &str = "concat";
        let types = parts
            .iter()
            .map(|&part| self.tensor(OP, part))
            .collect::<Result<Vec<_>>>()?;
        let Some(last) = types.last() else {
            return Err(operands(OP, "expected parts"));
        };
        let &[axis_at] = self.constants(OP, axis)?.as_slice() else {
            return Err(operands(OP, "expected a scalar axis"));
        };
        let dims_of = |ty: &TensorType| match ty.rank() {
            0 => vec![Dim::Static(1)],
            _ => ty.dims.clone(),
        };
        let mut dims = dims_of(&types[0]);
        let along = shape::axis(OP, axis_at, dims.len())?;
        for ty in &types[1..] {
            let other = dims_of(ty);
            let fits = other.len() == dims.len()
                && (0..dims.len()).all(|i| i == along || dims[i] == other[i]);
            if !fits {
                return Err(operands(OP, format!("{} does not join {ty}", show(&dims))));
            }
            dims[along] = match (dims[along], other[along]) {
                (Dim::Static(a), Dim::Static(b)) => Dim::Static(a + b),
                _ => Dim::Dynamic,
            };
        }
        // Parts of a shape come as si32 and ui32; what they are joined to has
        // the elements of the last one.
        let taken: Vec<Value> = std::iter::once(axis).chain(parts.iter().copied()).collect();
        let result = self.emit(
            "primitive.concat_v1",
            &taken,
            TensorType::new(dims, last.element),
        )?;
        if self.tensor(OP, result)?.rank() == 1
            && let Ok(known) = parts
                .iter()
                .map(|&part| self.elements(OP, part))
                .collect::<Result<Vec<_>>>()
        {
            self.context.known.insert(result, known.concat());
        }
        Ok(result)
    }

    /// The elements from `begin` to `end` in steps of `stride`, each a vector
    /// of si32 with one element for each dimension.
    ///
    /// # Errors
    /// Bounds that are not vectors, or have another length.
    pub fn slice(&mut self, x: Value, begin: Value, end: Value, stride: Value) -> Result<Value> {
        const OP: &str = "slice";
        let ty = self.tensor(OP, x)?;
        let bounds = [begin, end, stride].map(|bound| self.elements(OP, bound));
        let [begins, ends, strides] = bounds;
        let (begins, ends, strides) = (begins?, ends?, strides?);
        if [&begins, &ends, &strides]
            .iter()
            .any(|bound| bound.len() != ty.rank())
        {
            return Err(operands(OP, format!("the bounds are not those of {ty}")));
        }
        let dims: Vec<Dim> = (0..ty.rank())
            .map(|i| shape::slice(ty.dims[i], begins[i], ends[i], strides[i]))
            .collect();
        let result = TensorType::new(dims, ty.element);
        let value = self.slice_as(x, [begin, end, stride], result)?;
        if let (Some(known), &[Some(begin)], &[Some(end)], &[Some(1)]) =
            (self.known(x), &begins[..], &ends[..], &strides[..])
            && let Some(part) = known.get(begin as usize..(end as usize).min(known.len()))
        {
            let part = part.to_vec();
            self.context.known.insert(value, part);
        }
        Ok(value)
    }

    /// [`slice`](Self::slice) with a result that is known otherwise.
    ///
    /// # Errors
    /// Elements that differ.
    pub fn slice_as(&mut self, x: Value, bounds: [Value; 3], result: TensorType) -> Result<Value> {
        self.same_elements("slice", x, &result)?;
        let [begin, end, stride] = bounds;
        self.emit("primitive.slice_v1", &[x, begin, end, stride], result)
    }

    /// `x` with the elements from `begin` to `end` replaced by `update`.
    ///
    /// # Errors
    /// Elements that differ.
    pub fn slice_update(
        &mut self,
        x: Value,
        update: Value,
        [begin, end, stride]: [Value; 3],
    ) -> Result<Value> {
        let ty = self.tensor("slice_update", x)?;
        self.same_elements("slice_update", update, &ty)?;
        self.emit(
            "primitive.slice_update_v1",
            &[x, begin, end, stride, update],
            ty,
        )
    }

    /// Broadcasts to the extents of a shape vector.
    ///
    /// # Errors
    /// A shape that is not a vector of known length.
    pub fn broadcast_to(&mut self, x: Value, shape: Value) -> Result<Value> {
        let ty = self.tensor("broadcast_to", x)?;
        let dims = shape::from_elements("broadcast_to", &self.elements("broadcast_to", shape)?)?;
        self.emit(
            "primitive.broadcast_to_v1",
            &[x, shape],
            TensorType::new(dims, ty.element),
        )
    }

    /// Stretches the dimensions `axes` (constant, si32) to `extents`.
    ///
    /// # Errors
    /// Axes that the tensor does not have, or another number of extents.
    pub fn broadcast_in_dims(&mut self, x: Value, extents: Value, axes: Value) -> Result<Value> {
        const OP: &str = "broadcast_in_dims";
        let mut ty = self.tensor(OP, x)?;
        let new = shape::from_elements(OP, &self.elements(OP, extents)?)?;
        let axes_at = self.constants(OP, axes)?;
        if new.len() != axes_at.len() {
            return Err(operands(
                OP,
                format!("{} extents for {} axes", new.len(), axes_at.len()),
            ));
        }
        for (axis, dim) in axes_at.into_iter().zip(new) {
            let axis = shape::axis(OP, axis, ty.rank())?;
            ty.dims[axis] = dim;
        }
        self.emit("primitive.broadcast_in_dims_v1", &[x, extents, axes], ty)
    }

    /// The slices of `x` at the indices in the last dimension of `indices`.
    ///
    /// # Errors
    /// Indices whose last extent is unknown or more than the rank of `x`.
    pub fn gather_nd(&mut self, x: Value, indices: Value) -> Result<Value> {
        let (tx, ti) = (
            self.tensor("gather_nd", x)?,
            self.tensor("gather_nd", indices)?,
        );
        let dims = match ti.dims.split_last() {
            Some((Dim::Static(depth), batch)) if *depth as usize <= tx.rank() => {
                [batch, &tx.dims[*depth as usize..]].concat()
            }
            _ => return Err(operands("gather_nd", format!("{ti} does not index {tx}"))),
        };
        let taken = [x, indices];
        self.emit(
            "primitive.gather_nd_v1",
            &taken,
            TensorType::new(dims, tx.element),
        )
    }

    /// The elements of `x` at `indices` along an axis, a constant scalar of
    /// si32.
    ///
    /// # Errors
    /// Operands of different ranks.
    pub fn gather_along_axis(&mut self, x: Value, indices: Value, axis: Value) -> Result<Value> {
        const OP: &str = "gather_along_axis";
        let (tx, ti) = (self.tensor(OP, x)?, self.tensor(OP, indices)?);
        if tx.rank() != ti.rank() {
            return Err(operands(OP, format!("{ti} does not index {tx}")));
        }
        let result = ti.with_element(tx.element);
        self.emit(
            "primitive.gather_along_axis_v1",
            &[x, indices, axis],
            result,
        )
    }

    /// Adds dimensions of extent 1 at the axes (constant, si32) of the result.
    ///
    /// # Errors
    /// Axes that the tensor does not have.
    pub fn expand_dims(&mut self, x: Value, axes: Value) -> Result<Value> {
        let mut ty = self.tensor("expand_dims", x)?;
        let axes_at = self.constants("expand_dims", axes)?;
        let rank = ty.rank() + axes_at.len();
        let mut sorted = axes_at
            .iter()
            .map(|&axis| shape::axis("expand_dims", axis, rank))
            .collect::<Result<Vec<_>>>()?;
        sorted.sort_unstable();
        for axis in sorted {
            ty.dims.insert(axis.min(ty.dims.len()), Dim::Static(1));
        }
        self.emit("primitive.expand_dims_v1", &[x, axes], ty)
    }

    /// Drops the dimensions of extent 1 at the axes (constant, si32).
    ///
    /// # Errors
    /// Axes that the tensor does not have, or longer than 1.
    pub fn shrink_dims(&mut self, x: Value, axes: Value) -> Result<Value> {
        let mut ty = self.tensor("shrink_dims", x)?;
        let axes_at = self.constants("shrink_dims", axes)?;
        let mut sorted = axes_at
            .iter()
            .map(|&axis| shape::axis("shrink_dims", axis, ty.rank()))
            .collect::<Result<Vec<_>>>()?;
        sorted.sort_unstable();
        for axis in sorted.into_iter().rev() {
            if ty.dims.remove(axis) != Dim::Static(1) {
                return Err(operands(
                    "shrink_dims",
                    format!("dimension {axis} is longer than 1"),
                ));
            }
        }
        self.emit("primitive.shrink_dims_v1", &[x, axes], ty)
    }

    /// The numbers from `begin` to `end` in steps of `step`, scalars of si32.
    ///
    /// # Errors
    /// Only those of every operation.
    pub fn range(&mut self, begin: Value, end: Value, step: Value) -> Result<Value> {
        let ty = TensorType::new([Dim::Dynamic], ElementType::Si32);
        self.emit("primitive.range_v1", &[begin, end, step], ty)
    }

    /// `(data − zero_point) · scale + offset`, in which each element of the
    /// last three belongs to a block of `data`. The result has the elements of
    /// `scale`.
    ///
    /// # Errors
    /// Blocks that do not divide the data.
    pub fn blockwise_shift_scale(
        &mut self,
        data: Value,
        scale: Value,
        zero_point: Value,
        offset: Value,
    ) -> Result<Value> {
        const OP: &str = "blockwise_shift_scale";
        let (td, ts) = (self.tensor(OP, data)?, self.tensor(OP, scale)?);
        let divides = td.rank() == ts.rank()
            && td.dims.iter().zip(&ts.dims).all(|(data, blocks)| {
                matches!((data.known(), blocks.known()), (Some(d), Some(b)) if b > 0 && d % b == 0)
            });
        if !divides {
            return Err(operands(OP, format!("{ts} are not blocks of {td}")));
        }
        let result = td.with_element(ts.element);
        let taken = [data, scale, zero_point, offset];
        self.emit("primitive.blockwise_shift_scale_v2", &taken, result)
    }

    /// A token, which begins an order of reads and writes.
    ///
    /// # Errors
    /// Only those of every operation.
    pub fn create_token(&mut self) -> Result<Value> {
        self.emit("dataflow.create_token_v1", &[], Type::Token)
    }

    /// The content of a state, and a token to order later accesses by.
    ///
    /// # Errors
    /// An operand that is not a handle.
    pub fn read_handle(&mut self, handle: Value, token: Value) -> Result<(Value, Value)> {
        let Type::Handle(ty) = self.ty(handle)?.clone() else {
            return Err(operands("read_handle", "expected a handle"));
        };
        let output = self.context.value(ty.into())?;
        let next = self.context.value(Type::Token)?;
        let results = vec![output, next];
        self.push(
            "dataflow.read_handle_v1",
            &[handle, token],
            None,
            results,
            Vec::new(),
        )?;
        Ok((output, next))
    }

    /// Puts a tensor into a state. The result is a token to order later accesses
    /// by.
    ///
    /// # Errors
    /// Only those of every operation.
    pub fn write_handle(&mut self, handle: Value, value: Value, token: Value) -> Result<Value> {
        self.emit(
            "dataflow.write_handle_v1",
            &[handle, value, token],
            Type::Token,
        )
    }

    /// Calls a graph that has one result.
    ///
    /// # Errors
    /// Arguments that are not those of the graph.
    pub fn invoke(&mut self, graph: &Graph, arguments: &[Value]) -> Result<Value> {
        let op = format!("invoke @{}", graph.name);
        let given = arguments.iter().map(|&value| self.ty(value));
        let given = given.collect::<Result<Vec<&Type>>>()?;
        if given.iter().copied().ne(&graph.inputs) {
            let list = |types: &mut dyn Iterator<Item = &Type>| {
                types.map(Type::to_string).collect::<Vec<_>>().join(", ")
            };
            let expected = list(&mut graph.inputs.iter());
            let found = list(&mut given.into_iter());
            return Err(operands(
                &op,
                format!("expected ({expected}), found ({found})"),
            ));
        }
        let [output] = graph.outputs.as_slice() else {
            return Err(operands(&op, "expected a graph with one result"));
        };
        let module = &mut self.context.module;
        let none = Attribute::Array(Vec::new()).intern(module)?;
        let symbol = Attribute::SymbolRef(vec![graph.name.as_str().into()]);
        let callee = Attribute::ParamConstant(Box::new(symbol), Type::Symbol).intern(module)?;
        let properties =
            module.properties([Field::Attr(none), Field::Attr(callee), Field::Attr(none)]);
        let value = self.context.value(output.clone())?;
        self.push(
            "dataflow.invoke_v1",
            arguments,
            Some(properties),
            vec![value],
            Vec::new(),
        )?;
        Ok(value)
    }

    /// The elements of a vector or scalar of integers, as far as they are
    /// known.
    fn elements(&self, op: &str, vector: Value) -> Result<Vec<Option<i64>>> {
        if let Some(known) = self.known(vector) {
            return Ok(known.to_vec());
        }
        match self.tensor(op, vector)?.dims[..] {
            [] => Ok(vec![None]),
            [Dim::Static(length)] => Ok(vec![None; length as usize]),
            _ => Err(operands(op, "expected a vector of known length")),
        }
    }

    /// The elements of a vector or scalar of integers, all known.
    fn constants(&self, op: &str, vector: Value) -> Result<Vec<i64>> {
        let elements = self
            .elements(op, vector)?
            .into_iter()
            .collect::<Option<_>>();
        elements.ok_or_else(|| operands(op, "expected a constant vector"))
    }

    /// Copies what is known about `from` to `to`.
    fn carry(&mut self, from: Value, to: Value) {
        if let Some(known) = self.context.known.get(&from).cloned() {
            self.context.known.insert(to, known);
        }
    }

    fn same_elements(&self, op: &str, x: Value, result: &TensorType) -> Result<()> {
        let ty = self.tensor(op, x)?;
        if ty.element == result.element {
            return Ok(());
        }
        Err(operands(
            op,
            format!("{ty} and {result} differ in their elements"),
        ))
    }
}
