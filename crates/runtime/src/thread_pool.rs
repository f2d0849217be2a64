//! Threads that wait for small pieces of work.
//!
//! A step of a decoder is a hundred products of some fifty microseconds each:
//! too short to wake a thread for. So the workers look for the next job for a
//! moment before they go to sleep. Pieces are handed out one by one, and a
//! worker that comes late, because the machine is busy, is not waited for.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How long a worker looks for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(200);

/// Whether workers may join the job.
const OPEN: u64 = 1;
/// One worker at work.
const ONE: u64 = 2;
/// One job; the count of workers lies below.
const JOB: u64 = 1 << 16;

type Work<'w> = &'w (dyn Fn(usize) + Sync);

/// Calls `work` with each number below `pieces`, on all threads.
pub(crate) fn run(pieces: usize, work: Work<'_>) {
    let pool = pool();
    // Whoever finds the pool at work, does its own alone.
    let caller = match pieces > 1 && !pool.workers.is_empty() {
        true => pool.caller.try_lock().ok(),
        false => None,
    };
    match caller {
        Some(_caller) => pool.broadcast(pieces, work),
        None => (0..pieces).for_each(work),
    }
}

/// Calls `work` with each run of `size` elements and its position among them,
/// on all threads.
pub(crate) fn split<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, size) = (out.len(), size.max(1));
    let start = |piece: usize| (piece * size).min(length);
    cut(out, length.div_ceil(size), start, |piece, _, part| {
        work(piece, part)
    });
}

/// Calls `work` with runs of elements and the position of their first, on all
/// threads. Runs are long at first, so that few are begun, and get shorter down
/// to `least`, so that all threads end together. All but the last have a
/// multiple of `least` elements.
pub(crate) fn share<T: Send>(out: &mut [T], least: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, least) = (out.len(), least.max(1));
    let threads = pool().workers.len() + 1;
    let (mut starts, mut from) = (vec![0], 0);
    while from < length {
        let share = (length - from) / (2 * threads);
        from = (from + share.next_multiple_of(least).max(least)).min(length);
        starts.push(from);
    }
    let pieces = starts.len() - 1;
    cut(
        out,
        pieces,
        |piece| starts[piece],
        |_, from, part| work(from, part),
    );
}

/// Calls `work` with each piece, the position of its first element, and its
/// elements: those from its own start to the next one's. Starts ascend from
/// zero to the length.
fn cut<T: Send>(
    out: &mut [T],
    pieces: usize,
    start: impl Fn(usize) -> usize + Sync,
    work: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let first = AtomicPtr::new(out.as_mut_ptr());
    run(pieces, &|piece| {
        let (from, end) = (start(piece), start(piece + 1));
        // SAFETY: the range lies in `out`, which is borrowed until `run`
        // returns, and no other piece has an element of it.
        let part = unsafe {
            let first = first.load(Ordering::Relaxed).add(from);
            std::slice::from_raw_parts_mut(first, end - from)
        };
        work(piece, from, part);
    });
}

struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    caller: Mutex<()>,
}

struct Shared {
    /// The number of the job, the workers at work on it, and whether more may
    /// join.
    state: AtomicU64,
    job: Mutex<Option<Job>>,
    next: AtomicUsize,
    asleep: Vec<AtomicBool>,
    /// What a worker died of.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    pieces: usize,
    work: Work<'static>,
}

fn pool() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let wanted = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            asleep: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        // Where no more threads can be had, fewer do the work.
        let workers = (0..wanted).map_while(|index| {
            let shared = shared.clone();
            let builder = thread::Builder::new().name(format!("worker {index}"));
            let worker = builder.spawn(move || shared.work_loop(index)).ok()?;
            Some(worker.thread().clone())
        });
        ThreadPool {
            workers: workers.collect(),
            shared,
            caller: Mutex::new(()),
        }
    })
}

