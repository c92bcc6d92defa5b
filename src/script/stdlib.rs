//! The part of the API that is written in Rhai: `stdlib/*.rhai`, embedded and registered as global functions.

use rhai::{Engine, Module, Scope};

include!(concat!(env!("OUT_DIR"), "/stdlib.rs"));

/// Makes the functions of every embedded module available everywhere. A module that does not compile is a defect
/// that the tests catch; it is left out rather than taking the program down.
pub(super) fn register(engine: &mut Engine) {
    for (name, text) in MODULES {
        let module = engine.compile(*text).ok().and_then(|mut ast| {
            ast.set_source(file(name));
            Module::eval_ast_as_new(Scope::new(), &ast, engine).ok()
        });
        if let Some(module) = module {
            engine.register_global_module(module.into());
        }
    }
}

/// What errors call an embedded module.
fn file(name: &str) -> String {
    format!("stdlib/{name}.rhai")
}

/// The text of the embedded module that errors call by this name.
pub(super) fn text(name: &str) -> Option<&'static str> {
    MODULES.iter().find(|(module, _)| file(module) == name).map(|(_, text)| *text)
}

/// The embedded modules, for the tests and `llmore docs`.
pub fn modules() -> &'static [(&'static str, &'static str)] {
    MODULES
}
