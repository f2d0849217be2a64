//! From the bytes of the IR section to operations.

use std::collections::HashMap;

use crate::{
    AttrId, Block, BlockArgument, Dialect, Encoding, MAX_DEPTH, Module, OpNameId, Operation,
    PropertiesId, Region, Result, Str, TypeId, UseListOrder, Value,
    cursor::Cursor,
    dialect::TableSizes,
    format::{op_mask, section},
    read_encoding::read_encoding,
};

/// The state of reading the IR.
struct IrReader<'r> {
    module: &'r mut Module,
    /// The entries of the properties section, what each was read as first,
    /// and what it was read as for each operation.
    properties: &'r [Cursor<'r>],
    read_first: Vec<bool>,
    read_for: HashMap<(usize, OpNameId), PropertiesId>,
    /// How many more bytes may be read as properties: an entry is read once
    /// for each operation that has it, and those are few.
    properties_budget: usize,
    dialects: &'r [&'r dyn Dialect],
    strings: &'r [Str],
    /// How many more values regions may announce; each takes at least one byte.
    budget: usize,
}

/// How many times the size of the properties section may be read in all.
const MAX_READINGS: usize = 64;

/// Values that an operation can name, of its region and those around it.
type Scope = Vec<Value>;

pub(crate) fn read_ir(
    mut cursor: Cursor,
    strings: &[Str],
    properties: &[Cursor],
    dialects: &[&dyn Dialect],
    module: &mut Module,
) -> Result<()> {
    let budget = cursor.remaining();
    let properties_budget = properties.iter().map(Cursor::remaining).sum::<usize>();
    for entry in properties {
        // What no operation refers to stays as it is.
        let mut entry = entry.clone();
        let bytes = entry.bytes(entry.remaining() as u64)?;
        module.properties.push(Encoding::Unknown(bytes.into()));
    }
    let mut reader = IrReader {
        module,
        properties,
        read_first: vec![false; properties.len()],
        read_for: HashMap::new(),
        properties_budget: properties_budget * MAX_READINGS,
        dialects,
        strings,
        budget,
    };
    // The section is a block without arguments that holds one operation.
    if cursor.varint_with_flag()? != (1, false) {
        return Err(cursor.error("expected one operation at the top"));
    }
    let root = reader.operation(&mut cursor, &mut Scope::new(), &mut 0, 0)?;
    cursor.finish()?;
    reader.module.root = root;
    Ok(())
}

