//! From a folder to a hub.

use crate::content::{self, Entry};
use crate::download::ATTRIBUTES;
use crate::name::{is_hex, is_safe};
use crate::retry::Failure;
use crate::{Error, Hub, Progress, ProgressFn};
use hf_hub::progress::{ProgressEvent, ProgressHandler, UploadEvent};
use hf_hub::repository::CommitOperation;
use hf_hub::{HFError, RepoTypeModel};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The branch that is published.
const BRANCH: &str = "main";
/// From this size on, the hub takes no file into the commit itself.
const LARGE: u64 = 10_000_000;
/// How often progress is reported.
const TICK: Duration = Duration::from_millis(200);

/// A file that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the folder, with slashes.
    pub path: String,
    /// Its size.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A folder that is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// The repository, `organization/name`.
    pub repository: &'a str,
    /// The folder.
    pub folder: &'a Path,
    /// Exactly what of it is published.
    pub files: &'a [File],
    /// The commit's message.
    pub message: &'a str,
    /// Whether a repository that is made is private.
    pub private: bool,
    /// Whether files of the repository that are not in the folder are
    /// removed; otherwise they are a reason to stop.
    pub prune: bool,
}

/// What publishing would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whether the repository is made.
    pub create: bool,
    /// Files that are sent, with their sizes.
    pub send: Vec<(String, u64)>,
    /// Files that the hub has already, byte for byte.
    pub keep: Vec<String>,
    /// Files that the repository has and the folder has not.
    pub foreign: Vec<String>,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The commit that equals the folder.
    pub commit: String,
    /// Where to look at it.
    pub page: String,
    /// Files that were sent.
    pub sent: usize,
    /// Files that were there already.
    pub kept: usize,
}

/// What the hub has before.
enum Before {
    Nothing,
    Commit(String, BTreeMap<String, Entry>),
}

impl Hub {
    /// What [`push`](Hub::push) would do. The hub is only read.
    ///
    /// # Errors
    /// As those of [`push`](Hub::push).
    pub fn plan(&self, push: &Push<'_>, progress: ProgressFn<'_>) -> Result<Plan, Error> {
        check(push)?;
        let before = self.before(push, progress)?;
        plan(push, &before)
    }

    /// Makes the repository's main branch equal to the folder, in one commit,
    /// and then compares what the hub lists. What the hub has already is not
    /// sent again, so a push that failed is simply repeated.
    ///
    /// # Errors
    /// [`Error::Push`] if there is no token, if the repository has other files
    /// and `prune` is not set, or if it does not equal the folder in the end;
    /// otherwise whatever the hub or the disk says.
    pub fn push(&self, push: &Push<'_>, progress: ProgressFn<'_>) -> Result<Pushed, Error> {
        check(push)?;
        let id = push.repository;
        let wrong = |message: String| Error::Push {
            repository: id.into(),
            message,
        };
        if self.settings.offline {
            return Err(wrong("HF_HUB_OFFLINE is set".into()));
        }
        if self.settings.token.is_none() {
            return Err(wrong(
                "there is no token; set HF_TOKEN to one that may write there".into(),
            ));
        }
        let mut before = self.before(push, progress)?;
        let first = plan(push, &before)?;
        if first.create {
            self.create(push, progress)?;
            before = self.before(push, progress)?;
        }
        let what = format!("the commit to {id}");
        let mut retry = self.retry(&what, progress);
        let mut commits = 0;
        loop {
            let Before::Commit(commit, _) = &before else {
                return Err(wrong("it was made, and is not there".into()));
            };
            let plan = plan(push, &before)?;
            if !plan.foreign.is_empty() && !push.prune {
                return Err(wrong(format!(
                    "it has files that the folder does not have: {}; publish to another repository, \
                     or say that they are to be removed",
                    some(&plan.foreign)
                )));
            }
            if plan.send.is_empty() && plan.foreign.is_empty() {
                return Ok(Pushed {
                    commit: commit.clone(),
                    page: format!("{}/{id}", self.settings.endpoint),
                    sent: first.send.len(),
                    kept: first.keep.len(),
                });
            }
            if commits == 2 {
                let files: Vec<String> = plan.send.into_iter().map(|(path, _)| path).collect();
                return Err(wrong(format!(
                    "it was sent twice, and the hub still lists other bytes for {}",
                    some(&files)
                )));
            }
            self.check_transfer(push, &plan, progress)?;
            match self.commit(push, &plan, commit, progress) {
                Ok(()) => commits += 1,
                // Another commit came in between, or an answer got lost: what
                // the hub lists now says which.
                Err(Failure::Hub(HFError::Conflict { .. })) => commits += 1,
                Err(Failure::Hub(HFError::Http { context })) if context.status.as_u16() == 412 => {
                    commits += 1;
                }
                Err(failure) => {
                    let borne = self.runtime.block_on(retry.wait_after(failure));
                    borne.map_err(|failure| self.explain(id, &what, retry.tries, failure))?;
                }
            }
            before = self.before(push, progress)?;
        }
    }

