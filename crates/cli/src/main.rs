//! The program `aimodel`; the library has it all.

fn main() -> std::process::ExitCode {
    aimodel_cli::run()
}
