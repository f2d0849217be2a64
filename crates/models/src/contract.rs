//! The contract between a program and its hosts: names and types of what a
//! function takes, keeps and gives.

use aimodel::TensorType;

/// An input, a state or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, one of those in [`bundle::contract`].
    pub name: &'static str,
    /// Its extents and elements. An extent that grows or is up to the host is
    /// dynamic.
    pub ty: TensorType,
}

impl Port {
    /// A port of this name and type.
    pub fn new(name: &'static str, ty: TensorType) -> Self {
        Self { name, ty }
    }
}

/// A function that a host can call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The name of the function.
    pub function: &'static str,
    /// What a call takes, in order.
    pub inputs: Vec<Port>,
    /// What the host keeps between calls.
    pub states: Vec<Port>,
    /// What a call gives.
    pub outputs: Vec<Port>,
}
