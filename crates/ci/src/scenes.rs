//! Pictures that nano never saw, asked about through `ask`.
//!
//! The scenes are those of oracles/nano/scenes.py, which says how they are laid
//! out and drawn; here is the same in integers. That it is the same, the
//! committed pictures show, to the bit.

use super::{nano, outcome::Outcome};
use crate::repo;
use ::engine::{Conversation, Limits, Sampler};
use aimodel_cli::Refused;
use aimodel_cli::answer;
use aimodel_cli::bundles::BundleArgs;
use aimodel_cli::device::Device;
use anyhow::{Context, Result, ensure};
use picture::Image;
use serde_json::Value;
use std::ops::ControlFlow;

/// The first seed of the scenes that nothing was trained on or tuned with.
const UNSEEN: u64 = 2_000_000_000;
/// How many are asked about, and how many answers must be right.
const ASKED: u64 = 100;
const RIGHT: usize = 99;

const SIDE: i32 = 128;
const CENTRES: [i32; 3] = [21, 64, 107];
const SHAPES: [&str; 6] = ["circle", "square", "triangle", "diamond", "cross", "ring"];
const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [220, 40, 40]),
    ("green", [40, 160, 60]),
    ("blue", [40, 80, 220]),
    ("yellow", [240, 210, 40]),
    ("purple", [140, 60, 180]),
    ("orange", [245, 130, 30]),
];
const BACKGROUNDS: [(&str, [u8; 3]); 3] =
    [("white", [255; 3]), ("gray", [128; 3]), ("black", [0; 3])];
const PLACES: [&str; 9] = [
    "top left",
    "top center",
    "top right",
    "middle left",
    "center",
    "middle right",
    "bottom left",
    "bottom center",
    "bottom right",
];
const QUESTIONS: [&str; 5] = [
    "what is in the image ?",
    "describe the image .",
    "what do you see ?",
    "look at the image . what is in the image ?",
    "this is a drawn scene . describe the image .",
];

/// Runs the step.
pub fn run() -> Outcome {
    let committed = committed()?;
    let mut told = Vec::new();
    for (query, layout) in [(Some("s1"), "pipelined"), (None, "vlm")] {
        told.push(format!("{layout}: {}", unseen(query, layout)?));
    }
    Ok(format!(
        "{}; {committed} committed pictures drawn again",
        told.join(", ")
    ))
}

/// What a bundle answers about pictures that nano never saw.
fn unseen(query: Option<&str>, layout: &str) -> Result<String> {
    let choice = BundleArgs {
        exports: nano::folder()?.join("int8hu"),
        model: Some("nano".to_owned()),
        mode: None,
        query: query.map(str::to_owned),
        bundle: Some(layout.to_owned()),
    };
    let model = answer::open(&choice.find()?, Device::Cpu)?;
    let (mut right, mut wrong) = (0, Vec::new());
    for seed in UNSEEN..UNSEEN + ASKED {
        let scene = Scene::of_seed(seed);
        let question = QUESTIONS[seed as usize % QUESTIONS.len()];
        let answer = model.session().answer(
            &Conversation::question(question, [scene.draw()?]),
            &mut Sampler::greedy(),
            Limits::new(64),
            |_| ControlFlow::Continue(()),
        )?;
        let (found, expected) = (answer.text.trim(), scene.caption());
        if found == expected {
            right += 1;
        } else {
            wrong.push(format!("seed {seed}: {found:?}, expected {expected:?}"));
        }
    }
    let found = format!("{right} of {ASKED} right");
    if right < RIGHT {
        let wrong = wrong.join("\n");
        return Err(Refused(format!("{found}, expected at least {RIGHT}:\n{wrong}")).into());
    }
    let wrong: String = wrong.iter().map(|wrong| format!("; {wrong}")).collect();
    Ok(format!("{found}{wrong}"))
}

/// Draws the committed pictures again, and compares them and their captions.
fn committed() -> Result<usize> {
    let path = repo::scenes().join("scenes.json");
    let list: Value = serde_json::from_slice(&std::fs::read(&path)?)
        .with_context(|| format!("{} is no JSON", path.display()))?;
    let mut count = 0;
    for entry in list["prompts"].as_array().into_iter().flatten() {
        let (Some(file), Some(seed)) = (entry["image"].as_str(), entry["seed"].as_u64()) else {
            continue;
        };
        let scene = Scene::of_seed(seed);
        let drawn = scene.draw()? == Image::load(&repo::scenes().join(file))?;
        ensure!(
            drawn && entry["answer"] == scene.caption(),
            "{file} is not what seed {seed} gives: scenes.rs and scenes.py differ"
        );
        count += 1;
    }
    ensure!(count > 0, "{} has no pictures", path.display());
    Ok(count)
}

/// The generator of every draw.
struct SplitMix64(u64);

