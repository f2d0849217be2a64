//! Times of several runs, and their medians.

use std::time::Instant;

/// Runs `work`, and gives how many seconds it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64())
}

/// What several runs measured.
pub struct Runs<T>(Vec<T>);

impl<T> Runs<T> {
    /// No run yet.
    pub fn new() -> Self {
        Runs(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, run: T) {
        self.0.push(run);
    }

    /// The median of one figure of each run.
    pub fn median(&self, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(figure))
    }

    /// The smallest and the largest of one figure of each run.
    pub fn range(&self, figure: impl Fn(&T) -> f64) -> (f64, f64) {
        let figures = self.0.iter().map(figure);
        figures.fold((f64::INFINITY, 0.0), |(min, max), figure| {
            (f64::min(min, figure), f64::max(max, figure))
        })
    }
}

impl<T> std::ops::Deref for Runs<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// The middle one, or the mean of the two in the middle; zero if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => 0.0,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// The largest resident memory of this process so far, in bytes, mapped pages of
/// files included. Only Linux has it in a file.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim();
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        let mut runs = Runs::new();
        for run in [2.0, 1.0, 3.0] {
            runs.push(run);
        }
        assert_eq!((runs.median(|run| *run), runs.len()), (2.0, 3));
        assert_eq!(runs.range(|run| *run), (1.0, 3.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_was_used_counts() {
        let before = peak_memory().unwrap();
        let bytes = vec![1_u8; 64 << 20];
        std::hint::black_box(&bytes);
        drop(bytes);
        assert!(peak_memory().unwrap() >= before.max(64 << 20));
    }
}
