//! Reports: a run folder, a results file or a study folder as one page (`show/page`). Everything is read from files, so a
//! report can be made of what another machine computed; what is missing is said, not guessed.

mod answers;
mod maps;
mod results;
mod run;
mod study;

use std::path::{Path, PathBuf};

use crate::error;
use crate::error::{Error, Result};
use crate::eval::{Benchmark, BenchmarkOptions, Results};
use crate::preset::Presets;
use crate::show::page::Page;
use crate::study::RECORD;
use crate::train::Run;
use crate::vlm::Vlm;
use crate::weights::write_atomically;

/// What belongs to a report beside the folder.
#[derive(Clone)]
pub struct ReportOptions<'a> {
    /// Where benchmarks and models are found.
    pub presets: &'a Presets,
    /// The data of a benchmark that does not bring its own: its questions have the pictures.
    pub data: Option<PathBuf>,
    /// Questions of a gallery that get a feature map and an attention map, where their model can be opened.
    pub maps: usize,
}

/// Questions that get maps unless told otherwise.
pub const MAPS: usize = 8;

/// The page of a run folder, a study folder or a results file.
///
/// # Errors
/// `Usage` when it is none of these; what reading it gives.
pub fn page_of(path: &Path, options: &ReportOptions) -> Result<Page> {
    if path.join(RECORD).is_file() {
        return study::page(path, options);
    }
    if path.join("run.lock").is_file() {
        return run::page(&Run::open(path)?, options);
    }
    if path.is_file() {
        let results = Results::open(path).map_err(|error| error.context("this is not a results file"))?;
        return page_of_results(&results, None, None, options);
    }
    if path.exists() {
        return Err(error!(Usage, "`{}` is no run, no study and no results file", path.display())
            .help("a run folder has a run.lock, a study folder a study.toml, a results file is `res.save(path)`'s"));
    }
    Err(Error::file(path, std::io::ErrorKind::NotFound.into()))
}

/// The page of results in memory. The benchmark they are of is opened by its id unless it is given; with the model that
/// answered there are maps.
pub fn page_of_results(
    results: &Results,
    benchmark: Option<&Benchmark>,
    model: Option<&Vlm>,
    options: &ReportOptions,
) -> Result<Page> {
    let opened = match benchmark {
        Some(benchmark) => Ok(benchmark.clone()),
        None => open_benchmark(results, options),
    };
    results::page(results, opened.as_ref(), model, options)
}

/// Writes a page under a temporary name first; missing folders are made.
pub fn write(page: &Page, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    }
    let html = page.html()?;
    write_atomically(path, |file| std::fs::write(file, &html).map_err(|error| Error::file(file, error)))
}

/// The benchmark of some results, for its pictures.
fn open_benchmark(results: &Results, options: &ReportOptions) -> Result<Benchmark> {
    let data = options.data.clone();
    Benchmark::open(options.presets, &results.benchmark, &BenchmarkOptions { data, ..BenchmarkOptions::default() })
}

/// The name of a folder, for a title.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
