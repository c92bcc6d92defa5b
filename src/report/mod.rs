//! Reports: a run folder, a results file or a study folder as one page (`show/page`). Everything is read from files, so a
//! report can be made of what another machine computed; the report says what is missing instead of guessing it.

mod answers;
mod maps;
mod results;
mod run;
mod study;

use std::path::{Path, PathBuf};

use crate::error;
use crate::error::{Error, Result};
use crate::eval::{Benchmark, BenchmarkOptions, Results};
use crate::files::{self, RUN_LOCK};
use crate::preset::Presets;
use crate::show::page::Page;
use crate::study::RECORD;
use crate::train::Run;
use crate::vlm::Vlm;

/// What a report needs beside the folder.
#[derive(Clone)]
pub struct ReportOptions<'a> {
    /// Finds benchmarks and models by id.
    pub presets: &'a Presets,
    /// The data set with the pictures of a benchmark's questions, for a benchmark without data of its own.
    pub data: Option<PathBuf>,
    /// The number of questions of a gallery that get a feature map and an attention map, where their model can be opened.
    pub maps: usize,
}

/// The default number of questions that get maps.
pub const MAPS: usize = 8;

/// The page of a run folder, a study folder or a results file.
///
/// # Errors
/// `Usage` when it is none of these, else the error of reading it.
pub fn page_of(path: &Path, options: &ReportOptions) -> Result<Page> {
    if path.join(RECORD).is_file() {
        return study::page(path, options);
    }
    if path.join(RUN_LOCK).is_file() {
        return run::page(&Run::open(path)?, options);
    }
    if path.is_file() {
        let results = Results::open(path).map_err(|error| error.context("this is not a results file"))?;
        return page_of_results(&results, None, None, options);
    }
    if path.exists() {
        return Err(error!(Usage, "`{}` is no run, no study and no results file", path.display())
            .help("a run folder has a run.lock, a study folder a study.toml, `res.save(path)` writes a results file"));
    }
    Err(Error::file(path, std::io::ErrorKind::NotFound.into()))
}

/// The page of results in memory. Their benchmark is opened by its id unless it is given; maps need the model that
/// answered.
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

/// Writes a page atomically; missing folders are created.
pub fn write(page: &Page, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        crate::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    }
    let html = page.html()?;
    files::write(path, &html)
}

/// The benchmark that the results are about, for its pictures.
fn open_benchmark(results: &Results, options: &ReportOptions) -> Result<Benchmark> {
    let data = options.data.clone();
    Benchmark::open(options.presets, &results.benchmark, &BenchmarkOptions { data, ..BenchmarkOptions::default() })
}

/// The name of a folder, for a title.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
