//! The environment: Python and its packages, the hub and its cache.

use super::capability::{Capability, within};
use crate::venv::{self, CORE_AI_NEWEST};
use checkpoint::Source;
use std::{
    env, fs,
    io::Read,
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A Python that takes longer to answer is stuck.
const PYTHON_TIMEOUT: Duration = Duration::from_secs(20);
/// A hub that takes longer to answer counts as unreachable.
const HUB_TIMEOUT: Duration = Duration::from_secs(4);
/// The hub, unless `HF_ENDPOINT` names another.
const HUB: &str = "https://huggingface.co";

/// Core AI's own library, and a Python for it.
pub fn core_ai() -> Capability {
    const NAME: &str = "core ai";
    let without = "without it the gates' engine stage is skipped";
    if !cfg!(any(
        target_os = "macos",
        all(target_os = "linux", target_arch = "x86_64")
    )) {
        let found = format!("its library has no wheels for this system; {without}");
        return Capability::missing(NAME, found, "use Linux on x86-64, or a Mac");
    }
    if venv::has_core_ai(CORE_AI_NEWEST) {
        return Capability::here(NAME, format!("coreai-core {CORE_AI_NEWEST} is set up"));
    }
    match within(PYTHON_TIMEOUT, venv::find_python) {
        Some(Ok((python, version))) => Capability::here(
            NAME,
            format!(
                "{python} ({version}) can have coreai-core {CORE_AI_NEWEST}: the first command \
                 that needs it fetches it (0.3 GB)"
            ),
        ),
        Some(Err(error)) => Capability::missing(
            NAME,
            without,
            format!("{error:#}").replace("no Python", "install Python; no Python"),
        ),
        None => Capability::missing(
            NAME,
            format!(
                "no Python answered in {} s; {without}",
                PYTHON_TIMEOUT.as_secs()
            ),
            "reinstall python3.11, python3.12 or python3.13",
        ),
    }
}

/// A Python that can record what transformers computes.
pub fn oracles() -> Capability {
    let named = env::var_os("AIMODEL_PYTHON");
    recorder(
        &named.map_or_else(|| "python3".into(), PathBuf::from),
        PYTHON_TIMEOUT,
    )
}

/// Asks a Python for the packages that recording takes, without loading them:
/// torch takes half a minute.
pub fn recorder(python: &Path, limit: Duration) -> Capability {
    const NAME: &str = "oracles";
    const ASK: &str = "import importlib.metadata as m
for p in ('torch', 'transformers', 'numpy', 'pillow'):
    try: print(p, m.version(p))
    except m.PackageNotFoundError: print(p, '-')";
    let shown = python.display();
    let needed = "only checkpoints whose oracle was recorded elsewhere can be gated in full";
    let remedy = "install torch, transformers, numpy and pillow, and name that Python in \
                  AIMODEL_PYTHON";
    let missing = |found: String| Capability::missing(NAME, format!("{found}; {needed}"), remedy);
    let mut command = Command::new(python);
    command.args(["-c", ASK]);
    let printed = match answer(&mut command, limit) {
        Ok(Some(printed)) => printed,
        Ok(None) => return missing(format!("{shown} gave no answer")),
        Err(error) => return missing(format!("{shown} does not start: {error}")),
    };
    let packages: Vec<&str> = printed.lines().map(str::trim).collect();
    let lacking: Vec<&str> = packages
        .iter()
        .filter_map(|package| package.strip_suffix(" -"))
        .collect();
    match (packages.len(), lacking.len()) {
        (4, 0) => Capability::here(NAME, format!("{shown} has {}", packages.join(", "))),
        (4, _) => missing(format!("{shown} lacks {}", lacking.join(", "))),
        _ => missing(format!("{shown} gave no answer")),
    }
}

/// What a command prints, if it succeeds in time; it is killed otherwise.
fn answer(command: &mut Command, limit: Duration) -> std::io::Result<Option<String>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut printed = String::new();
    if let Some(out) = child.stdout.take() {
        // A process that it started may keep the pipe open.
        const MAX: u64 = 4096;
        let read = within(Duration::from_secs(1), move || {
            let mut printed = String::new();
            out.take(MAX).read_to_string(&mut printed).map(|_| printed)
        });
        printed = read.transpose()?.unwrap_or_default();
    }
    Ok(status.success().then_some(printed))
}

/// Whether the hub can be reached.
pub fn hub() -> Capability {
    let text = |name| env::var(name).ok().filter(|text| !text.is_empty());
    let offline = text("HF_HUB_OFFLINE").is_some_and(|text| !["0", "false"].contains(&&*text));
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
    reach(&endpoint, offline, text("HF_TOKEN").is_some())
}

/// Connects to the host of an address. Messages name the host alone: there may
/// be a password in the address.
pub fn reach(endpoint: &str, offline: bool, token: bool) -> Capability {
    const NAME: &str = "hub";
    let elsewhere = "give --model a folder with the checkpoint; nano and what the cache has need \
                     no hub";
    if offline {
        return Capability::missing(NAME, "HF_HUB_OFFLINE is set", elsewhere);
    }
    let Some((host, port)) = host_of(endpoint) else {
        return Capability::missing(
            NAME,
            "HF_ENDPOINT is not an address",
            format!("set it to one such as {HUB}, or unset it"),
        );
    };
    let address = (host.clone(), port);
    let connected = within(HUB_TIMEOUT, move || {
        let mut last = None;
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, HUB_TIMEOUT / 2) {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
    });
    match connected {
        Some(Ok(())) => {
            let token = if token {
                "HF_TOKEN is set"
            } else {
                "HF_TOKEN is not set, so gated models cannot be fetched"
            };
            Capability::here(NAME, format!("{host}:{port} answers; {token}"))
        }
        Some(Err(error)) => Capability::missing(NAME, format!("{host}:{port}: {error}"), elsewhere),
        None => Capability::missing(
            NAME,
            format!("{host}:{port}: no answer in {} s", HUB_TIMEOUT.as_secs()),
            elsewhere,
        ),
    }
}

/// Host and port of an http or https address.
pub fn host_of(endpoint: &str) -> Option<(String, u16)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit('@').next()?;
    let (host, port) = match place.rsplit_once(':') {
        // The colons of a bare IPv6 address are within brackets.
        Some((host, number)) if !number.ends_with(']') => (host, number.parse().ok()?),
        _ => (place, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Checkpoints that are there without the hub.
pub fn checkpoints() -> Capability {
    let place = |name| {
        env::var_os(name)
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    };
    let home = || env::home_dir().map(|home| home.join(".cache/huggingface"));
    let cache = place("HF_HUB_CACHE").or_else(|| Some(place("HF_HOME").or_else(home)?.join("hub")));
    let mut found = cache.map(|cache| cached(&cache)).unwrap_or_default();
    found.insert(0, "nano, in this program".to_owned());
    Capability::here("checkpoints", found.join("; "))
}

/// The checkpoints of known families in a cache of the hub.
pub fn cached(cache: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut found = Vec::new();
    for repo in names(cache) {
        let name = repo.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_prefix("models--") else {
            continue;
        };
        let whole = names(&repo.join("snapshots")).iter().any(|snapshot| {
            Source::folder(snapshot).is_ok_and(|source| {
                models::open(&source)
                    .is_ok_and(|one| models::open_weights(&source, one.as_ref()).is_ok())
            })
        });
        if whole {
            found.push(format!("{}, cached", name.replacen("--", "/", 1)));
        }
    }
    found.sort();
    found
}
