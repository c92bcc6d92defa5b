//! The `llmore` program.

fn main() -> std::process::ExitCode {
    llmore::cli::main()
}
