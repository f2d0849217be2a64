//! `chat`: a conversation on the terminal.

use crate::answer::{Answering, SamplingArgs, Work, figures, open};
use crate::bundles::BundleArgs;
use crate::device::Device;
use anyhow::{Context, Result, bail};
use engine::{Conversation, FinishReason, Role, Turn};
use picture::Image;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What may be typed in place of a message.
const HELP: &str = "/image FILE  adds a picture to the next message
/clear       begins again
/help        shows this
/quit        ends, as the end of the input does";

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Flags of `chat`.
#[derive(clap::Args)]
pub struct Args {
    /// A picture for the first message, PNG or JPEG; may be given several times
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Instructions that hold for the whole conversation
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    choice: BundleArgs,
    /// Where to run it
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Image(&'a str),
    Clear,
    Help,
    Quit,
    Unknown(&'a str),
    Message(&'a str),
    Empty,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Self::Empty,
            "/image" => Self::Image(rest.trim()),
            "/clear" => Self::Clear,
            "/help" => Self::Help,
            "/quit" | "/exit" => Self::Quit,
            _ if word.starts_with('/') => Self::Unknown(word),
            _ => Self::Message(line),
        }
    }
}

/// Answers line after line: answers go to standard output, everything else to
/// standard error. What was read stays in the cache.
pub fn run(args: Args) -> Result<()> {
    let mut answering = Answering::new(&args.sampling)?;
    let mut pictures = args
        .images
        .iter()
        .map(|path| Image::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    let bundle = args.choice.find()?;
    let work = Work::begin(&format!("loading {}", bundle.name));
    let model = open(&bundle, args.device)?;
    work.end();
    let mut session = model.session();
    let mut talk = begin(args.system.as_deref());
    let input = std::io::stdin();
    let is_terminal = input.is_terminal();
    if is_terminal {
        eprintln!("{} on {}; /help shows commands", bundle.name, args.device);
    }
    loop {
        if is_terminal {
            eprint!("> ");
            std::io::stderr().flush()?;
        }
        let mut line = String::new();
        let mut limited = std::io::Read::take(input.lock(), MAX_LINE);
        let count = limited.read_line(&mut line).context("standard input")?;
        if count == 0 {
            return Ok(());
        }
        match Line::parse(&line) {
            Line::Empty => {}
            Line::Quit => return Ok(()),
            Line::Help => eprintln!("{HELP}"),
            Line::Unknown(word) => wrong(is_terminal, format!("{word} is not a command\n{HELP}"))?,
            Line::Clear => {
                talk = begin(args.system.as_deref());
                pictures.clear();
            }
            Line::Image("") => wrong(is_terminal, "/image needs a file".to_owned())?,
            Line::Image(file) => match Image::load(Path::new(file)) {
                Ok(image) => pictures.push(image),
                Err(error) => wrong(is_terminal, error.to_string())?,
            },
            Line::Message(message) => {
                let before = talk.turns.len();
                let mut turn = Turn::new(Role::User, message);
                turn.pictures = std::mem::take(&mut pictures);
                talk.turns.push(turn);
                let work = Work::begin("reading the prompt");
                answering.forget_interrupt();
                match answering.answer(&mut session, &talk, &work) {
                    Ok(answer) => {
                        if is_terminal {
                            eprintln!("{}", figures(&answer));
                        }
                        if let Some(why) = answering.cut_off(&answer, &model) {
                            eprintln!("{why}");
                        }
                        if answer.finish == FinishReason::ContextFull {
                            eprintln!("/clear begins again");
                        }
                        let text = answer.text.trim();
                        talk.turns.push(Turn::new(Role::Assistant, text));
                    }
                    // At a terminal, the conversation goes on without the message; its
                    // pictures are those of the next one.
                    Err(error) => {
                        wrong(is_terminal, format!("{error:#}"))?;
                        let turn = talk.turns.drain(before..).next();
                        pictures = turn.map_or_else(Vec::new, |turn| turn.pictures);
                    }
                }
            }
        }
    }
}

/// Tells of something wrong at a terminal, where another line may follow, and ends
/// the conversation elsewhere.
fn wrong(is_terminal: bool, problem: String) -> Result<()> {
    if !is_terminal {
        bail!(problem);
    }
    eprintln!("error: {problem}");
    Ok(())
}

fn begin(system: Option<&str>) -> Conversation<Image> {
    let turns = system.map(|text| Turn::new(Role::System, text));
    Conversation {
        turns: turns.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, expected) in [
            ("", Line::Empty),
            ("  \n", Line::Empty),
            ("what is it ?\n", Line::Message("what is it ?")),
            ("/image a b.png\n", Line::Image("a b.png")),
            ("/image", Line::Image("")),
            ("/clear", Line::Clear),
            ("/quit\r\n", Line::Quit),
            ("/nothing here", Line::Unknown("/nothing")),
            ("1/2 ?", Line::Message("1/2 ?")),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
