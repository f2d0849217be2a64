//! The report as JSON.

use super::{
    contents::{Contents, Program},
    model::Model,
};
use aimodel::Parameter;
use serde_json::{Value, json};

impl Contents {
    /// The whole report.
    pub fn json(&self) -> Value {
        let programs: Vec<Value> = self.programs.iter().map(Program::json).collect();
        match &self.bundle {
            None => json!({ "assets": programs, "lint": self.findings }),
            Some((metadata, tokenizer)) => {
                let files = tokenizer.iter();
                let files = files.map(|(name, bytes)| json!({ "name": name, "bytes": bytes }));
                json!({
                    "bundle": metadata,
                    "tokenizer": files.collect::<Vec<_>>(),
                    "assets": programs,
                    "model": Model::of(self).map(|model| model.json()),
                    "lint": self.findings,
                })
            }
        }
    }
}

impl Program {
    fn json(&self) -> Value {
        let mut object = json!({
            "path": self.path.display().to_string(),
            "bytes": self.bytes,
            "producer": self.module.producer,
            "verify": self.fault.as_deref().unwrap_or("ok"),
        });
        if let (Some(asset), Some(hash)) = (&self.asset, &self.hash) {
            object["hash"] = json!({
                "stated": hex::encode(asset.stated_hash),
                "found": hex::encode(hash),
                "ok": self.hash_fits(),
            });
            let metadata = &asset.metadata;
            object["metadata"] = json!({
                "creationDate": metadata.creation_date,
                "producer": metadata.producer,
                "author": metadata.author,
                "license": metadata.license,
                "description": metadata.description,
            });
        }
        let Ok(summary) = &self.summary else {
            return object;
        };
        let counts = |counts: &[(String, u64)]| -> Value {
            let counts = counts.iter();
            counts
                .map(|(name, count)| (name.clone(), Value::from(*count)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let functions = summary.functions.iter().map(|function| {
            json!({
                "name": function.name,
                "inputs": parameters(&function.inputs),
                "states": parameters(&function.states),
                "outputs": parameters(&function.outputs),
            })
        });
        let graphs = summary.graphs.iter().map(|graph| {
            json!({
                "name": graph.name,
                "private": graph.private,
                "composite": graph.composite,
                "operations": counts(&graph.operations),
            })
        });
        let storage = summary.storage.iter().map(|storage| {
            json!({
                "element": storage.element.to_string(),
                "elements": storage.elements,
                "bytes": storage.bytes,
            })
        });
        object["version"] = json!(summary.version);
        object["functions"] = functions.collect();
        object["storage"] = storage.collect();
        object["operations"] = counts(&summary.operations);
        object["graphs"] = graphs.collect();
        object
    }
}

fn parameters(parameters: &[Parameter]) -> Value {
    let parameters = parameters.iter().map(|parameter| {
        let dims = parameter.ty.dims.iter().map(|dim| dim.known());
        json!({
            "name": parameter.name,
            "element": parameter.ty.element.to_string(),
            "shape": dims.collect::<Vec<_>>(),
        })
    });
    parameters.collect()
}
