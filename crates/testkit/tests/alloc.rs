//! The counting allocator. One test: counts of the whole process are disturbed
//! by tests beside it.

use std::thread;

use testkit::alloc::{Counting, peak, peak_of_all};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MEGABYTE: usize = 1 << 20;

#[test]
fn allocations_are_counted() {
    let (held, used) = peak(|| vec![1_u8; MEGABYTE]);
    assert!((MEGABYTE..MEGABYTE + 1000).contains(&used), "{used}");
    // What was held before does not count; what is freed is available again.
    let ((), used) = peak(|| drop(vec![1_u8; 1000]));
    assert!((1000..2000).contains(&used), "{used}");
    let ((), used) = peak(|| {
        for _ in 0..4 {
            drop(std::hint::black_box(vec![0_u8; MEGABYTE]));
        }
    });
    assert!((MEGABYTE..MEGABYTE + 1000).contains(&used), "{used}");
    // A vector that grows is there twice for a moment.
    let ((), used) = peak(|| {
        let mut grows = held;
        grows.reserve_exact(MEGABYTE);
        std::hint::black_box(&grows);
    });
    assert!(used >= 2 * MEGABYTE, "{used}");
    // Another thread's memory is in the count of all, and not in that of this one.
    let elsewhere = || {
        let worker = thread::spawn(|| drop(std::hint::black_box(vec![0_u8; MEGABYTE])));
        worker.join().unwrap();
    };
    assert!(peak(elsewhere).1 < MEGABYTE / 2);
    assert!(peak_of_all(elsewhere).1 >= MEGABYTE);
}