impl IrReader<'_> {
    fn operation(
        &mut self,
        cursor: &mut Cursor,
        scope: &mut Scope,
        defined: &mut usize,
        depth: usize,
    ) -> Result<Operation> {
        let name = OpNameId(cursor.index(self.module.op_names.len(), "operation name")? as u32);
        let mask = cursor.byte()?;
        if mask & !op_mask::ALL != 0 {
            return Err(cursor.error(format!("an operation has the unknown mask {mask:#04x}")));
        }
        let has = |bit: u8| mask & bit != 0;
        let attrs = self.module.attrs.len();
        let location = AttrId(cursor.index(attrs, "attribute")? as u32);
        let mut op = Operation::new(name, location);
        if has(op_mask::ATTRIBUTES) {
            op.attributes = Some(AttrId(cursor.index(attrs, "attribute")? as u32));
        }
        if has(op_mask::PROPERTIES) {
            let index = cursor.index(self.properties.len(), "properties")?;
            op.properties = Some(self.properties(index, name)?);
        }
        if has(op_mask::RESULTS) {
            for _ in 0..cursor.count("results")? {
                let ty = cursor.index(self.module.types.len(), "type")?;
                op.results.push(self.define(cursor, scope, defined, ty)?);
            }
        }
        if has(op_mask::OPERANDS) {
            for _ in 0..cursor.count("operands")? {
                op.operands.push(scope[cursor.index(scope.len(), "value")?]);
            }
        }
        if has(op_mask::SUCCESSORS) {
            for _ in 0..cursor.count("successors")? {
                op.successors.push(cursor.varint()?);
            }
        }
        if has(op_mask::USE_LIST_ORDERS) {
            op.use_list_orders = read_use_list_orders(cursor, op.results.len())?;
        }
        if has(op_mask::REGIONS) {
            let (count, isolated) = cursor.varint_with_flag()?;
            let count = cursor.check_count(count, "regions")?;
            op.isolated = isolated;
            if isolated {
                let (code, mut content) = cursor.section()?;
                if code != section::IR {
                    return Err(
                        cursor.error("the regions of an isolated operation are not a section")
                    );
                }
                for _ in 0..count {
                    op.regions
                        .push(self.region(&mut content, &mut Scope::new(), depth + 1)?);
                }
                content.finish()?;
            } else {
                for _ in 0..count {
                    op.regions.push(self.region(cursor, scope, depth + 1)?);
                }
            }
        }
        Ok(op)
    }

    /// Gives the next value of the region its type.
    fn define(
        &mut self,
        cursor: &Cursor,
        scope: &Scope,
        defined: &mut usize,
        ty: usize,
    ) -> Result<Value> {
        let Some(&value) = scope.get(*defined) else {
            return Err(cursor.error(format!(
                "a region defines more values than the {} that it announces",
                scope.len()
            )));
        };
        *defined += 1;
        self.module.values[value.index()] = TypeId(ty as u32);
        Ok(value)
    }

    fn region(&mut self, cursor: &mut Cursor, scope: &mut Scope, depth: usize) -> Result<Region> {
        if depth > MAX_DEPTH {
            return Err(cursor.error(format!("regions nest deeper than {MAX_DEPTH}")));
        }
        let blocks = cursor.count("blocks")?;
        let mut region = Region::default();
        if blocks == 0 {
            return Ok(region);
        }
        let values = cursor.count("values")?;
        let Some(budget) = self.budget.checked_sub(values) else {
            return Err(cursor.error("regions announce more values than the section has bytes"));
        };
        self.budget = budget;
        // Operands may name values that are defined further down.
        let outer = scope.len();
        for _ in 0..values {
            scope.push(self.module.value(TypeId(0)));
        }
        let mut defined = outer;
        for _ in 0..blocks {
            region
                .blocks
                .push(self.block(cursor, scope, &mut defined, depth)?);
        }
        if defined != scope.len() {
            return Err(cursor.error(format!(
                "a region announces {values} values and defines {}",
                defined - outer
            )));
        }
        scope.truncate(outer);
        Ok(region)
    }

    fn block(
        &mut self,
        cursor: &mut Cursor,
        scope: &mut Scope,
        defined: &mut usize,
        depth: usize,
    ) -> Result<Block> {
        let (operations, has_arguments) = cursor.varint_with_flag()?;
        let mut block = Block::default();
        if has_arguments {
            for _ in 0..cursor.count("block arguments")? {
                let (ty, located) = cursor.varint_with_flag()?;
                let ty = cursor.check_index(ty, self.module.types.len(), "type")?;
                let location = if located {
                    Some(AttrId(
                        cursor.index(self.module.attrs.len(), "attribute")? as u32
                    ))
                } else {
                    None
                };
                let value = self.define(cursor, scope, defined, ty)?;
                block.arguments.push(BlockArgument { value, location });
            }
            match cursor.byte()? {
                0 => {}
                op_mask::USE_LIST_ORDERS => {
                    block.use_list_orders = read_use_list_orders(cursor, block.arguments.len())?;
                }
                other => return Err(cursor.error(format!("a block has the unknown mask {other}"))),
            }
        }
        for _ in 0..cursor.check_count(operations, "operations")? {
            let op = self.operation(cursor, scope, defined, depth)?;
            block.operations.push(op);
        }
        Ok(block)
    }

    /// The properties at `index` of the section, read as those of `name`.
    fn properties(&mut self, index: usize, name: OpNameId) -> Result<PropertiesId> {
        if let Some(id) = self.read_for.get(&(index, name)) {
            return Ok(*id);
        }
        let entry = self.properties[index].clone();
        match self.properties_budget.checked_sub(entry.remaining()) {
            Some(budget) => self.properties_budget = budget,
            None => return Err(entry.error("too many operations share these properties")),
        }
        let op = &self.module.op_names[name.index()];
        let dialect = self.module.dialects[op.dialect.index()].name.clone();
        let sizes = TableSizes {
            attrs: self.module.attrs.len(),
            types: self.module.types.len(),
            resources: self.module.resources.len(),
            strings: self.strings,
        };
        let encoding = read_encoding(
            entry,
            &dialect,
            self.dialects,
            &sizes,
            |described, fields| described.read_properties(&op.name, fields),
        )?;
        let properties = &mut self.module.properties;
        let id = if !self.read_first[index] || properties.get(index as u32) == Some(&encoding) {
            properties.set(index as u32, encoding);
            self.read_first[index] = true;
            PropertiesId(index as u32)
        } else {
            // MLIR shares equal bytes between operations that read them as
            // fields of different kinds. So does the writer.
            PropertiesId(properties.insert(encoding))
        };
        self.read_for.insert((index, name), id);
        Ok(id)
    }
}

fn read_use_list_orders(cursor: &mut Cursor, values: usize) -> Result<Vec<UseListOrder>> {
    let count = if values == 1 {
        1
    } else {
        cursor.count("use-list orders")?
    };
    let mut orders = Vec::new();
    for _ in 0..count {
        let value = if values == 1 {
            0
        } else {
            cursor.index(values, "value")? as u64
        };
        let (count, pairs) = cursor.varint_with_flag()?;
        let count = cursor.check_count(count, "use-list indices")?;
        let indices = (0..count).map(|_| cursor.varint()).collect::<Result<_>>()?;
        orders.push(UseListOrder {
            value,
            pairs,
            indices,
        });
    }
    Ok(orders)
}
