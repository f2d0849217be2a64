//! An allocator that counts, for tests of how much memory something takes.
//!
//! ```
//! use testkit::alloc::{Counting, peak};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let (bytes, held) = peak(|| vec![0_u8; 1000].len());
//! assert_eq!((bytes, held), (1000, 1000));
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

static ALL_LIVE: AtomicUsize = AtomicUsize::new(0);
static ALL_PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of the bytes that each thread and the
/// whole process hold. It counts nothing unless a test program makes it its
/// `#[global_allocator]`.
pub struct Counting;

fn taken(bytes: usize) {
    // A thread that ends may allocate after its counters are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.set(PEAK.get().max(live.get()));
    });
    ALL_PEAK.fetch_max(ALL_LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

fn given_back(bytes: usize) {
    // What another thread allocated may be freed here.
    let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(bytes)));
    ALL_LIVE.fetch_sub(bytes, Relaxed);
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while the content is copied.
        taken(size);
        given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The maximum number of bytes that this thread held during `work`, beyond what it held
/// before. What `work` does on other threads is not in it: see [`peak_of_all`].
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// The maximum number of bytes that all threads together held during `work`, beyond what
/// they held before. Only a test that runs alone in its process can ask this.
pub fn peak_of_all<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALL_LIVE.load(Relaxed);
    ALL_PEAK.store(before, Relaxed);
    let result = work();
    (result, ALL_PEAK.load(Relaxed) - before)
}
