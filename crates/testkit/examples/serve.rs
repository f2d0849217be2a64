//! Serves folders as repositories on loopback: `serve ID=FOLDER …`.

use std::path::Path;
use testkit::hub::{Server, TOKEN};

fn main() -> std::io::Result<()> {
    let server = Server::start()?;
    for argument in std::env::args().skip(1) {
        if let Some((id, folder)) = argument.split_once('=') {
            server.add(id, Path::new(folder))?;
        }
    }
    println!("HF_ENDPOINT={} HF_TOKEN={TOKEN}", server.endpoint());
    loop {
        std::thread::park();
    }
}
