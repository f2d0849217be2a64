//! A hub on loopback, for tests: it speaks what hf-hub asks for, takes
//! uploads by xet, and misbehaves on request.
//!
//! It is written from the hub's published interfaces, keeps everything in
//! memory, and checks what it is sent: a chunk, a file or a commit whose hash
//! is not what was said is refused.

mod api;
mod http;
mod state;
mod store;
mod xet;

pub use state::{Fault, Rule, TOKEN};
pub use store::Access;

use http::{Reply, Request};
use state::{State, lock};
use std::collections::{BTreeMap, hash_map::RandomState};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// A running hub; it ends with the process.
#[derive(Clone)]
pub struct Server {
    endpoint: String,
    state: Arc<State>,
}

impl Server {
    /// A hub without repositories.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start() -> io::Result<Server> {
        let hub = TcpListener::bind("127.0.0.1:0")?;
        // Large files are elsewhere, as on the public hub.
        let files = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", hub.local_addr()?);
        let state = Arc::new(State::default());
        {
            let mut store = lock(&state.store);
            // Clients remember which chunks a store has, by its address, longer
            // than a server lives; another one may have this port by then.
            let nonce = RandomState::new().build_hasher().finish();
            store.cas_endpoint = format!("{endpoint}/cas/{nonce:x}");
            store.endpoint = endpoint.clone();
            store.files_endpoint = format!("http://{}", files.local_addr()?);
        }
        serve(hub, Arc::clone(&state), api::answer);
        serve(files, Arc::clone(&state), |state, request| {
            // Whoever forwards the token to another host gives it away.
            if request.header("authorization").is_some() && request.path.starts_with("/cdn/") {
                lock(&state.leaks).push(request.path.clone());
            }
            api::answer_files(state, request)
        });
        Ok(Server { endpoint, state })
    }

    /// Its address, for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds what is in a folder as a commit; gives the commit.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn add(&self, id: &str, folder: &Path) -> io::Result<String> {
        let mut files = BTreeMap::new();
        store::read(folder, "", &mut files)?;
        Ok(lock(&self.state.store).add(id, files))
    }

    /// Adds a file to the last commit's listing, whatever its name.
    pub fn list_also(&self, id: &str, name: &str) {
        lock(&self.state.store).list_also(id, name);
    }

    /// Who may read a repository from now on.
    pub fn access(&self, id: &str, access: Access) {
        lock(&self.state.store).repository(id).access = access;
    }

    /// Whether a large file that is read says that it is stored by xet.
    pub fn read_by_xet(&self, yes: bool) {
        lock(&self.state.store).read_by_xet = yes;
    }

    /// Whether uploads by xet are offered.
    pub fn offer_xet(&self, yes: bool) {
        lock(&self.state.store).no_xet = !yes;
    }

    /// What the main branch of a repository has.
    pub fn files(&self, id: &str) -> BTreeMap<String, Vec<u8>> {
        lock(&self.state.store).files(id)
    }

    /// The messages of a repository's commits, the oldest first.
    pub fn commits(&self, id: &str) -> Vec<String> {
        lock(&self.state.store).messages(id)
    }

    /// Whether a repository was made as a private one.
    pub fn is_private(&self, id: &str) -> bool {
        lock(&self.state.store).repository(id).access == Access::Private
    }

    /// Makes something go wrong; rules that came earlier go first.
    pub fn fault(&self, method: &'static str, path: &str, skip: usize, times: usize, fault: Fault) {
        lock(&self.state.rules).push(Rule {
            method,
            path: path.into(),
            skip,
            times,
            fault,
        });
    }

    /// Rules that have not happened as often as they should have.
    pub fn pending(&self) -> Vec<Rule> {
        let rules = lock(&self.state.rules);
        rules
            .iter()
            .filter(|rule| rule.times > 0)
            .cloned()
            .collect()
    }

    /// Forgets all faults and requests.
    pub fn calm(&self) {
        lock(&self.state.rules).clear();
        lock(&self.state.requests).clear();
    }

    /// The requests so far, `METHOD path`, with `[range]` if one was asked for.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state.requests).clone()
    }

    /// Requests that sent the token to the host with the large files.
    pub fn leaks(&self) -> Vec<String> {
        lock(&self.state.leaks).clone()
    }
}

type Answer = fn(&State, &Request) -> Reply;

fn serve(listener: TcpListener, state: Arc<State>, answer: Answer) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                // A client that goes away is not an error here.
                let _ = talk(stream, &state, answer);
            });
        }
    });
}

fn talk(mut stream: TcpStream, state: &State, answer: Answer) -> io::Result<()> {
    let request = Request::read(&stream)?;
    let mut line = format!("{} {}", request.method, request.path);
    if let Some(range) = request.header("range") {
        line.push_str(&format!(" [{range}]"));
    }
    lock(&state.requests).push(line);
    let fault = {
        let mut rules = lock(&state.rules);
        let rule = rules.iter_mut().find(|rule| {
            rule.times > 0
                && (rule.method.is_empty() || rule.method == request.method)
                && request.path.contains(&rule.path)
        });
        match rule {
            Some(rule) if rule.skip > 0 => {
                rule.skip -= 1;
                None
            }
            Some(rule) => {
                rule.times -= 1;
                Some(rule.fault.clone())
            }
            None => None,
        }
    };
    match fault {
        None => answer(state, &request).write(&mut stream, &request),
        Some(Fault::Drop) => Ok(()),
        Some(Fault::LoseAnswer) => {
            answer(state, &request);
            Ok(())
        }
        Some(Fault::Status(status, headers)) => {
            let mut reply = Reply::json(status, &serde_json::json!({"error": "as was asked for"}));
            reply.headers.push_str(headers);
            reply.write(&mut stream, &request)
        }
        Some(Fault::IgnoreRange) => {
            let request = request.without_range();
            answer(state, &request).write(&mut stream, &request)
        }
        Some(Fault::Cut(bytes)) => answer(state, &request).cut(bytes, &mut stream, &request),
        Some(Fault::Short(bytes)) => {
            let mut reply = answer(state, &request);
            reply.body.truncate(bytes);
            reply.write(&mut stream, &request)
        }
        Some(Fault::Flip(place)) => {
            let mut reply = answer(state, &request);
            if let Some(byte) = reply.body.get_mut(place) {
                *byte ^= 1;
            }
            reply.write(&mut stream, &request)
        }
    }
}
