//! The `llmore` program.

/// So that plans count what tensors take.
#[global_allocator]
static ALLOCATOR: llmore::memory::Counting = llmore::memory::Counting;

fn main() -> std::process::ExitCode {
    llmore::cli::main()
}
