//! A series as a picture: where each line, mark and word goes. The template
//! makes SVG of it.

use serde::Serialize;

use super::{number, text};
use crate::transcript::{Measure, Series};

/// The picture, and the frame of the plot in it. The template has these, too.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 348.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 156.0;
/// Points of a line; a longer series shows the worst of each group.
const POINTS: usize = 150;
/// Up to here each point has its own mark.
const MARKED: usize = 36;
/// The longest name of an axis that there is room for.
const AXIS: usize = 36;
/// The decades that a logarithmic axis spans at most.
const DECADES: i32 = 17;

/// A picture, ready to be drawn.
#[derive(Debug, Serialize)]
pub struct Chart {
    what: String,
    prompt: Option<String>,
    /// The extreme value and where it is, in words.
    note: String,
    /// What the vertical axis shows.
    vertical: &'static str,
    axis: String,
    y_ticks: Vec<Tick>,
    x_ticks: Vec<Tick>,
    bar: Option<Bar>,
    /// Paths, piece by piece: lines through the worst of each group, and what
    /// the groups span.
    line: Vec<String>,
    span: Vec<String>,
    marks: Vec<Mark>,
    /// Columns that say their value when pointed at.
    columns: Vec<Column>,
    /// Whether a value is NaN or infinite, or beyond a bar that a gate holds it to.
    fails: bool,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    at: String,
    text: String,
    /// Where its text stands.
    text_at: String,
    /// What lies beyond: from the top of the plot, or up to its bottom.
    from: String,
    height: String,
    /// Whether that fails a gate; else it is what no gate relies on.
    fails: bool,
}

#[derive(Debug, Serialize)]
struct Mark {
    x: String,
    y: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct Column {
    x: String,
    width: String,
    text: String,
}

/// The pictures of a stage's series. Those of the same numbers, of several
/// prompts, follow each other and share a vertical axis, so that they can be
/// compared.
pub fn charts(series: &[Series]) -> Vec<Chart> {
    let mut kinds: Vec<Vec<&Series>> = Vec::new();
    for one in series {
        let same = |kind: &&mut Vec<&Series>| {
            let of = kind.first();
            of.is_some_and(|of| (&of.what, of.measure) == (&one.what, one.measure))
        };
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(one),
            None => kinds.push(vec![one]),
        }
    }
    let charts = kinds.iter().flat_map(|kind| {
        let scale = Scale::of(kind);
        kind.iter().map(move |one| Chart::new(one, &scale))
    });
    charts.collect()
}

/// Whether a value is one of its measure.
fn sound(measure: Measure, value: f64) -> bool {
    // Rounding takes the cosine of equal rows a little beyond 1.
    value.is_finite() && (measure != Measure::Cosine || value.abs() <= 1.0 + 1e-9)
}

/// How far a value is from the axis' zero: a cosine is shown by its distance
/// from 1.
fn height(measure: Measure, value: f64) -> f64 {
    match measure {
        Measure::Cosine => 1.0 - value,
        _ => value,
    }
}

/// Whether a value does not reach the bar, or exceeds it.
fn beyond(measure: Measure, value: f64, bar: f64) -> bool {
    match measure {
        Measure::Cosine | Measure::Margin => value < bar,
        Measure::Error => value > bar,
        Measure::Amount => false,
    }
}

/// The vertical axis.
enum Scale {
    /// Decades, from and to these powers of ten. What is below lies at the
    /// bottom, which stands for 0.
    Decades(i32, i32),
    /// From, to, and the distance of ticks.
    Linear(f64, f64, f64),
}

