//! A session: one engine, one scope, one state. What is evaluated stays (variables and functions), so a script, a
//! REPL line and a notebook cell are the same thing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rhai::{AST, Dynamic, Engine, EvalAltResult, Module, OptimizationLevel, Scope};

use super::error::{Exit, ScriptError};
use super::imports::{self, Imports, plain_text};
use super::printed_error::{Report, Sources, report};
use super::state::{SessionOptions, State};
use super::{api, docs, handles, stdlib};
use crate::events::Interrupt;
use crate::sandbox;

/// Depth of nested expressions; Rhai's own default differs between debug and release builds.
const EXPRESSION_DEPTH: usize = 128;
const CALL_DEPTH: usize = 64;
/// In the sandbox: bytes of a text, or of all texts in a value, and entries of an array, a map, a scope.
const TEXT: usize = 64 << 20;
const ENTRIES: usize = 1 << 20;
const VARIABLES: usize = 10_000;
const MODULES: usize = 100;
/// How often a sleeping script looks whether it is to end.
const NAP: Duration = Duration::from_millis(10);
/// Any four numbers.
const HASHING: [u64; 4] = [2503, 15621, 336, 576];

/// How an evaluation ended when it did not fail.
#[derive(Debug)]
pub enum Outcome {
    /// The last expression's value; `()` when there is none.
    Value(Dynamic),
    /// `exit(code)`.
    Exit(i32),
}

/// An engine with everything registered and what was evaluated so far.
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    functions: AST,
    state: State,
}

impl Session {
    /// A fresh session.
    pub fn new(options: SessionOptions) -> Self {
        let state = State::new(options);
        // The names of nameless functions are hashes: with this they are the same in every process (`api/train.rs` goes by
        // them). That an earlier session has set it is no error.
        let _ = rhai::config::hashing::set_hashing_seed(Some(HASHING));
        let mut engine = Engine::new();
        engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
        engine.set_max_call_levels(CALL_DEPTH);
        engine.set_optimization_level(OptimizationLevel::None);
        engine.set_strict_variables(true);
        engine.set_fail_on_invalid_map_property(true);
        engine.set_default_tag(Dynamic::from(state.clone()));
        let (out, debug) = (state.clone(), state.clone());
        engine.on_print(move |text| out.output().text(text));
        engine.on_debug(move |text, _, position| debug.output().text(&format!("{position} {text}")));
        let interrupt = state.interrupt().clone();
        engine.on_progress(move |_| {
            let why =
                || sandbox::exceeded().map_or("interrupted".into(), |error| Dynamic::from(ScriptError::from(error)));
            interrupt.is_set().then(why)
        });
        if let Some(limits) = sandbox::limits() {
            limit(&mut engine, limits, state.interrupt().clone());
        }

        hand_out_captured_handles(&mut engine);
        handles::register(&mut engine);
        api::register(&mut engine);
        // Functions find `args` in the module, the strict parser finds it in the scope.
        let args: rhai::Array = state.args().iter().map(|arg| Dynamic::from(arg.clone())).collect();
        let mut globals = Module::new();
        globals.set_var("args", args.clone());
        engine.register_global_module(globals.into());
        let mut scope = Scope::new();
        scope.push_constant("args", args);
        engine.set_module_resolver(state.imports().clone());
        stdlib::register(&mut engine);
        Session { engine, scope, functions: AST::empty(), state }
    }

    /// Evaluates a text; `name` is what errors call it.
    ///
    /// # Errors
    /// What went wrong, with its place; imports are read beside the file that `name` says.
    pub fn run(&mut self, name: &str, text: &str) -> Result<Outcome, Report> {
        let text = plain_text(text);
        let _limited = sandbox::Evaluation::begin();
        self.state.set_script(text);
        self.imports().begin(name);
        match self.evaluate(name, text) {
            Ok(value) => Ok(Outcome::Value(value)),
            Err(error) => match Exit::of(&error) {
                Some(Exit(code)) => Ok(Outcome::Exit(code)),
                None => Err(self.report(&error, name, text)),
            },
        }
    }

    fn imports(&self) -> &Imports {
        self.state.imports()
    }