    fn before(&self, push: &Push<'_>, progress: ProgressFn<'_>) -> Result<Before, Error> {
        let listed = match self.list(push.repository, BRANCH, progress) {
            Ok(listed) => listed,
            // Without a token, the hub does not say that there is none.
            Err(Error::Missing { .. } | Error::Anonymous { .. }) => return Ok(Before::Nothing),
            Err(error) => return Err(error),
        };
        if push.private && listed.public {
            return Err(Error::Push {
                repository: push.repository.into(),
                message: "it is there and public; make it private on the hub first".into(),
            });
        }
        Ok(Before::Commit(listed.commit, listed.entries))
    }

    fn create(&self, push: &Push<'_>, progress: ProgressFn<'_>) -> Result<(), Error> {
        let what = format!("making {}", push.repository);
        let mut retry = self.retry(&what, progress);
        let made = self.runtime.block_on(retry.until(|| {
            let create = self.client().create_repository().repo_id(push.repository);
            let create = create.repo_type(RepoTypeModel).private(push.private);
            create.exist_ok(true).send()
        }));
        let tries = retry.tries;
        made.map(|_| ())
            .map_err(|failure| self.explain(push.repository, &what, tries, failure))
    }

    /// hf-hub sends large files by xet, and puts them into the commit where
    /// the hub does not offer that: gigabytes, in memory. So it is asked for.
    fn check_transfer(
        &self,
        push: &Push<'_>,
        plan: &Plan,
        progress: ProgressFn<'_>,
    ) -> Result<(), Error> {
        let large: BTreeSet<&str> = plan
            .send
            .iter()
            .filter(|(_, size)| *size >= LARGE)
            .map(|(path, _)| path.as_str())
            .collect();
        let objects: Vec<_> = push
            .files
            .iter()
            .filter(|file| large.contains(file.path.as_str()))
            .map(|file| serde_json::json!({"oid": file.sha256, "size": file.size}))
            .collect();
        if objects.is_empty() {
            return Ok(());
        }
        let id = push.repository;
        let url = format!("{}/{id}.git/info/lfs/objects/batch", self.settings.endpoint);
        let body = serde_json::json!({
            "operation": "upload",
            "transfers": ["xet"],
            "hash_algo": "sha256",
            "ref": {"name": BRANCH},
            "objects": objects,
        });
        let what = format!("the transfer of large files to {id}");
        let mut retry = self.retry(&what, progress);
        let answer = self.runtime.block_on(async {
            loop {
                match self.ask(&url, &body).await {
                    Ok(answer) => return Ok::<_, Failure>(answer),
                    Err(failure) => retry.wait_after(failure).await?,
                }
            }
        });
        let answer = answer.map_err(|failure| self.explain(id, &what, retry.tries, failure))?;
        match answer["transfer"].as_str() {
            Some("xet") => Ok(()),
            _ => Err(Error::Push {
                repository: id.into(),
                message: "this hub does not take large files by xet, the only way that hf-hub \
                          knows; push the folder with git and git-lfs"
                    .into(),
            }),
        }
    }

