//! What a hub answers.

use super::http::{Reply, Request};
use super::store::{Access, Commit, Files, Store, Stored};
use super::{
    state::{State, TOKEN, lock},
    xet,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Files that a page of a listing has.
const PAGE: usize = 4;
/// The largest file that is taken in a commit itself.
const MOST_INLINE: u64 = 10_000_000;

pub(super) fn answer(state: &State, request: &Request) -> Reply {
    let mut store = lock(&state.store);
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let endpoint = store.endpoint.clone();
    if let Some(reply) = xet::answer(&mut store.cas, &endpoint, request, &parts) {
        return reply;
    }
    let writes = request.method == "POST";
    if writes && !may_write(request) {
        return Reply::error(401, "", "Invalid username or password.");
    }
    let reply = match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["api", "repos", "create"]) => create(&mut store, request),
        (_, ["api", "models", organization, name, rest @ ..]) => {
            let id = format!("{organization}/{name}");
            repository(&mut store, request, &id, rest)
        }
        ("POST", [organization, name, "info", "lfs", "objects", "batch"]) => {
            let id = format!("{organization}/{}", name.trim_end_matches(".git"));
            batch(&mut store, &id)
        }
        (_, [organization, name, "resolve", revision, path @ ..]) => {
            let id = format!("{organization}/{name}");
            resolve(&mut store, request, &id, revision, &path.join("/"))
        }
        _ => Ok(Reply::error(404, "", "Not found")),
    };
    reply.unwrap_or_else(|message| Reply::error(400, "", &message))
}

/// The other host, which has the large files.
pub(super) fn answer_files(state: &State, request: &Request) -> Reply {
    let store = lock(&state.store);
    let sha256 = request.path.trim_start_matches("/cdn/");
    // Such addresses are signed, and good for a while.
    if request.value("signature") != Some("secret0signature") {
        return Reply::error(403, "", "the address is not signed");
    }
    let Some(file) = store.large(sha256) else {
        return Reply::error(404, "", "Not found");
    };
    let mut headers = format!("ETag: \"{sha256}\"\r\n");
    if let Some(xet) = file.xet.as_ref().filter(|_| store.read_by_xet) {
        headers.push_str(&format!("X-Xet-Hash: {xet}\r\n"));
    }
    Reply::bytes(request, headers, &file.bytes)
}

fn has_token(request: &Request) -> bool {
    let token = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    token == Some(TOKEN)
}

fn may_write(request: &Request) -> bool {
    has_token(request)
}

type Outcome = Result<Reply, String>;

