//! The part of the API that is written in Rhai: `stdlib/*.rhai`, embedded and registered as global functions.

use rhai::{Engine, Module, Scope};

include!(concat!(env!("OUT_DIR"), "/stdlib.rs"));

/// Makes the functions of every embedded module available everywhere. A module that does not compile is a defect
/// that the tests catch; it is left out rather than taking the program down.
pub(super) fn register(engine: &mut Engine) {
    for (_, text) in MODULES {
        let module =
            engine.compile(*text).ok().and_then(|ast| Module::eval_ast_as_new(Scope::new(), &ast, engine).ok());
        if let Some(module) = module {
            engine.register_global_module(module.into());
        }
    }
}

/// The embedded modules, for the tests and `llmore docs`.
pub fn modules() -> &'static [(&'static str, &'static str)] {
    MODULES
}
