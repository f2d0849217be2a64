//! Checkpoints fetched from the Hugging Face hub, into its usual cache.

use super::Source;
use crate::{Config, Error, checkpoint, config, tokenizer};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use std::collections::BTreeSet;
use std::path::Path;

/// Fetches what an export reads of `model` at `revision`, `main` if `None`.
/// What the cache has is not fetched again, and where the hub cannot be
/// reached, a whole checkpoint in the cache will do.
pub(super) fn fetch(model: &str, revision: Option<&str>) -> Result<Source, Error> {
    let mut builder = ApiBuilder::from_env();
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    fetch_with(
        builder,
        &Cache::from_env(),
        model,
        revision.unwrap_or("main"),
    )
}

fn fetch_with(
    builder: ApiBuilder,
    cache: &Cache,
    model: &str,
    revision: &str,
) -> Result<Source, Error> {
    let fail = |message: String| Error::Hub {
        model: model.into(),
        revision: revision.into(),
        message,
    };
    let at = |revision: &str| Repo::with_revision(model.into(), RepoType::Model, revision.into());
    let api = builder
        .with_progress(true)
        .build()
        .map_err(|error| fail(error.to_string()))?;
    let info = match api.repo(at(revision)).info() {
        Ok(info) => info,
        Err(error) => {
            let cached = cache.repo(at(revision)).get(config::FILE);
            let source = cached.and_then(|file| snapshot(model, &file));
            return match source {
                Some(source) if is_whole(&source) => Ok(source),
                _ => Err(fail(error.to_string())),
            };
        }
    };
    let there: BTreeSet<&str> = info
        .siblings
        .iter()
        .map(|file| file.rfilename.as_str())
        .collect();
    // From here on the commit, lest the branch moves between two files.
    let repo = api.repo(at(&info.sha));
    let get = |file: &str| {
        repo.get(file)
            .map_err(|error| fail(format!("{file}: {error}")))
    };

    if !there.contains(config::FILE) {
        return Err(Error::MissingFile {
            place: format!("{model} on the hub"),
            file: config::FILE.into(),
        });
    }
    let file = get(config::FILE)?;
    let source =
        snapshot(model, &file).ok_or_else(|| fail(format!("{} has no folder", file.display())))?;
    // Before gigabytes are fetched.
    Config::load(&source)?;
    for file in tokenizer::FILES {
        if there.contains(file) {
            get(file)?;
        }
    }
    // Without weights, opening the checkpoint says what is missing.
    if there.contains(checkpoint::SINGLE) {
        get(checkpoint::SINGLE)?;
    } else if there.contains(checkpoint::INDEX) {
        get(checkpoint::INDEX)?;
        for shard in checkpoint::shards(&source)? {
            get(&shard)?;
        }
    }
    // The cache knows only the commit so far; without the hub, the name must do.
    let noted = cache.repo(at(revision)).create_ref(&info.sha);
    noted.map_err(|error| fail(format!("the cache cannot be written: {error}")))?;
    Ok(source)
}

/// The cache's folder for a commit, which holds `file` and bears its name.
fn snapshot(model: &str, file: &Path) -> Option<Source> {
    let folder = file.parent()?;
    let mut source = Source::folder(folder).ok()?;
    source.revision = Some(source.model);
    source.model = model.into();
    Some(source)
}

fn is_whole(source: &Source) -> bool {
    crate::Checkpoint::open(source).is_ok() && crate::TokenizerFiles::load(source).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::thread;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Answers as the hub does, from a folder, for as long as the test runs.
    fn serve(folder: PathBuf) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&folder, stream);
            }
        });
        address
    }

    fn answer(folder: &Path, mut stream: TcpStream) {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request: Vec<String> = lines
            .map_while(Result::ok)
            .take_while(|l| !l.is_empty())
            .collect();
        let path = request[0].split(' ').nth(1).unwrap_or_default();
        let (status, headers, body) = if let Some(rest) = path.strip_prefix("/api/models/org/tiny/")
        {
            let siblings: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| serde_json::json!({"rfilename": entry.unwrap().file_name().to_str()}))
                .collect();
            let info = serde_json::json!({"sha": COMMIT, "siblings": siblings});
            match rest {
                "revision/main" => ("200 OK", String::new(), info.to_string().into_bytes()),
                _ => ("404 Not Found", String::new(), Vec::new()),
            }
        } else {
            let file = path.rsplit('/').next().unwrap_or_default();
            assert!(path.contains(COMMIT), "{path} is not pinned to the commit");
            let bytes = std::fs::read(folder.join(file)).unwrap();
            let range = request.iter().find_map(|line| {
                let (name, value) = line.split_once(": bytes=")?;
                name.eq_ignore_ascii_case("range").then_some(value)
            });
            let (start, end) = range
                .and_then(|range| range.split_once('-'))
                .unwrap_or(("0", ""));
            let start: usize = start.parse().unwrap();
            let end = end
                .parse()
                .map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
            let headers = format!(
                "ETag: \"{file}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {start}-{}/{}\r\n",
                end.saturating_sub(1),
                bytes.len()
            );
            ("206 Partial Content", headers, bytes[start..end].to_vec())
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(&body);
    }

    fn fetch_from(endpoint: &str, cache: &Path, revision: &str) -> Result<Source, Error> {
        let builder = ApiBuilder::new()
            .with_endpoint(endpoint.into())
            .with_cache_dir(cache.into())
            .with_token(None)
            .with_retries(0);
        fetch_with(builder, &Cache::new(cache.into()), "org/tiny", revision)
    }

    #[test]
    fn a_checkpoint_is_fetched_whole_and_found_again_without_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let (remote, cache) = (folder.path().join("remote"), folder.path().join("cache"));
        let config = Config::preset("nano").unwrap();
        let options = synth::Options::default().shard_bytes(1 << 20);
        synth::write(&config, &remote, options, |_, _| {}).unwrap();
        std::fs::write(remote.join("README.md"), "not needed").unwrap();
        let endpoint = serve(remote.clone());

        let source = fetch_from(&endpoint, &cache, "main").unwrap();
        assert_eq!(
            (source.model(), source.revision()),
            ("org/tiny", Some(COMMIT))
        );
        assert!(is_whole(&source));
        assert!(source.map("README.md").unwrap().is_none());

        // Nobody listens there: port 9 is for discarding.
        let offline = "http://127.0.0.1:9";
        assert_eq!(
            fetch_from(offline, &cache, "main").unwrap().revision(),
            Some(COMMIT)
        );
        let error = fetch_from(offline, &folder.path().join("empty"), "main").unwrap_err();
        assert!(matches!(error, Error::Hub { .. }), "{error}");
        assert!(error.to_string().contains("org/tiny"), "{error}");

        let error = fetch_from(&endpoint, &cache, "no-such").unwrap_err();
        assert!(error.to_string().contains("no-such"), "{error}");
    }

    #[test]
    fn another_architecture_is_refused_before_its_weights_are_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let (remote, cache) = (folder.path().join("remote"), folder.path().join("cache"));
        std::fs::create_dir(&remote).unwrap();
        std::fs::write(remote.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
        std::fs::write(remote.join("model.safetensors"), "large").unwrap();
        let error = fetch_from(&serve(remote.clone()), &cache, "main").unwrap_err();
        assert!(matches!(error, Error::Architecture { .. }), "{error}");
        std::fs::remove_file(remote.join("config.json")).unwrap();
        let error = fetch_from(&serve(remote), &folder.path().join("other"), "main").unwrap_err();
        assert!(matches!(error, Error::MissingFile { .. }), "{error}");
    }
}
