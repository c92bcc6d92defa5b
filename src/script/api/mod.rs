//! The functions scripts call, one module per topic. A docstring is the help text; its example is run by a test.
//! Getters take `&mut` because Rhai hands properties over that way; everything else takes handles by value, so that
//! a closure may capture its own receiver.

mod ask;
mod build;
mod data;
mod encoder;
mod eval;
mod findings;
mod inspect;
mod llm;
mod look;
mod model;
mod plan;
mod report;
mod results;
mod run;
mod sampling;
mod session;
mod study;
mod tensor;
mod text;
mod train;

use rhai::{Engine, EvalAltResult, exported_module};

pub(super) use look::show_value as show;

/// What fallible API functions return.
pub(super) type Fallible<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Registers every module.
pub(super) fn register(engine: &mut Engine) {
    let modules = [
        exported_module!(build::build),
        exported_module!(encoder::encoder),
        exported_module!(llm::llm),
        exported_module!(text::text),
        exported_module!(model::model),
        exported_module!(ask::ask),
        exported_module!(data::data),
        exported_module!(inspect::inspect),
        exported_module!(train::train),
        exported_module!(plan::planning),
        exported_module!(run::runs),
        exported_module!(eval::evaluation),
        exported_module!(results::results),
        exported_module!(report::reports),
        exported_module!(study::study),
        exported_module!(look::look),
        exported_module!(tensor::tensor),
        exported_module!(session::session),
    ];
    for module in modules {
        engine.register_global_module(module.into());
    }
}