    async fn ask(&self, url: &str, body: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        const LFS: &str = "application/vnd.git-lfs+json";
        let network = |error: reqwest::Error| Failure::Hub(error.into());
        let mut request = self.http.post(url).json(body).header("Accept", LFS);
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token.secret());
        }
        let answer = request.send().await.map_err(network)?;
        let status = answer.status();
        if !status.is_success() {
            let asked = answer.headers().get("Retry-After");
            let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(Failure::Status(
                status.as_u16(),
                asked.map(Duration::from_secs),
            ));
        }
        answer.json().await.map_err(network)
    }

    /// One commit with what is new, on top of what was there.
    fn commit(
        &self,
        push: &Push<'_>,
        plan: &Plan,
        parent: &str,
        progress: ProgressFn<'_>,
    ) -> Result<(), Failure> {
        let send = plan.send.iter();
        let add = send.map(|(path, _)| CommitOperation::add_file(path, push.folder.join(path)));
        let delete = plan.foreign.iter().map(CommitOperation::delete);
        let sent = Arc::new(Sent::default());
        let Ok(model) = self.model(push.repository) else {
            return Ok(());
        };
        let commit = model
            .create_commit()
            .operations(add.chain(delete).collect());
        let commit = commit.commit_message(push.message).revision(BRANCH);
        let commit = commit.parent_commit(parent);
        let commit = commit
            .progress(hf_hub::progress::Progress::new(Handler(Arc::clone(&sent))))
            .send();
        self.runtime.block_on(async {
            tokio::pin!(commit);
            let mut tick = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    result = &mut commit => {
                        sent.report(progress);
                        return result.map(|_| ()).map_err(Failure::Hub);
                    }
                    _ = tick.tick() => sent.report(progress),
                }
            }
        })
    }
}

/// How far hf-hub is.
#[derive(Default)]
struct Sent {
    done: AtomicU64,
    total: AtomicU64,
}

impl Sent {
    fn report(&self, progress: ProgressFn<'_>) {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        if total > 0 {
            progress(Progress::Bytes { done, total });
        }
    }
}

struct Handler(Arc<Sent>);

impl ProgressHandler for Handler {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Upload(UploadEvent::Progress {
            bytes_completed,
            total_bytes,
            ..
        }) = event
        {
            self.0.done.store(*bytes_completed, Ordering::Relaxed);
            self.0.total.store(*total_bytes, Ordering::Relaxed);
        }
    }
}

/// Checks names and sizes of the files, without reading them.
fn check(push: &Push<'_>) -> Result<(), Error> {
    let wrong = |message: String| Error::Push {
        repository: push.repository.into(),
        message,
    };
    let mut seen = BTreeSet::new();
    for file in push.files {
        let path = &file.path;
        if !is_safe(path) || path == ATTRIBUTES {
            return Err(wrong(format!("{path:?} cannot be a file of it")));
        }
        if !is_hex(&file.sha256, 64) {
            return Err(wrong(format!("{path} has no SHA-256")));
        }
        if !seen.insert(path.to_lowercase()) {
            return Err(wrong(format!("{path} is there twice")));
        }
        let place = push.folder.join(path);
        let data = std::fs::symlink_metadata(&place).map_err(Error::disk(&place))?;
        if !data.is_file() || data.len() != file.size {
            return Err(wrong(format!(
                "{} is not a file of {} bytes (any more)",
                place.display(),
                file.size
            )));
        }
    }
    if push.files.is_empty() {
        Err(wrong("there is no file in the folder".into()))
    } else {
        Ok(())
    }
}

fn plan(push: &Push<'_>, before: &Before) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let none = BTreeMap::new();
    let entries = match before {
        Before::Nothing => {
            plan.create = true;
            &none
        }
        Before::Commit(_, entries) => entries,
    };
    for file in push.files {
        let place = push.folder.join(&file.path);
        let same = match entries.get(&file.path) {
            None => false,
            Some(entry) => entry
                .is(file.size, &file.sha256, || content::git_id(&place))
                .map_err(Error::disk(&place))?,
        };
        if same {
            plan.keep.push(file.path.clone());
        } else {
            plan.send.push((file.path.clone(), file.size));
        }
    }
    let ours: BTreeSet<&str> = push.files.iter().map(|file| file.path.as_str()).collect();
    let foreign = entries.keys();
    let foreign = foreign.filter(|path| *path != ATTRIBUTES && !ours.contains(path.as_str()));
    plan.foreign = foreign.cloned().collect();
    Ok(plan)
}

/// The first few of a list, in words.
fn some(names: &[String]) -> String {
    const MAX: usize = 5;
    let mut text = names
        .iter()
        .take(MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MAX {
        text.push_str(&format!(" and {} more", names.len() - MAX));
    }
    text
}
