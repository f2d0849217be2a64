//! A pool of threads for small pieces of work.
//!
//! A step of a decoder is a hundred products of some fifty microseconds each,
//! which is too short to wake a thread for. So workers poll for the next job
//! for a moment before they go to sleep. Pieces are handed out one at a time,
//! and a worker that arrives late, because the machine is busy, is not waited
//! for.
//!
//! Several callers may use one pool at once. Each works on its own job, and the
//! workers spread over the open jobs: when a job arrives, every worker chooses
//! again at its next piece, and takes the job that has the fewest workers.
//! Nobody waits for a worker that has not joined its job, so callers always get
//! on, also when a piece starts a job of its own.

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How long a worker polls for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(200);

/// The largest pool that can be asked for.
const MAX_THREADS: usize = 1024;

type Work<'w> = dyn Fn(usize) + Sync + 'w;

/// The threads that the kernels of one or more programs share.
///
/// A pool of `n` threads has `n - 1` workers: the thread that calls a function
/// works too. Results do not depend on the number of threads. Programs use the
/// [global](ThreadPool::global) pool unless
/// [`Program::with_thread_pool`](crate::Program::with_thread_pool) gives them
/// another one. Operations that are left to the tensor library run on rayon's
/// global pool instead.
///
/// Workers end when the last handle of their pool is dropped.
#[derive(Clone)]
pub struct ThreadPool {
    handle: Arc<Handle>,
}

/// Ends the workers when the last clone of a pool goes.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.announce();
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadPool({})", self.threads())
    }
}

static GLOBAL: OnceLock<ThreadPool> = OnceLock::new();

thread_local! {
    /// The pool of the call that this thread makes; that of a worker.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

impl ThreadPool {
    /// Starts a pool. 0 threads are as many as the machine has CPUs; more than
    /// 1024 are 1024. Where the system refuses to start a thread, the pool is
    /// smaller; [`threads`](ThreadPool::threads) tells.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let wanted = match threads {
            0 => thread::available_parallelism().map_or(1, |count| count.get()),
            threads => threads,
        };
        let workers = wanted.min(MAX_THREADS) - 1;
        let shared = Arc::new(Shared {
            posted: Padded(AtomicU64::new(0)),
            open: AtomicUsize::new(0),
            jobs: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            workers: (0..workers).map(|_| WorkerState::default()).collect(),
            threads: OnceLock::new(),
        });
        let threads = (0..workers).map_while(|index| {
            let shared = shared.clone();
            let builder = thread::Builder::new().name(format!("runtime worker {index}"));
            let worker = builder.spawn(move || {
                CURRENT.set(Some(shared.clone()));
                shared.work(index);
            });
            Some(worker.ok()?.thread().clone())
        });
        let threads = threads.collect();
        // Workers do not read it before a job is posted, which nobody can yet.
        let _ = shared.threads.set(threads);
        Self {
            handle: Arc::new(Handle(shared)),
        }
    }

    /// The pool of programs that were given none: as many threads as the
    /// machine has CPUs, unless [`ThreadPool::init_global`] said otherwise.
    pub fn global() -> &'static Self {
        GLOBAL.get_or_init(|| Self::new(0))
    }

    /// Sets the size of the global pool, before anything has used it. Gives
    /// whether it did: false where the pool was running already.
    #[must_use]
    pub fn init_global(threads: usize) -> bool {
        let mut started = false;
        GLOBAL.get_or_init(|| {
            started = true;
            Self::new(threads)
        });
        started
    }

    /// How many threads work on a job, the calling one among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.handle.0.threads()
    }

    /// How many pieces of work each worker has done since the pool was
    /// started. What callers did themselves is not counted.
    #[must_use]
    pub fn worker_pieces(&self) -> Vec<u64> {
        let workers = self.handle.0.workers.iter();
        let done = workers.map(|worker| worker.pieces.load(Ordering::Relaxed));
        done.take(self.threads() - 1).collect()
    }

    /// Makes this the pool of the current thread until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        let shared = self.handle.0.clone();
        Entered {
            before: CURRENT.replace(Some(shared)),
            _not_send: std::marker::PhantomData,
        }
    }
}

