//! The command line's arguments.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

/// A laboratory for LLaVA-style multimodal LLMs.
#[derive(Parser)]
#[command(name = "llmore", version = crate::build::ABOUT, about, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Evaluate an expression and print its value
    #[arg(short = 'c', value_name = "EXPRESSION")]
    pub code: Option<String>,
    /// Override an option of every trainer, or `limit`, or `smoke=true`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print tables as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    // Last: the heading of its help goes on to what follows.
    #[command(flatten)]
    pub guard: GuardArgs,
}

/// Limits of an evaluation in the sandbox: seconds, MiB, operations.
pub(super) const TIME: u64 = 600;
pub(super) const MEMORY: u64 = 4096;
pub(super) const OPERATIONS: u64 = 100_000_000;

/// What scripts of strangers may do.
#[derive(clap::Args)]
#[command(next_help_heading = "Scripts of strangers")]
pub(super) struct GuardArgs {
    /// Read nothing but the script, `runs/` and what --allow names, write below `runs/` only, use no network, start no program,
    /// and keep to limits: those below, calls 64 deep, texts of 64 MiB, arrays and maps of 1,048,576 entries
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// A folder, or a file, that the sandbox lets a script read; may be given again
    #[arg(long, global = true, value_name = "FOLDER")]
    pub allow: Vec<PathBuf>,
    /// How long a script, or a line at the prompt, may take in the sandbox [default: 600]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: Option<u64>,
    /// How much memory it may take [default: 4096]
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory_limit: Option<u64>,
    /// How many operations of the script language it may take [default: 100000000]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations_limit: Option<u64>,
}

const EXAMPLES: &str = "Examples:
  llmore run scripts/quickstart.rhai                   train, evaluate and plot a small LLaVA
  llmore run scripts/quickstart.rhai --set smoke=true  the same in two steps
  llmore -c 'encoder(\"tiny-clip\").tokens'              evaluate an expression
  llmore run theirs.rhai --sandbox --allow data        run a script of somebody else's
  llmore repl                                          explore
  llmore docs trainer                                  help on a function

Exit codes: 0 ok, 1 script error, 2 usage, 3 does not fit
            99   stopped by SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2, unfinished and saved: run it again
            130  interrupted by Ctrl-C and saved
            141  nobody reads the output any more (`| head`): stopped and saved";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run a script
    Run {
        script: PathBuf,
        /// Override an option of every trainer, or `limit`, or `smoke=true`
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Arguments of the script, `args` in it
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Parse a script without running it
    Check { script: PathBuf },
    /// Explore interactively
    Repl {
        /// A script to run first
        file: Option<PathBuf>,
    },
    /// List models, data sets, benchmarks, recipes or runs
    Ls { what: Listing },
    /// Follow a run, or the runs of a study: progress now, loss curves at the end
    Watch { run: PathBuf },
    /// Run the script of a run, a study or a study's cell again, in a folder of its own, and compare losses, weights and
    /// answers (exit code 1 when they differ, or nothing could be compared); refuses when the outcome could not be the same
    Rerun { run: PathBuf },
    /// Check whether what a run was made from and what it wrote is unchanged: files of the run, data, pictures, base
    /// weights (exit code 1 when something changed)
    Verify { run: PathBuf },
    /// The differences of two runs, or two studies: options, data, script, losses, weights (exit code 1 when losses or weights
    /// differ)
    Diff { a: PathBuf, b: PathBuf },
    /// A run, a study or a results file as one HTML page: curves, tables, answers with pictures
    Report {
        path: PathBuf,
        /// The file to write; by default `report.html` in the folder, or beside the results file
        #[arg(long, short)]
        out: Option<PathBuf>,
        /// The data set with the pictures of a benchmark's questions, for a benchmark without data of its own
        #[arg(long)]
        data: Option<PathBuf>,
        /// How many questions of a gallery get a feature map and an attention map; 0 opens no model
        #[arg(long, default_value_t = crate::report::MAPS)]
        maps: usize,
        /// Replace a file that llmore did not write, or that was changed since
        #[arg(long)]
        overwrite: bool,
    },
    /// Facts about this machine and this build, and possible problems
    Doctor,
    /// A completion script for a shell: `llmore completions bash > ~/.local/share/bash-completion/completions/llmore`
    Completions { shell: clap_complete::Shell },
    /// Help on a function, or the whole script reference
    Docs {
        topic: Option<String>,
        /// The reference page as Markdown
        #[arg(long)]
        markdown: bool,
    },
}

impl Command {
    /// Whether nothing is lost when the reader of its output stops reading.
    pub(super) fn only_prints(&self) -> bool {
        use Command::{Check, Completions, Diff, Docs, Doctor, Ls, Verify, Watch};
        matches!(
            self,
            Check { .. }
                | Completions { .. }
                | Diff { .. }
                | Docs { .. }
                | Doctor
                | Ls { .. }
                | Verify { .. }
                | Watch { .. }
        )
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Listing {
    Models,
    Datasets,
    Benchmarks,
    Recipes,
    Runs,
}

/// Prints the completion script of a shell.
pub(super) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Args::command(), "llmore", &mut std::io::stdout());
}

/// The help text.
pub(super) fn help() -> String {
    Args::command().render_help().to_string()
}