impl SplitMix64 {
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0 .. n.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (((Self::mix(self.0) >> 32) * n as u64) >> 32) as usize
    }
}

/// A shape: what, where, and how large, in pixels.
struct Item {
    place: usize,
    shape: usize,
    colour: usize,
    x: i32,
    y: i32,
    radius: i32,
}

struct Scene {
    background: usize,
    /// In reading order.
    items: Vec<Item>,
}

impl Scene {
    /// The scene of a seed that is not one of training.
    fn of_seed(seed: u64) -> Scene {
        let mut random = SplitMix64(seed);
        loop {
            let scene = Scene::draw_layout(&mut random);
            if scene.is_held_out() {
                return scene;
            }
        }
    }

    fn draw_layout(random: &mut SplitMix64) -> Scene {
        let background = random.below(BACKGROUNDS.len());
        let mut free: Vec<usize> = (0..PLACES.len()).collect();
        let count = 1 + random.below(3);
        let mut places: Vec<usize> = (0..count)
            .map(|_| free.remove(random.below(free.len())))
            .collect();
        places.sort_unstable();
        let items = places.into_iter().map(|place| {
            let (shape, colour) = (random.below(SHAPES.len()), random.below(COLOURS.len()));
            let mut near = |centre: i32| centre + random.below(9) as i32 - 4;
            let (x, y) = (near(CENTRES[place % 3]), near(CENTRES[place / 3]));
            Item {
                place,
                shape,
                colour,
                x,
                y,
                radius: 12 + random.below(6) as i32,
            }
        });
        Scene {
            background,
            items: items.collect(),
        }
    }

    /// Whether a layout was kept from training: one in eight is, by a digest.
    fn is_held_out(&self) -> bool {
        let mut digest = self.background as u64;
        for item in &self.items {
            let places = [item.place, item.shape, item.colour].map(|index| index as u64);
            let pixels = [item.x, item.y, item.radius].map(|pixels| pixels as u64);
            for value in places.into_iter().chain(pixels) {
                digest = digest.wrapping_mul(1009).wrapping_add(value + 1);
                digest = SplitMix64::mix(digest);
            }
        }
        digest.is_multiple_of(8)
    }

    fn draw(&self) -> Result<Image> {
        let side = SIDE as usize;
        let mut rgb = BACKGROUNDS[self.background].1.repeat(side * side);
        for item in &self.items {
            for y in item.y - item.radius..item.y + item.radius {
                for x in item.x - item.radius..item.x + item.radius {
                    let inside = item.samples(x, y);
                    let at = 3 * (y * SIDE + x) as usize;
                    for (level, colour) in rgb[at..at + 3].iter_mut().zip(COLOURS[item.colour].1) {
                        let mixed = inside * u32::from(colour) + (16 - inside) * u32::from(*level);
                        *level = ((mixed + 8) / 16) as u8;
                    }
                }
            }
        }
        Image::from_rgb(side, side, rgb).context("a scene has pixels")
    }

    fn caption(&self) -> String {
        let items: Vec<String> = self.items.iter().map(Item::words).collect();
        let listed = match &items[..] {
            [.., _, _] => {
                let (last, first) = (&items[items.len() - 1], &items[..items.len() - 1]);
                format!("{} and {last}", first.join(" , "))
            }
            few => few.concat(),
        };
        let background = BACKGROUNDS[self.background].0;
        format!("the image shows {listed} on a {background} background .")
    }
}

impl Item {
    fn words(&self) -> String {
        let colour = COLOURS[self.colour].0;
        let article = match colour {
            "orange" => "an",
            _ => "a",
        };
        let (shape, place) = (SHAPES[self.shape], PLACES[self.place]);
        format!("{article} {colour} {shape} in the {place}")
    }

    /// How many of a pixel's 16 samples are inside the shape.
    fn samples(&self, x: i32, y: i32) -> u32 {
        let r = 8 * self.radius;
        let inside = |u: i32, v: i32| {
            let (long, short) = (u.abs().max(v.abs()), u.abs().min(v.abs()));
            let square = u * u + v * v;
            match SHAPES[self.shape] {
                "circle" => square <= r * r,
                "ring" => r * r <= 4 * square && square <= r * r,
                "square" => 20 * long <= 17 * r,
                "diamond" => long + short <= r,
                "triangle" => v.abs() <= r && 2 * u.abs() <= v + r,
                _ => 3 * short <= r && long <= r,
            }
        };
        // In eighths of a pixel from the centre, at odd eighths.
        let offsets = |pixel: i32, centre: i32| {
            let first = 8 * (pixel - centre) + 1;
            [first, first + 2, first + 4, first + 6]
        };
        let (us, vs) = (offsets(x, self.x), offsets(y, self.y));
        let samples = us.iter().flat_map(|u| vs.iter().map(move |v| (*u, *v)));
        samples.filter(|(u, v)| inside(*u, *v)).count() as u32
    }
}