fn body(request: &Request) -> Result<Value, String> {
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

fn create(store: &mut Store, request: &Request) -> Outcome {
    let body = body(request)?;
    let part = |name: &str| body[name].as_str().map(str::to_owned);
    let (Some(organization), Some(name)) = (part("organization"), part("name")) else {
        return Err("no name".into());
    };
    let id = format!("{organization}/{name}");
    let url = format!("{}/{id}", store.endpoint);
    if store.repositories.contains_key(&id) {
        return Ok(Reply::error(409, "", "You already created this model repo"));
    }
    let access = match body["private"].as_bool() {
        Some(true) => Access::Private,
        _ => Access::Open,
    };
    store.create(&id, access);
    Ok(Reply::json(200, &json!({"url": url, "name": id})))
}

fn repository(store: &mut Store, request: &Request, id: &str, rest: &[&str]) -> Outcome {
    let known = has_token(request);
    let readable = store
        .repositories
        .get(id)
        .is_some_and(|one| known || one.access != Access::Private);
    if !readable {
        // Who is not known does not learn what there is.
        return Ok(if known {
            Reply::error(404, "RepoNotFound", "Repository not found")
        } else {
            Reply::error(401, "RepoNotFound", "Invalid username or password.")
        });
    }
    let endpoint = store.endpoint.clone();
    let revision = match rest {
        [] => "main",
        [_, revision, ..] => revision,
        _ => return Ok(Reply::error(404, "", "Not found")),
    };
    let repository = store.repository(id);
    let Some(commit) = repository.at(revision) else {
        let message = format!("Invalid rev id: {revision}");
        return Ok(Reply::error(404, "RevisionNotFound", &message));
    };
    match (request.method.as_str(), rest) {
        ("GET", [] | ["revision", _]) => {
            let siblings: Vec<Value> = commit
                .files
                .keys()
                .map(|name| json!({"rfilename": name}))
                .collect();
            Ok(Reply::json(
                200,
                &json!({
                    "_id": "1", "id": id, "sha": commit.id, "siblings": siblings,
                    "private": repository.access == Access::Private,
                    "gated": match repository.access { Access::Gated => json!("auto"), _ => json!(false) },
                }),
            ))
        }
        ("GET", ["tree", _]) => Ok(tree(
            request,
            commit,
            &format!("{endpoint}{}", request.path),
        )),
        ("GET", ["xet-write-token" | "xet-read-token", _]) => Ok(xet_token(&store.cas_endpoint)),
        ("POST", ["preupload", _]) => preupload(request),
        ("POST", ["commit", _]) => take_commit(store, request, id),
        _ => Ok(Reply::error(404, "", "Not found")),
    }
}

/// hf-hub reads the body, and Python's client the headers.
fn xet_token(endpoint: &str) -> Reply {
    let (token, expires) = (xet::TOKEN, 4_000_000_000u64);
    let body = json!({"accessToken": token, "exp": expires, "casUrl": endpoint});
    let mut reply = Reply::json(200, &body);
    reply.headers.push_str(&format!(
        "X-Xet-Cas-Url: {endpoint}\r\nX-Xet-Access-Token: {token}\r\n\
         X-Xet-Token-Expiration: {expires}\r\n"
    ));
    reply
}

fn tree(request: &Request, commit: &Commit, url: &str) -> Reply {
    let mut folders = BTreeSet::new();
    let mut entries = Vec::new();
    for (path, file) in &commit.files {
        for (slash, _) in path.match_indices('/') {
            let folder = &path[..slash];
            if folders.insert(folder.to_owned()) {
                let oid = "d".repeat(40);
                entries.push(json!({"type": "directory", "oid": oid, "size": 0, "path": folder}));
            }
        }
        let size = file.bytes.len();
        let mut entry = json!({"type": "file", "oid": file.git, "size": size, "path": path});
        if file.lfs {
            entry["lfs"] = json!({"oid": file.sha256, "size": size, "pointerSize": 130});
        }
        if let Some(xet) = &file.xet {
            entry["xetHash"] = json!(xet);
        }
        entries.push(entry);
    }
    let from = request.value("cursor").and_then(|text| text.parse().ok());
    let from: usize = from.unwrap_or(0);
    let page: Vec<Value> = entries.iter().skip(from).take(PAGE).cloned().collect();
    let mut reply = Reply::json(200, &Value::Array(page));
    if from + PAGE < entries.len() {
        let next = format!("{url}?recursive=true&cursor={}", from + PAGE);
        reply
            .headers
            .push_str(&format!("Link: <{next}>; rel=\"next\"\r\n"));
    }
    reply
}

fn resolve(store: &mut Store, request: &Request, id: &str, revision: &str, path: &str) -> Outcome {
    let known = has_token(request);
    if !store.repositories.contains_key(id) {
        return Ok(Reply::error(404, "RepoNotFound", "Repository not found"));
    }
    let files_endpoint = store.files_endpoint.clone();
    let repository = store.repository(id);
    match repository.access {
        Access::Gated if known => {
            let message = "Access to this model is restricted: accept its terms first";
            return Ok(Reply::error(403, "GatedRepo", message));
        }
        Access::Gated | Access::Private if !known => {
            let message = "Access to this model is restricted: you must be authenticated";
            return Ok(Reply::error(401, "GatedRepo", message));
        }
        _ => {}
    }
    let commit = repository.at(revision);
    let Some((commit, file)) = commit.and_then(|one| Some((one, one.files.get(path)?))) else {
        return Ok(Reply::error(404, "EntryNotFound", "Entry not found"));
    };
    let of_commit = format!("X-Repo-Commit: {}\r\n", commit.id);
    if !file.lfs {
        let headers = format!("{of_commit}ETag: \"{}\"\r\n", file.git);
        return Ok(Reply::bytes(request, headers, &file.bytes));
    }
    let (sha256, size) = (&file.sha256, file.bytes.len());
    let mut headers = format!(
        "{of_commit}X-Linked-ETag: \"{sha256}\"\r\nX-Linked-Size: {size}\r\n\
         Location: {files_endpoint}/cdn/{sha256}?signature=secret0signature\r\n"
    );
    if let Some(xet) = &file.xet {
        headers.push_str(&format!("X-Xet-Hash: {xet}\r\n"));
    }
    Ok(Reply::new(302, headers, Vec::new()))
}

fn preupload(request: &Request) -> Outcome {
    let body = body(request)?;
    let files = body["files"].as_array().ok_or("no files")?;
    let modes: Vec<Value> = files
        .iter()
        .map(|file| {
            let size = file["size"].as_u64().unwrap_or_default();
            let mode = if size >= super::store::LFS_FROM as u64 {
                "lfs"
            } else {
                "regular"
            };
            json!({"path": file["path"], "uploadMode": mode, "shouldIgnore": false})
        })
        .collect();
    Ok(Reply::json(200, &json!({"files": modes})))
}

fn batch(store: &mut Store, id: &str) -> Outcome {
    if !store.repositories.contains_key(id) {
        return Ok(Reply::error(404, "RepoNotFound", "Repository not found"));
    }
    let transfer = if store.no_xet { "basic" } else { "xet" };
    Ok(Reply::json(
        200,
        &json!({"transfer": transfer, "objects": []}),
    ))
}

fn take_commit(store: &mut Store, request: &Request, id: &str) -> Outcome {
    let text = std::str::from_utf8(&request.body).map_err(|error| error.to_string())?;
    let mut files: Files = match store.repository(id).at("main") {
        Some(commit) => commit.files.clone(),
        None => Files::new(),
    };
    let parent = store
        .repository(id)
        .at("main")
        .map(|commit| commit.id.clone());
    let mut message = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let value = &line["value"];
        let text = |name: &str| value[name].as_str().ok_or(format!("no {name}"));
        match line["key"].as_str() {
            Some("header") => {
                if value["parentCommit"]
                    .as_str()
                    .is_some_and(|id| Some(id) != parent.as_deref())
                {
                    let message = "A commit has happened since. Please refresh and try again.";
                    return Ok(Reply::error(412, "", message));
                }
                message = Some(text("summary")?.to_owned());
            }
            Some("file") => {
                let bytes = STANDARD
                    .decode(text("content")?)
                    .map_err(|error| error.to_string())?;
                if bytes.len() as u64 > MOST_INLINE {
                    return Err(format!("{} is too large for a commit", text("path")?));
                }
                files.insert(text("path")?.to_owned(), Stored::new(bytes, false));
            }
            Some("lfsFile") => {
                let (path, oid) = (text("path")?, text("oid")?);
                let size = value["size"].as_u64().ok_or("no size")?;
                let (xet, bytes) = store
                    .cas
                    .by_sha256(oid)
                    .ok_or(format!("{path}: there is no object {oid}"))?;
                if bytes.len() as u64 != size {
                    return Err(format!("{path}: {oid} has another size"));
                }
                let mut stored = Stored::new(bytes, true);
                stored.xet = Some(xet);
                files.insert(path.to_owned(), stored);
            }
            Some("deletedFile") => {
                let path = text("path")?;
                files.remove(path).ok_or(format!("{path} is not there"))?;
            }
            _ => return Err(format!("unknown line {line}")),
        }
    }
    let message = message.ok_or("no header")?;
    let commit = store.repository(id).commit(&message, files);
    let url = format!("{}/{id}/commit/{commit}", store.endpoint);
    Ok(Reply::json(
        200,
        &json!({"success": true, "commitOid": commit, "commitUrl": url}),
    ))
}