impl Scale {
    fn of(series: &[&Series]) -> Scale {
        let measure = series.first().map_or(Measure::Amount, |one| one.measure);
        let values = series
            .iter()
            .flat_map(|one| one.values.iter().chain(&one.bar))
            .filter(|value| sound(measure, **value));
        let heights = values.map(|value| height(measure, *value));
        match measure {
            Measure::Cosine | Measure::Margin => {
                let positive = || heights.clone().filter(|height| *height > 0.0);
                let max = positive().fold(f64::MIN_POSITIVE, f64::max);
                let min = positive().fold(f64::MAX, f64::min).min(max);
                if max == f64::MIN_POSITIVE {
                    return Scale::Decades(-9, -6);
                }
                // Room above and below, so that neither is on the frame.
                let high = (max * 1.5).min(f64::MAX).log10().ceil() as i32;
                let exact = heights.clone().any(|height| height <= 0.0);
                let low = ((min / 1.5).max(f64::MIN_POSITIVE).log10().floor() as i32).min(high - 2)
                    - i32::from(exact);
                Scale::Decades(low.max(high - DECADES), high)
            }
            Measure::Error | Measure::Amount => {
                let max = heights.clone().fold(0.0, f64::max);
                let min = heights.fold(0.0, f64::min);
                if max == min {
                    return Scale::Linear(0.0, 1.0, 0.5);
                }
                let step = round_step((max / 3.5 - min / 3.5).max(f64::MIN_POSITIVE));
                let whole = |value: f64| (value * 1.06 / step).abs().ceil() * step;
                let (low, high) = (-whole(min), whole(max));
                if low.is_finite() && high.is_finite() {
                    Scale::Linear(low, high, step)
                } else {
                    Scale::Linear(min, max, max / 2.0 - min / 2.0)
                }
            }
        }
    }

    fn place(&self, height: f64) -> f64 {
        let share = match *self {
            Scale::Decades(low, high) if height > 0.0 => {
                (height.log10() - f64::from(low)) / f64::from(high - low)
            }
            Scale::Decades(..) => 0.0,
            // Halves, since the difference of huge numbers is infinite.
            Scale::Linear(low, high, _) => (height / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0),
        };
        BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }

    fn ticks(&self) -> Vec<Tick> {
        let tick = |height: f64, text: String| Tick {
            at: coordinate(self.place(height)),
            text,
        };
        match *self {
            Scale::Decades(low, high) => {
                let every = (high - low + 4) / 5;
                let powers = (low..=high).rev().step_by(every.max(1) as usize);
                let ticks = powers.map(|power| tick(10f64.powi(power), number::power(power)));
                ticks.collect()
            }
            Scale::Linear(low, high, step) => {
                let heights = (0..8).map(|index| low + f64::from(index) * step);
                // The last of them is there, whichever way it was rounded.
                let heights = heights.take_while(|height| *height <= high + step / 2.0);
                heights
                    .map(|height| tick(height, number::short(height)))
                    .collect()
            }
        }
    }
}

/// Values that share a point.
struct Group {
    first: usize,
    count: usize,
    worst: f64,
    range: [f64; 2],
    odd: usize,
}

impl Group {
    fn of(measure: Measure, first: usize, values: &[f64]) -> Group {
        let sane = values
            .iter()
            .copied()
            .filter(|value| sound(measure, *value));
        let min = sane.clone().fold(f64::INFINITY, f64::min);
        let max = sane.clone().fold(f64::NEG_INFINITY, f64::max);
        Group {
            first,
            count: values.len(),
            worst: match measure {
                Measure::Cosine | Measure::Margin => min,
                Measure::Error | Measure::Amount => max,
            },
            range: [min, max],
            odd: values.len() - sane.count(),
        }
    }

    fn has_value(&self) -> bool {
        self.odd < self.count
    }
}

