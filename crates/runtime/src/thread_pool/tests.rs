use std::{collections::HashSet, thread::ThreadId};

use super::*;

/// How long a test waits for another thread before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `count` is at least `wanted`; gives whether it came to that.
fn reaches(count: &AtomicUsize, wanted: usize) -> bool {
    let since = Instant::now();
    while count.load(Ordering::SeqCst) < wanted {
        if since.elapsed() > PATIENCE {
            return false;
        }
        thread::yield_now();
    }
    true
}

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
fn split_does_each_piece_once() {
    for threads in [1, 2, 5] {
        let _entered = ThreadPool::new(threads).enter();
        each_piece_is_done_once();
    }
}

#[test]
fn share_covers_all_elements_with_shrinking_runs() {
    let _entered = ThreadPool::new(4).enter();
    for (length, min) in [(0, 4), (1, 4), (9, 4), (1000, 4), (77, 1), (64, 64), (5, 0)] {
        let mut out = vec![0; length];
        let parts = Mutex::new(Vec::new());
        share(&mut out, min, |first, part| {
            lock(&parts).push((first, part.len()));
            for (i, value) in part.iter_mut().enumerate() {
                *value += first + i;
            }
        });
        assert!(out.iter().enumerate().all(|(i, value)| *value == i));
        let mut parts = parts.into_inner().unwrap();
        parts.sort_unstable();
        assert!(parts.is_sorted_by_key(|(_, count)| std::cmp::Reverse(*count)));
        let whole = |(_, count): &(usize, usize)| count % min.max(1) == 0;
        assert!(
            parts
                .split_last()
                .is_none_or(|(_, others)| others.iter().all(whole))
        );
    }
}

#[test]
fn a_pool_has_the_size_that_was_asked_for() {
    assert_eq!(ThreadPool::new(1).threads(), 1);
    assert_eq!(ThreadPool::new(6).threads(), 6);
    let cpus = thread::available_parallelism().unwrap().get();
    assert_eq!(ThreadPool::new(0).threads(), cpus);
    // A pool of one thread does everything on the caller's.
    let _entered = ThreadPool::new(1).enter();
    let caller = thread::current().id();
    broadcast(50, &|_| assert_eq!(thread::current().id(), caller));
}

#[test]
fn all_threads_of_a_pool_take_part() {
    let pool = ThreadPool::new(4);
    let _entered = pool.enter();
    let (begun, threads) = (AtomicUsize::new(0), Mutex::new(HashSet::<ThreadId>::new()));
    // Nobody goes on before all four have begun.
    broadcast(4, &|_| {
        lock(&threads).insert(thread::current().id());
        begun.fetch_add(1, Ordering::SeqCst);
        assert!(reaches(&begun, 4), "a thread did not come");
    });
    assert_eq!(lock(&threads).len(), 4);
    assert_eq!(pool.worker_pieces(), [1, 1, 1]);
}

/// Several callers at once each have help: their pieces wait for each other,
/// so that a caller left to itself would not get on.
#[test]
fn concurrent_callers_share_the_workers() {
    const CALLERS: usize = 3;
    let pool = ThreadPool::new(1 + CALLERS);
    for _ in 0..20 {
        let posted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let _entered = pool.enter();
                    let begun = AtomicUsize::new(0);
                    broadcast(2, &|_| {
                        if begun.fetch_add(1, Ordering::SeqCst) == 0 {
                            posted.fetch_add(1, Ordering::SeqCst);
                        }
                        assert!(reaches(&begun, 2), "a caller was left alone");
                        assert!(reaches(&posted, CALLERS), "a caller did not come");
                    });
                });
            }
        });
    }
}

/// A job that would keep all workers busy for long gives some of them to one
/// that comes later.
#[test]
fn workers_leave_a_long_job_for_a_new_one() {
    let pool = ThreadPool::new(3);
    let (working, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _entered = pool.enter();
            // More pieces than can ever be done; a panic ends the job.
            let result = catch_unwind(AssertUnwindSafe(|| {
                broadcast(usize::MAX / 2, &|_| {
                    working.fetch_add(1, Ordering::SeqCst);
                    assert!(!done.load(Ordering::SeqCst));
                    thread::yield_now();
                });
            }));
            assert!(result.is_err());
        });
        assert!(reaches(&working, 1000));
        let _entered = pool.enter();
        let begun = AtomicUsize::new(0);
        broadcast(2, &|_| {
            begun.fetch_add(1, Ordering::SeqCst);
            assert!(reaches(&begun, 2), "no worker left the long job");
        });
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn nested_jobs_of_several_callers_get_on() {
    for threads in [1, 2, 4] {
        let pool = ThreadPool::new(threads);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _entered = pool.enter();
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        broadcast(10, &|outer| {
                            broadcast(10, &|inner| {
                                sum.fetch_add(outer * inner, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(sum.into_inner(), 45 * 45);
                    }
                });
            }
        });
    }
}

#[test]
fn a_panic_comes_back_and_the_pool_works_on() {
    let pool = ThreadPool::new(3);
    let _entered = pool.enter();
    for bad in 0..8 {
        let result = catch_unwind(|| broadcast(8, &|piece| assert_ne!(piece, bad)));
        assert!(result.is_err());
    }
    assert_eq!(pool.handle.0.open.load(Ordering::SeqCst), 0);
    each_piece_is_done_once();
}

#[test]
fn workers_end_with_the_last_handle() {
    let pool = ThreadPool::new(3);
    let shared = Arc::downgrade(&pool.handle.0);
    let other = pool.clone();
    drop(pool);
    {
        let _entered = other.enter();
        each_piece_is_done_once();
    }
    drop(other);
    // Each worker has a share of it until it ends.
    let since = Instant::now();
    while shared.strong_count() > 0 {
        assert!(since.elapsed() < PATIENCE, "a worker did not end");
        thread::yield_now();
    }
}
