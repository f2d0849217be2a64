//! Numbers of the container that reader and writer share.

/// The bytecode version that this crate reads and writes.
pub const VERSION: u64 = 6;

/// How deep regions may nest, and attributes within attributes. Real files
/// stay below ten; the bound keeps a hostile file from exhausting the stack.
pub const MAX_DEPTH: usize = 64;

/// Section codes of the container.
pub mod section {
    pub const STRING: u8 = 0;
    pub const DIALECT: u8 = 1;
    pub const ATTR_TYPE: u8 = 2;
    pub const ATTR_TYPE_OFFSET: u8 = 3;
    pub const IR: u8 = 4;
    pub const RESOURCE: u8 = 5;
    pub const RESOURCE_OFFSET: u8 = 6;
    pub const DIALECT_VERSIONS: u8 = 7;
    pub const PROPERTIES: u8 = 8;
    pub const COUNT: usize = 9;

    /// The name of a section, for messages.
    pub fn name(code: u8) -> &'static str {
        match code {
            STRING => "string section",
            DIALECT => "dialect section",
            ATTR_TYPE => "attribute and type section",
            ATTR_TYPE_OFFSET => "attribute and type offset section",
            IR => "IR section",
            RESOURCE => "resource section",
            RESOURCE_OFFSET => "resource offset section",
            DIALECT_VERSIONS => "dialect version section",
            PROPERTIES => "properties section",
            _ => "unknown section",
        }
    }
}

/// Bits of the mask byte that precedes an operation.
pub mod op_mask {
    pub const ATTRIBUTES: u8 = 0x01;
    pub const RESULTS: u8 = 0x02;
    pub const OPERANDS: u8 = 0x04;
    pub const SUCCESSORS: u8 = 0x08;
    pub const REGIONS: u8 = 0x10;
    pub const USE_LIST_ORDERS: u8 = 0x20;
    pub const PROPERTIES: u8 = 0x40;
    pub const ALL: u8 = 0x7f;
}
