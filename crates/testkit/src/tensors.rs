//! Safetensors files, read and written as what they are: any dtype, any shape,
//! wrong ones too.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// A tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its dtype, as the file spells it: `BF16`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes, little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Sets the last element, of two bytes.
    pub fn set_last(&mut self, bits: u16) {
        let at = self.bytes.len() - 2;
        self.bytes[at..].copy_from_slice(&bits.to_le_bytes());
    }

    /// The number of bytes of a row, which is along the last dimension.
    pub fn row_bytes(&self) -> usize {
        let rows: usize = self.shape.iter().rev().skip(1).product();
        self.bytes.len() / rows
    }
}

/// The tensors of a safetensors file, in the order of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors {
    /// The tensors.
    pub tensors: Vec<Tensor>,
}

impl Tensors {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
        let data = &file[8 + length..];
        let tensor = |(name, info): (&String, &Value)| {
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let shape = info["shape"].as_array().unwrap();
            let (start, end) = (&info["data_offsets"][0], &info["data_offsets"][1]);
            Tensor {
                name: name.clone(),
                dtype: info["dtype"].as_str().unwrap().to_owned(),
                shape: shape.iter().map(number).collect(),
                bytes: data[number(start)..number(end)].to_vec(),
            }
        };
        let stored = header.iter().filter(|(name, _)| *name != "__metadata__");
        Self {
            tensors: stored.map(tensor).collect(),
        }
    }

    /// Writes them as a file, one after the other.
    pub fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for tensor in &self.tensors {
            let end = data.len() + tensor.bytes.len();
            let info = json!({
                "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [data.len(), end]
            });
            header.insert(tensor.name.clone(), info);
            data.extend_from_slice(&tensor.bytes);
        }
        // Padded, so that the data is aligned.
        let mut header = Value::from(header).to_string();
        header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&data);
        fs::write(path, file).unwrap();
    }

    /// Changes the tensors of a file.
    pub fn edit(path: &Path, change: impl FnOnce(&mut Self)) {
        let mut tensors = Self::read(path);
        change(&mut tensors);
        tensors.write(path);
    }

    /// The tensor of a name.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = |name: &str, shape: &[usize], bytes: &[u8]| Tensor {
            name: name.into(),
            dtype: "BF16".into(),
            shape: shape.to_vec(),
            bytes: bytes.to_vec(),
        };
        let tensors = vec![
            tensor("b", &[2, 1], &[1, 2, 3, 4]),
            tensor("a", &[1], &[5, 6]),
        ];
        let tensors = Tensors { tensors };
        tensors.write(&path);
        assert_eq!(Tensors::read(&path), tensors);
        Tensors::edit(&path, |tensors| {
            assert_eq!(tensors.tensor("b").row_bytes(), 2);
            tensors.tensor("b").set_last(0x0908);
        });
        assert_eq!(Tensors::read(&path).tensor("b").bytes, [1, 2, 8, 9]);
    }
}