impl Chart {
    fn new(series: &Series, scale: &Scale) -> Chart {
        let (measure, values) = (series.measure, &series.values);
        let size = values.len().div_ceil(POINTS).max(1);
        let groups: Vec<Group> = values
            .chunks(size)
            .enumerate()
            .map(|(index, values)| Group::of(measure, index * size, values))
            .collect();
        let bar = series.bar.filter(|bar| sound(measure, *bar));
        let is_beyond = |value: f64| bar.is_some_and(|bar| beyond(measure, value, bar));

        let place = |value: f64| scale.place(height(measure, value));
        let middle = |group: &Group| {
            let at = group.first as f64 + (group.count as f64 - 1.0) / 2.0;
            horizontal(at, values.len())
        };
        let mut marks = Vec::new();
        for group in &groups {
            let x = coordinate(middle(group));
            if group.odd > 0 {
                marks.push(Mark {
                    x: x.clone(),
                    y: coordinate(TOP),
                    kind: "odd",
                });
            }
            let out = group.has_value() && is_beyond(group.worst);
            if group.has_value() && (out || groups.len() <= MARKED) {
                marks.push(Mark {
                    x,
                    y: coordinate(place(group.worst)),
                    kind: match (out, measure) {
                        (false, _) => "value",
                        (true, Measure::Margin) => "unused",
                        (true, _) => "beyond",
                    },
                });
            }
        }
        let columns = groups.iter().map(|group| {
            let [from, to] = [group.first, group.first + group.count]
                .map(|edge| horizontal(edge as f64 - 0.5, values.len()).clamp(LEFT, RIGHT));
            Column {
                x: coordinate(from),
                width: coordinate(to - from),
                text: said(series, group),
            }
        });
        let columns = columns.collect();
        let out = measure != Measure::Margin && groups.iter().any(|group| is_beyond(group.worst));
        Chart {
            what: series.what.clone(),
            prompt: series.prompt.clone(),
            note: note(series, bar),
            vertical: match measure {
                Measure::Cosine => "1 − cosine",
                Measure::Margin => "logits",
                Measure::Error => "error",
                Measure::Amount => "",
            },
            axis: text::cut(series.axis.name(), AXIS),
            y_ticks: scale.ticks(),
            x_ticks: x_ticks(series),
            bar: bar.map(|bar| Bar::new(measure, bar, scale)),
            line: line(&groups, |group| (middle(group), place(group.worst))),
            span: match size {
                1 => Vec::new(),
                _ => span(&groups, |group| (middle(group), group.range.map(place))),
            },
            marks,
            columns,
            fails: out || groups.iter().any(|group| group.odd > 0),
        }
    }
}

impl Bar {
    fn new(measure: Measure, bar: f64, scale: &Scale) -> Bar {
        let at = scale.place(height(measure, bar));
        // What a margin does not reach is below; any other's beyond is above.
        let (from, height) = match measure {
            Measure::Margin => (at, BOTTOM - at),
            _ => (TOP, at - TOP),
        };
        let above = at - TOP > 16.0;
        Bar {
            at: coordinate(at),
            text: match measure {
                Measure::Cosine => {
                    let cosine = number::value(measure, bar);
                    format!("bar: cosine {}", cosine.trim_end_matches('0'))
                }
                _ => format!("bar: {}", number::short(bar)),
            },
            text_at: coordinate(if above { at - 5.0 } else { at + 13.0 }),
            from: coordinate(from),
            height: coordinate(height),
            fails: measure != Measure::Margin,
        }
    }
}

/// Lines through groups that follow each other; one without a value is a gap.
fn line(groups: &[Group], at: impl Fn(&Group) -> (f64, f64)) -> Vec<String> {
    let runs = groups.split(|group| !group.has_value());
    let pieces = runs.flat_map(|run| path(run.iter().map(&at)));
    pieces.collect()
}

