//! The content-addressed store: chunks come in xorbs, and shards say which
//! chunks make a file.

use super::http::{Reply, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Cursor;
use xet_core_structures::merklehash::{MerkleHash, compute_data_hash, xorb_hash};
use xet_core_structures::metadata_shard::streaming_shard::MDBMinimalShard;
use xet_core_structures::xorb_object::deserialize_chunk;

/// What a xet client has to show.
pub(super) const TOKEN: &str = "xet0secret0token0";
/// What the list of chunks at the end of a xorb begins with.
const FOOTER: &[u8] = b"XETBLOB";

#[derive(Default)]
pub(super) struct Cas {
    xorbs: BTreeMap<String, Xorb>,
    files: BTreeMap<String, Vec<Term>>,
    sha256: BTreeMap<String, String>,
}

struct Xorb {
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
}

struct Chunk {
    /// Where it begins and ends among the xorb's bytes.
    from: usize,
    to: usize,
    data: Vec<u8>,
}

/// Some chunks in a row.
#[derive(Clone)]
struct Term {
    xorb: String,
    from: usize,
    to: usize,
}

impl Cas {
    /// A file's name here, and its bytes.
    pub(super) fn by_sha256(&self, sha256: &str) -> Option<(String, Vec<u8>)> {
        let name = self.sha256.get(sha256)?;
        Some((name.clone(), self.bytes(self.files.get(name)?)?))
    }

    fn bytes(&self, terms: &[Term]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for term in terms {
            let chunks = self.xorbs.get(&term.xorb)?.chunks.get(term.from..term.to)?;
            chunks
                .iter()
                .for_each(|chunk| bytes.extend_from_slice(&chunk.data));
        }
        Some(bytes)
    }

    fn take_xorb(&mut self, name: &str, bytes: Vec<u8>) -> Result<bool, String> {
        let mut chunks = Vec::new();
        let mut hashes = Vec::new();
        let mut from = 0;
        while from < bytes.len() && !bytes[from..].starts_with(FOOTER) {
            let (data, length, _) = deserialize_chunk(&mut Cursor::new(&bytes[from..]))
                .map_err(|error| format!("a chunk of {name}: {error}"))?;
            hashes.push((compute_data_hash(&data), data.len() as u64));
            let to = from + length;
            chunks.push(Chunk { from, to, data });
            from = to;
        }
        let found = xorb_hash(&hashes).hex();
        if found != name {
            return Err(format!("the hash of this xorb is {found}, not {name}"));
        }
        Ok(self
            .xorbs
            .insert(name.to_owned(), Xorb { bytes, chunks })
            .is_none())
    }

    fn take_shard(&mut self, bytes: &[u8]) -> Result<(), String> {
        let shard = MDBMinimalShard::from_reader(&mut Cursor::new(bytes), true, true)
            .map_err(|error| error.to_string())?;
        for file in (0..shard.num_files()).filter_map(|index| shard.file(index)) {
            let terms: Vec<Term> = (0..file.num_entries())
                .map(|index| file.entry(index))
                .map(|entry| Term {
                    xorb: entry.xorb_hash.hex(),
                    from: entry.chunk_index_start as usize,
                    to: entry.chunk_index_end as usize,
                })
                .collect();
            let name = file.file_hash().hex();
            let bytes = self
                .bytes(&terms)
                .ok_or(format!("chunks of {name} are missing"))?;
            self.sha256
                .insert(hex::encode(Sha256::digest(&bytes)), name.clone());
            self.files.insert(name, terms);
        }
        Ok(())
    }

    /// Which chunks give these bytes of a file.
    fn plan(&self, name: &str, from: usize, to: usize, endpoint: &str) -> Option<Value> {
        let mut terms = Vec::new();
        let mut fetch: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let (mut at, mut first) = (0, None);
        for term in self.files.get(name)? {
            let chunks = &self.xorbs.get(&term.xorb)?.chunks;
            let (mut begin, mut end, mut length) = (None, term.from, 0);
            for index in term.from..term.to {
                let size = chunks.get(index)?.data.len();
                if at + size > from && at < to {
                    first.get_or_insert(at);
                    begin.get_or_insert(index);
                    end = index + 1;
                    length += size;
                }
                at += size;
            }
            let Some(begin) = begin else { continue };
            let range = json!({"start": begin, "end": end});
            terms.push(json!({"hash": term.xorb, "unpacked_length": length, "range": range}));
            let bytes =
                json!({"start": chunks.get(begin)?.from, "end": chunks.get(end - 1)?.to - 1});
            fetch.entry(&term.xorb).or_default().push(json!({
                "range": range,
                "url": format!("{endpoint}/xorbs/{}", term.xorb),
                "url_range": bytes,
            }));
        }
        Some(json!({
            "offset_into_first_range": from - first?,
            "terms": terms,
            "fetch_info": fetch,
        }))
    }
}

/// Answers what is asked of this store, whose hub is at `endpoint`, and nothing
/// else.
pub(super) fn answer(
    cas: &mut Cas,
    endpoint: &str,
    request: &Request,
    parts: &[&str],
) -> Option<Reply> {
    if let ("GET", ["xorbs", name]) = (request.method.as_str(), parts) {
        let xorb = cas.xorbs.get(*name);
        return Some(match xorb {
            Some(xorb) => Reply::bytes(request, String::new(), &xorb.bytes),
            None => Reply::error(404, "", "Not found"),
        });
    }
    let ["cas", _, parts @ ..] = parts else {
        return None;
    };
    let token = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(TOKEN) {
        return Some(Reply::error(401, "", "no xet token"));
    }
    let done = |result: Result<Value, String>| match result {
        Ok(value) => Reply::json(200, &value),
        Err(message) => Reply::error(400, "", &message),
    };
    Some(match (request.method.as_str(), parts) {
        ("POST", ["v1", "xorbs", "default", name]) if MerkleHash::from_hex(name).is_ok() => {
            let taken = cas.take_xorb(name, request.body.clone());
            done(taken.map(|new| json!({"was_inserted": new})))
        }
        ("POST", ["v1", "shards"]) => {
            done(cas.take_shard(&request.body).map(|()| json!({"result": 1})))
        }
        ("POST", ["v1", "telemetry"]) => Reply::json(200, &json!({})),
        ("GET", ["v1", "reconstructions", name]) => {
            let size = cas.files.get(*name).and_then(|terms| cas.bytes(terms));
            let size = size.map_or(0, |bytes| bytes.len());
            let (from, to) = request.range(size).unwrap_or((0, size));
            match cas.plan(name, from, to, endpoint) {
                Some(plan) => Reply::json(200, &plan),
                None => Reply::error(404, "", "Not found"),
            }
        }
        // Newer interfaces are not offered; clients go back to these.
        _ => Reply::error(404, "", "Not found"),
    })
}