/// While it lives, the current thread uses a certain pool.
pub(crate) struct Entered {
    before: Option<Arc<Shared>>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

fn current() -> Arc<Shared> {
    let entered = CURRENT.with_borrow(|current| current.clone());
    entered.unwrap_or_else(|| ThreadPool::global().handle.0.clone())
}

/// Calls `work` with each number below `pieces`, on the threads of the current
/// pool.
pub(crate) fn broadcast(pieces: usize, work: &Work<'_>) {
    current().run(pieces, work);
}

/// Calls `work` with each run of `size` elements and its position among them,
/// on the threads of the current pool.
pub(crate) fn split<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let size = size.max(1);
    let pieces = out.len().div_ceil(size);
    let starts: Vec<usize> = (0..pieces).map(|piece| piece * size).collect();
    split_at(out, &starts, |piece, _, part| work(piece, part));
}

/// Calls `work` with runs of elements and the position of their first, on the
/// threads of the current pool. Runs are long at first, so that few are begun,
/// and get shorter down to `min`, so that all threads end together. All but the
/// last have a multiple of `min` elements.
pub(crate) fn share<T: Send>(out: &mut [T], min: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, min) = (out.len(), min.max(1));
    let threads = current().threads();
    let (mut starts, mut from) = (Vec::new(), 0);
    while from < length {
        starts.push(from);
        let share = (length - from) / (2 * threads);
        from += share.next_multiple_of(min).max(min);
    }
    split_at(out, &starts, |_, from, part| work(from, part));
}

/// Calls `work` with each piece, the position of its first element, and its
/// elements: those from its own start to the next one's, or to the end.
fn split_at<T: Send>(
    out: &mut [T],
    starts: &[usize],
    work: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let length = out.len();
    assert!(
        starts.is_sorted() && starts.last().is_none_or(|last| *last <= length),
        "pieces must lie one after the other"
    );
    let first = AtomicPtr::new(out.as_mut_ptr());
    broadcast(starts.len(), &|piece| {
        let from = starts[piece];
        let end = starts.get(piece + 1).copied().unwrap_or(length);
        // SAFETY: starts ascend to at most the length, which was asserted, so
        // the range lies in `out` and no other piece has an element of it. Each
        // piece is handed out once, and `out` is mutably borrowed until
        // `broadcast` returns, which is after the last piece.
        let part = unsafe {
            let first = first.load(Ordering::Relaxed).add(from);
            std::slice::from_raw_parts_mut(first, end - from)
        };
        work(piece, from, part);
    });
}

/// What a pool's handles, callers and workers have in common.
struct Shared {
    /// How many jobs were posted. Idle workers poll it, so it shares its cache
    /// line with nothing that is written more often.
    posted: Padded<AtomicU64>,
    /// How many jobs have pieces that were not handed out.
    open: AtomicUsize,
    /// The jobs that callers wait for, the oldest first.
    jobs: Mutex<Vec<Arc<Job>>>,
    stop: AtomicBool,
    workers: Vec<WorkerState>,
    /// The workers that were started, by their index.
    threads: OnceLock<Vec<Thread>>,
}

#[repr(align(128))]
struct Padded<T>(T);

#[derive(Default)]
struct WorkerState {
    asleep: AtomicBool,
    pieces: AtomicU64,
}

/// Work that a caller waits for.
struct Job {
    work: *const Work<'static>,
    pieces: usize,
    /// The next piece to hand out.
    next: AtomicUsize,
    /// Workers that joined and have not left. Raised while `Shared::jobs` is
    /// locked.
    workers: AtomicUsize,
    /// The last panic of a worker.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` points to a `Fn + Sync`, which any thread may call by
// reference as long as it lives, and only `Shared::piece` reads it; all else is
// Send by itself.
unsafe impl Send for Job {}
// SAFETY: as above; all other fields are Sync by themselves.
unsafe impl Sync for Job {}

impl Shared {
    fn threads(&self) -> usize {
        1 + self.threads.get().map_or(0, Vec::len)
    }