    fn report(&self, error: &EvalAltResult, name: &str, text: &str) -> Report {
        report(error, &self.functions(), &Sources { name, text, imports: self.imports() })
    }

    /// Parses a text, and what it imports, without running it.
    ///
    /// # Errors
    /// What does not parse, or is not there.
    pub fn check(&self, name: &str, text: &str) -> Result<(), Report> {
        let text = plain_text(text);
        self.imports().begin(name);
        let checked = self.compile(name, text).and_then(|ast| self.imports().read(&self.engine, &ast));
        checked.map_err(|error| self.report(&error, name, text))
    }

    /// Whether a text is the beginning of something: a REPL keeps reading only then.
    pub fn is_unfinished(&self, text: &str) -> bool {
        super::suggest::is_unfinished(&self.engine, &self.scope, text)
    }

    /// What was written elsewhere than the script says, by a smoke run or a rerun: the name it gave, and the place.
    pub fn rewritten(&self) -> Vec<(PathBuf, PathBuf)> {
        self.state.places().written()
    }

    /// What `show(value)` does.
    pub fn show(&self, value: &Dynamic) {
        api::show(&self.state, value);
    }

    /// Names and one-line descriptions of the variables.
    pub fn variables(&self) -> Vec<(String, String, String)> {
        let mut seen = std::collections::BTreeMap::new();
        for (name, _, value) in self.scope.iter() {
            let kind = self.engine.map_type_name(value.type_name()).to_string();
            seen.insert(name.to_string(), (kind, handles::describe(&value)));
        }
        seen.into_iter().map(|(name, (kind, text))| (name, kind, text)).collect()
    }

    /// Every registered function and those of stdlib, for help and completion.
    pub fn functions(&self) -> Vec<docs::Function> {
        docs::functions(&self.engine)
    }

    /// Sets a variable (`_` results of the REPL).
    pub fn set(&mut self, name: &str, value: Dynamic) {
        self.scope.set_or_push(name, value);
    }

    fn compile(&self, name: &str, text: &str) -> Result<AST, Box<EvalAltResult>> {
        imports::compile(&self.engine, &self.scope, name, text)
    }

    fn evaluate(&mut self, name: &str, text: &str) -> Result<Dynamic, Box<EvalAltResult>> {
        let ast = self.compile(name, text)?;
        // For run.lock. What cannot be read is an error where it is reached.
        let _ = self.imports().read(&self.engine, &ast);
        let merged = self.functions.merge(&ast);
        let result = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &merged);
        // Functions stay even when a statement failed.
        let mut functions = merged;
        functions.clear_statements();
        self.functions = functions;
        // What was imported stays as well.
        for (alias, module) in self.imports().named(&ast) {
            self.engine.register_static_module(alias, module);
        }
        result
    }
}

/// A closure that captures the handle it is given to (`t.fit(|s| t.losses.len() < 9)`) makes that variable shared, and
/// Rhai would keep it locked during the call. The variable reads as a clone of its handle instead.
fn hand_out_captured_handles(engine: &mut Engine) {
    // `on_var` is marked deprecated in Rhai 1.27 to say that it may change, not that it goes.
    #[allow(deprecated)]
    engine.on_var(|name, _, context| {
        let shared = context.scope().get(name).filter(|value| value.is_shared());
        Ok(shared.and_then(handles::callback_receiver))
    });
}

/// What the sandbox lets a script take by itself; time and memory are watched by the program.
fn limit(engine: &mut Engine, limits: sandbox::Limits, interrupt: Interrupt) {
    engine.set_max_operations(limits.operations);
    engine.set_max_string_size(TEXT);
    engine.set_max_array_size(ENTRIES);
    engine.set_max_map_size(ENTRIES);
    engine.set_max_variables(VARIABLES);
    engine.set_max_modules(MODULES);
    // Rhai's own `sleep` is one operation, however long it takes.
    let nap = move |seconds: f64| {
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < seconds && sandbox::exceeded().is_none() && !interrupt.is_set() {
            std::thread::sleep(NAP);
        }
    };
    let whole = nap.clone();
    engine.register_fn("sleep", move |seconds: i64| whole(seconds as f64));
    engine.register_fn("sleep", nap);
}