impl ThreadPool {
    fn broadcast(&self, pieces: usize, work: Work<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers take the job while they
        // are counted in the state, and `Close` waits until none is, before
        // this function returns or unwinds.
        let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        *lock(&shared.job) = Some(Job { pieces, work });
        shared.next.store(0, Ordering::Relaxed);
        let close = Close(shared);
        let state = shared.state.load(Ordering::Relaxed);
        shared.state.store((state | OPEN) + JOB, Ordering::SeqCst);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.swap(false, Ordering::SeqCst) {
                worker.unpark();
            }
        }
        shared.pieces(Job { pieces, work });
        drop(close);
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

/// Lets no more workers join, and waits for those that did.
struct Close<'s>(&'s Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut turns = 0_u32;
        while state.load(Ordering::Acquire) % JOB >= ONE {
            turns += 1;
            // A worker that lost its processor needs ours.
            match turns % 1024 {
                0 => thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

impl Shared {
    fn pieces(&self, job: Job) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= job.pieces {
                return;
            }
            (job.work)(piece);
        }
    }

    /// What a worker does all its life.
    fn work_loop(&self, index: usize) {
        let mut last = 0;
        loop {
            let state = self.wait(index, last);
            let joined = self.state.compare_exchange(
                state,
                state + ONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if joined.is_err() {
                continue;
            }
            last = state / JOB;
            let job = *lock(&self.job);
            if let Some(job) = job
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.pieces(job)))
            {
                *lock(&self.panic) = Some(panic);
            }
            self.state.fetch_sub(ONE, Ordering::Release);
        }
    }

    /// Waits for a job after the last one.
    fn wait(&self, index: usize, last: u64) -> u64 {
        let ready = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state / JOB != last).then_some(state)
        };
        loop {
            let since = Instant::now();
            while since.elapsed() < SPIN {
                for _ in 0..64 {
                    if let Some(state) = ready() {
                        return state;
                    }
                    std::hint::spin_loop();
                }
            }
            let asleep = &self.asleep[index];
            asleep.store(true, Ordering::SeqCst);
            // A job that came before the flag was up did not wake anybody.
            if let Some(state) = ready() {
                asleep.store(false, Ordering::SeqCst);
                return state;
            }
            thread::park();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_done_once() {
        for round in 0..2000 {
            let mut out = vec![0_usize; round % 97];
            split(&mut out, 5, |piece, part| {
                for (i, value) in part.iter_mut().enumerate() {
                    *value += piece * 5 + i + round;
                }
            });
            assert!(out.iter().enumerate().all(|(i, value)| *value == i + round));
        }
    }

    #[test]
    fn shares_are_of_all_elements() {
        for (length, least) in [(0, 4), (1, 4), (9, 4), (1000, 4), (77, 1), (64, 64), (5, 0)] {
            let mut out = vec![0; length];
            let parts = Mutex::new(Vec::new());
            share(&mut out, least, |first, part| {
                lock(&parts).push((first, part.len()));
                for (i, value) in part.iter_mut().enumerate() {
                    *value += first + i;
                }
            });
            assert!(out.iter().enumerate().all(|(i, value)| *value == i));
            let mut parts = parts.into_inner().unwrap();
            parts.sort();
            assert!(parts.is_sorted_by_key(|(_, count)| std::cmp::Reverse(*count)));
            let whole = |(_, count): &(usize, usize)| count % least.max(1) == 0;
            assert!(
                parts
                    .split_last()
                    .is_none_or(|(_, most)| most.iter().all(whole))
            );
        }
    }

    #[test]
    fn several_callers_and_nested_work_get_on() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        run(10, &|outer| {
                            run(10, &|inner| {
                                sum.fetch_add(outer * inner, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(sum.into_inner(), 45 * 45);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_comes_back_and_the_pool_lives_on() {
        for bad in 0..8 {
            let result = catch_unwind(|| run(8, &|piece| assert_ne!(piece, bad)));
            assert!(result.is_err());
        }
        each_piece_is_done_once();
    }
}
