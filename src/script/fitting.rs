//! What of a script's wishes a session can honor. In a smoke run the parts are stand-ins, and options that they cannot honor
//! give way to what they can (`smoke.rs`); elsewhere everything is as the script says, which is what the methods here do. A
//! script function hands its wishes through [`Fitting`] and knows of no kind of session.

use rhai::{Dynamic, Map};
use toml::Table;

use crate::data::{Dataset, Sample};
use crate::device;
use crate::error::Result;
use crate::eval::{Benchmark, Choices, Results, Rules};
use crate::models::registry::Target;
use crate::text::{Template, Tokenizer};
use crate::vlm::{EncoderOptions, Llm, Looking, Vlm};
use crate::weights::Quantize;

/// What the parts of a session can honor.
pub(super) trait Fitting: Send + Sync {
    /// The dtype and the device of these names.
    fn target(&self, dtype: &str, device: &str) -> Result<Target> {
        Ok(Target { dtype: device::dtype(dtype)?, device: device::device(device)?, quantize: None })
    }

    /// How weights are quantized.
    fn quantize(&self, wanted: Option<Quantize>) -> Option<Quantize> {
        wanted
    }

    /// Changes options of an encoder that is opened as `opened` to what it has.
    fn encoder(&self, opened: &str, options: &mut EncoderOptions) -> Result<()> {
        let _ = (opened, options);
        Ok(())
    }

    /// The kind of projector.
    fn projector<'a>(&self, name: &'a str) -> &'a str {
        name
    }

    /// Visual tokens after pooling.
    fn pooled(&self, wanted: usize) -> usize {
        wanted
    }

    /// The template an option names; `None` is the model's own. The tokenizer is opened only where it matters.
    fn template(&self, name: Option<String>, tokenizer: &dyn Fn() -> Option<Tokenizer>) -> Result<Option<String>> {
        let _ = tokenizer;
        Ok(name)
    }

    /// The template a text is rendered by.
    fn writable(&self, template: Template, tokenizer: &Tokenizer) -> Result<Template> {
        let _ = tokenizer;
        Ok(template)
    }

    /// How many questions of a benchmark are asked, of those the script wants.
    fn questions(&self, wanted: Option<usize>) -> Option<usize> {
        wanted
    }

    /// How many tokens an answer may have.
    fn new_tokens(&self, wanted: usize) -> usize {
        wanted
    }

    /// Changes options of a trainer to what these LLMs can honor.
    fn training(&self, options: &mut Table, llms: &[&Llm]) -> Result<()> {
        let _ = (options, llms);
        Ok(())
    }

    /// The same for the LLMs of a study, by their ids.
    fn stages(&self, options: &mut Table, llms: &[String]) -> Result<()> {
        let _ = (options, llms);
        Ok(())
    }

    /// Leaves the template of a recipe out where the script chose another one for the model.
    fn recipe_template(&self, options: &mut Table, vlm: &Vlm) {
        let _ = (options, vlm);
    }

    /// Samples of a data set that was opened in place of the one the script names.
    fn samples(&self, data: Dataset) -> Dataset {
        data
    }

    /// Data to train on.
    fn trainable(&self, template: &Template, data: Dataset) -> Result<Dataset> {
        let _ = template;
        Ok(data)
    }

    /// A picture in place of one that is missing.
    fn picture(&self) -> Result<Option<Sample>> {
        Ok(None)
    }

    /// How a choice is made.
    fn choices(&self, choices: Choices, benchmark: &Benchmark) -> Choices {
        let _ = benchmark;
        choices
    }

    /// The rules outputs are read by.
    fn rules(&self, rules: Rules, results: &Results) -> Rules {
        let _ = results;
        rules
    }

    /// Outputs in item order for questions that are others than the script has predictions for.
    fn outputs(&self, benchmark: &Benchmark, predictions: &Dynamic) -> Option<Vec<String>> {
        let _ = (benchmark, predictions);
        None
    }

    /// Adds metrics that a script may read and these results lack.
    fn metrics(&self, metrics: &mut Map, score: f64) {
        let _ = (metrics, score);
    }

    /// Where attention is looked at, in an LLM of so many layers.
    fn looking(&self, wanted: Looking, layers: usize) -> Looking {
        let _ = layers;
        wanted
    }

    /// Whether bars take the place of a radar chart with so many axes.
    fn is_flat(&self, axes: usize) -> bool {
        let _ = axes;
        false
    }
}

/// Everything is as the script says.
pub(super) struct AsWritten;

impl Fitting for AsWritten {}