    /// Does all pieces of a job, on the calling thread and on all workers that
    /// are free for it.
    fn run(&self, pieces: usize, work: &Work<'_>) {
        if pieces <= 1 || self.threads() == 1 {
            (0..pieces).for_each(work);
            return;
        }
        let work: *const Work<'_> = work;
        let job = Arc::new(Job {
            // SAFETY: only the lifetime changes, of a pointer that is used by
            // threads that `Close` waits for before this function returns or
            // unwinds.
            work: unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) },
            pieces,
            next: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        lock(&self.jobs).push(job.clone());
        self.open.fetch_add(1, Ordering::Relaxed);
        let close = Close { pool: self, job };
        self.announce();
        // SAFETY: this thread is the job's caller.
        while unsafe { self.piece(&close.job) } {}
        let job = close.job.clone();
        drop(close);
        if let Some(panic) = lock(&job.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Does the next piece of a job; false where none is left.
    ///
    /// # Safety
    /// The caller of the job waits for this thread: it is its own, or a worker
    /// that joined and has not left.
    unsafe fn piece(&self, job: &Job) -> bool {
        let piece = job.next.fetch_add(1, Ordering::Relaxed);
        if piece >= job.pieces {
            return false;
        }
        if piece + 1 == job.pieces {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: the closure lives until `Shared::run` returns, and that waits
        // for this thread.
        unsafe { (*job.work)(piece) };
        true
    }

    /// Makes all workers look at the jobs.
    fn announce(&self) {
        self.posted.0.fetch_add(1, Ordering::SeqCst);
        let threads = self.threads.get().into_iter().flatten();
        for (thread, worker) in threads.zip(&self.workers) {
            if worker.asleep.swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }

    /// The open job with the fewest workers, which now has one more.
    fn join(&self) -> Option<Arc<Job>> {
        if self.open.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let jobs = lock(&self.jobs);
        let open = jobs
            .iter()
            .filter(|job| job.next.load(Ordering::Relaxed) < job.pieces);
        let job = open.min_by_key(|job| job.workers.load(Ordering::Relaxed))?;
        job.workers.fetch_add(1, Ordering::Relaxed);
        Some(job.clone())
    }

    /// What a worker does from its start to its end.
    fn work(&self, index: usize) {
        loop {
            let seen = self.posted.0.load(Ordering::SeqCst);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            match self.join() {
                Some(job) => self.help(index, &job, seen),
                None => self.wait(index, seen),
            }
        }
    }

    /// Does pieces of a job that was joined, until none is left or other jobs
    /// have come, and leaves it.
    fn help(&self, index: usize, job: &Job, seen: u64) {
        let mut done = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: this worker joined the job, and leaves it below.
            while unsafe { self.piece(job) } {
                done += 1;
                if self.posted.0.load(Ordering::Relaxed) != seen {
                    break;
                }
            }
        }));
        if let Err(panic) = result {
            *lock(&job.panic) = Some(panic);
        }
        self.workers[index]
            .pieces
            .fetch_add(done, Ordering::Relaxed);
        job.workers.fetch_sub(1, Ordering::Release);
    }

    /// Waits until more jobs than `seen` were posted.
    fn wait(&self, index: usize, seen: u64) {
        let ready = || self.posted.0.load(Ordering::SeqCst) != seen;
        let since = Instant::now();
        while since.elapsed() < SPIN {
            for _ in 0..64 {
                if ready() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        let asleep = &self.workers[index].asleep;
        asleep.store(true, Ordering::SeqCst);
        // A job that was posted before the flag was up has woken nobody.
        if ready() {
            asleep.store(false, Ordering::SeqCst);
            return;
        }
        thread::park();
    }
}

/// Lets no more workers join a job, and waits for those that did.
struct Close<'p> {
    pool: &'p Shared,
    job: Arc<Job>,
}

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let Self { pool, job } = self;
        // After a panic, pieces that are left are not done.
        if job.next.fetch_max(job.pieces, Ordering::Relaxed) < job.pieces {
            pool.open.fetch_sub(1, Ordering::Relaxed);
        }
        lock(&pool.jobs).retain(|other| !Arc::ptr_eq(other, job));
        let mut rounds = 0_u32;
        while job.workers.load(Ordering::Acquire) > 0 {
            rounds += 1;
            // A worker that lost its CPU may need this one.
            if rounds.is_multiple_of(1024) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
