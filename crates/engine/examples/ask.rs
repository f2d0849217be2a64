//! Opens a bundle and asks it a question.
//!
//!     cargo run --release -p engine --example ask -- BUNDLE QUESTION [PICTURE]

use std::{error::Error, io::Write, ops::ControlFlow, path::Path};

use candle_core::Device;
use engine::{Conversation, Event, Limits, Model, Options, Sampler};
use picture::Image;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, question, pictures @ ..] = &args[..] else {
        return Err("usage: ask BUNDLE QUESTION [PICTURE]".into());
    };
    let pictures = pictures.iter().map(|path| Image::load(Path::new(path)));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let model = Model::open(bundle, Options::new(Device::Cpu))?;
    let mut session = model.session();
    let answer = session.answer(
        &Conversation::question(question, pictures),
        &mut Sampler::greedy(),
        Limits::new(256),
        |event| {
            if let Event::Token { text, .. } | Event::Rest { text } = event {
                print!("{text}");
                // A line that is not complete is not shown by itself.
                if std::io::stdout().flush().is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    println!();
    let timings = answer.timings;
    eprintln!(
        "{} tokens of prompt, first token after {:.2?}; {} tokens, {:?}",
        timings.prompt_tokens,
        timings.first,
        answer.tokens.len(),
        answer.finish
    );
    Ok(())
}