/// The area between the min and the max of each group.
fn span(groups: &[Group], at: impl Fn(&Group) -> (f64, [f64; 2])) -> Vec<String> {
    let runs = groups.split(|group| !group.has_value());
    let pieces = runs.flat_map(|run| {
        let points: Vec<(f64, [f64; 2])> = run.iter().map(&at).collect();
        let there = points.iter().map(|(x, [low, _])| (*x, *low));
        let back = points.iter().rev().map(|(x, [_, high])| (*x, *high));
        let close = (!points.is_empty()).then(|| "Z".to_owned());
        path(there.chain(back)).chain(close).collect::<Vec<_>>()
    });
    pieces.collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> impl Iterator<Item = String> {
    points.enumerate().map(|(index, (x, y))| {
        let step = if index == 0 { "M" } else { "L" };
        format!("{step}{} {}", coordinate(x), coordinate(y))
    })
}

/// Where a place in the series is; a single one is in the middle.
fn horizontal(at: f64, count: usize) -> f64 {
    // Half a step of room on both sides.
    LEFT + (at + 0.5) / count.max(1) as f64 * (RIGHT - LEFT)
}

fn x_ticks(series: &Series) -> Vec<Tick> {
    let (count, step) = (series.values.len(), series.step.max(1) as f64);
    if count == 0 {
        return Vec::new();
    }
    let first = series.first as f64;
    let last = first + (count - 1) as f64 * step;
    let distance = round_step((last - first).max(1.0) / 5.0).max(step).ceil();
    let start = (first / distance).ceil() * distance;
    let numbers = (0..12).map(|index| start + f64::from(index) * distance);
    let ticks = numbers
        .take_while(|number| *number <= last)
        .map(|number| Tick {
            at: coordinate(horizontal((number - first) / step, count)),
            text: number::grouped(number),
        });
    ticks.collect()
}

/// 1, 2 or 5 times a power of ten, at least this much.
fn round_step(min: f64) -> f64 {
    let power = 10f64.powf(min.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|digit| digit * power);
    let found = steps.into_iter().find(|step| *step >= min * (1.0 - 1e-9));
    found.unwrap_or(10.0 * power)
}

/// A group in words: where it is, and its value.
fn said(series: &Series, group: &Group) -> String {
    let place = place(series, group.first, group.count);
    let value = |value| number::value(series.measure, value);
    let odd = match group.odd {
        0 => String::new(),
        _ if group.count == 1 => "not a number".to_owned(),
        odd => format!("; {odd} not a number"),
    };
    match (group.has_value(), group.count) {
        (false, _) => format!("{place}: not a number"),
        (true, 1) => format!("{place}: {}", value(group.worst)),
        (true, _) => {
            let [min, max] = group.range.map(value);
            format!("{place}: {min} to {max}{odd}")
        }
    }
}

/// `position 7`, or what a group of values stands for.
fn place(series: &Series, first: usize, count: usize) -> String {
    let number = |index: usize| {
        let at = series.first as f64 + index as f64 * series.step as f64;
        number::grouped(at)
    };
    let last = (first + count) as f64 * series.step as f64 + series.first as f64 - 1.0;
    match (count, series.step) {
        (1, 0 | 1) => format!("{} {}", series.axis, number(first)),
        _ => format!(
            "{} {} to {}",
            series.axis,
            number(first),
            number::grouped(last)
        ),
    }
}

/// The series in words: its extreme value, and how it lies to the bar.
fn note(series: &Series, bar: Option<f64>) -> String {
    let measure = series.measure;
    let values = series.values.iter().copied().enumerate();
    let sane = values.filter(|(_, value)| sound(measure, *value));
    let min = sane.clone().reduce(|a, b| if b.1 < a.1 { b } else { a });
    let max = sane.clone().reduce(|a, b| if b.1 > a.1 { b } else { a });
    let (total, odd) = (
        series.values.len(),
        series.values.len() - sane.clone().count(),
    );
    let at = |(index, value): (usize, f64)| {
        let value = number::value(measure, value);
        format!("{value} at {}", place(series, index, 1))
    };
    let out = bar.map(|bar| {
        sane.filter(|(_, value)| beyond(measure, *value, bar))
            .count()
    });
    let note = match (min, max) {
        (Some(min), Some(max)) => match measure {
            Measure::Cosine => format!("min {}", at(min)),
            Measure::Margin => format!("min {}", at(min)),
            Measure::Error => format!("max {}", at(max)),
            Measure::Amount => {
                let [min, max] = [min.1, max.1].map(|value| number::value(measure, value));
                if min == max {
                    min
                } else {
                    format!("{min} to {max}")
                }
            }
        },
        _ if total == 0 => "no values".to_owned(),
        _ => "none is a number".to_owned(),
    };
    let relied = match (measure, out, bar) {
        (Measure::Margin, Some(out), Some(bar)) => {
            let reach = total - odd - out;
            format!("; {reach} of {total} reach {}", number::short(bar))
        }
        (_, Some(out), _) if out > 0 => format!("; {out} of {total} beyond the bar"),
        _ => String::new(),
    };
    let odd = match odd {
        0 => String::new(),
        _ => format!("; {odd} of {total} not a number"),
    };
    format!("{note}{relied}{odd}")
}

fn coordinate(value: f64) -> String {
    // Not -0.0.
    format!("{:.1}", value + 0.0)
}
