//! Scripts that a script imports: `import "lib/parts" as p;` is `lib/parts.rhai` beside the script that says so. Their texts
//! are kept for run.lock and for errors; a rerun reads them from run.lock and nothing else.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{AST, ASTNode, Dynamic, Engine, EvalAltResult, Expr, Module, ModuleResolver, Position, Scope, Shared, Stmt};

use super::error::ScriptError;
use crate::error::{Error, Result};
use crate::{error, guard};

type SharedModule = Shared<Module>;
type Resolved<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Parses a script; `name` is what errors call it.
///
/// # Errors
/// What does not parse; `Decode` where Rhai breaks off.
pub(super) fn compile(engine: &Engine, scope: &Scope, name: &str, text: &str) -> Resolved<AST> {
    let parsed = guard::catch("rhai", || engine.compile_with_scope(scope, text));
    let mut ast = parsed.map_err(|failure| failure.error(&name))?.map_err(EvalAltResult::from)?;
    ast.set_source(name);
    Ok(ast)
}

/// The imports of a session; clones share them.
#[derive(Clone)]
pub(super) struct Imports(Arc<Inner>);

struct Inner {
    /// Of a run.lock: what there is, by path from the script's folder.
    given: Option<BTreeMap<String, String>>,
    /// What every script sees: `args`.
    scope: Scope<'static>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What errors call the script that was run; its folder is where imports begin.
    main: String,
    /// By what errors call them.
    scripts: BTreeMap<String, Script>,
    /// Those being evaluated, outermost first.
    under_way: Vec<String>,
}

struct Script {
    /// The path from the main script's folder.
    key: String,
    text: String,
    module: Option<SharedModule>,
}

impl Imports {
    /// Imports from files, or of what a run.lock holds; `args` is what scripts see of the command line.
    pub(super) fn new(given: Option<BTreeMap<String, String>>, args: &[String]) -> Self {
        let mut scope = Scope::new();
        let args: rhai::Array = args.iter().map(|arg| Dynamic::from(arg.clone())).collect();
        scope.push_constant("args", args);
        Imports(Arc::new(Inner { given, scope, known: Mutex::default() }))
    }

    /// Forgets everything: another text is run, called `main`, and files may have changed.
    pub(super) fn begin(&self, main: &str) {
        *self.known() = Known { main: main.to_string(), ..Known::default() };
    }

    /// The texts of all that is imported, by path from the script's folder.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        self.known().scripts.values().map(|script| (script.key.clone(), script.text.clone())).collect()
    }

    /// The text that errors call by this name.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.known().scripts.get(name).map(|script| script.text.clone())
    }

    /// Reads everything that a script imports by a written-out path, and what that imports, without running it.
    ///
    /// # Errors
    /// The first that is missing or has no syntax.
    pub(super) fn read(&self, engine: &Engine, ast: &AST) -> Resolved<()> {
        for (path, position) in written_out(ast) {
            let (name, key) = self.locate(ast.source(), &path);
            if self.text(&name).is_none() {
                let text = self.load(&name, &key).map_err(|error| at(error, position))?;
                let read = self.compile(engine, &name, &text).and_then(|ast| self.read(engine, &ast));
                read.map_err(|error| EvalAltResult::ErrorInModule(name, error, position))?;
            }
        }
        Ok(())
    }

    /// The modules that the statements of a script imported under a name, where they were reached.
    pub(super) fn named(&self, ast: &AST) -> Vec<(String, SharedModule)> {
        let import = |statement: &Stmt| {
            let Stmt::Import(import, _) = statement else { return None };
            let Expr::StringConstant(path, _) = &import.0 else { return None };
            let (name, _) = self.locate(ast.source(), path);
            let module = self.known().scripts.get(&name)?.module.clone()?;
            Some((import.1.name.to_string(), module)).filter(|(alias, _)| !alias.is_empty())
        };
        ast.statements().iter().filter_map(import).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What errors call an imported script, and its path from the main script's folder.
    fn locate(&self, importer: Option<&str>, path: &str) -> (String, String) {
        let file = if path.ends_with(".rhai") { path.to_string() } else { format!("{path}.rhai") };
        let known = self.known();
        let importer = importer.unwrap_or(&known.main);
        let key = known.scripts.get(importer).map_or("", |script| &script.key);
        (beside(importer, &file), beside(key, &file))
    }

    /// Reads a script and remembers its text.
    fn load(&self, name: &str, key: &str) -> Result<String> {
        let text = match &self.0.given {
            Some(given) => given.get(key).cloned().ok_or_else(|| {
                error!(Missing, "run.lock holds no script `{key}`")
                    .help("it holds what was imported by a written-out path, or before the trainer was made")
            })?,
            None if !Path::new(name).is_file() => {
                return Err(error!(Missing, "no script `{name}`")
                    .help("`import \"lib/parts\" as p;` is lib/parts.rhai beside the script that imports it"));
            }
            None => crate::fs::read_to_string(Path::new(name)).map_err(|error| Error::file(Path::new(name), error))?,
        };
        let text = plain_text(&text).to_string();
        let script = Script { key: key.to_string(), text: text.clone(), module: None };
        self.known().scripts.insert(name.to_string(), script);
        Ok(text)
    }

    fn compile(&self, engine: &Engine, name: &str, text: &str) -> Resolved<AST> {
        compile(engine, &self.0.scope, name, text)
    }

    /// Evaluates a script as a module, once.
    fn module(&self, engine: &Engine, (name, key): (&str, &str), position: Position) -> Resolved<SharedModule> {
        if let Some(module) = self.known().scripts.get(name).and_then(|script| script.module.clone()) {
            return Ok(module);
        }
        if self.known().under_way.iter().any(|other| other == name) {
            let circle = [self.known().under_way.as_slice(), &[name.to_string()]].concat().join("` -> `");
            let error = error!(Usage, "scripts import each other in a circle: `{circle}`");
            return Err(at(error.help("move what both need into a third script"), position));
        }
        let text = match self.text(name) {
            Some(text) => text,
            None => self.load(name, key).map_err(|error| at(error, position))?,
        };
        self.known().under_way.push(name.to_string());
        let module = self
            .compile(engine, name, &text)
            .and_then(|ast| Module::eval_ast_as_new(self.0.scope.clone(), &ast, engine))
            .map_err(|error| EvalAltResult::ErrorInModule(name.to_string(), error, position));
        self.known().under_way.pop();
        let module: SharedModule = module?.into();
        if let Some(script) = self.known().scripts.get_mut(name) {
            script.module = Some(module.clone());
        }
        Ok(module)
    }
}

impl ModuleResolver for Imports {
    fn resolve(&self, engine: &Engine, source: Option<&str>, path: &str, pos: Position) -> Resolved<SharedModule> {
        let (name, key) = self.locate(source, path);
        self.module(engine, (&name, &key), pos)
    }
}

/// A script's text without the mark that some editors put before it.
pub(super) fn plain_text(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The literal paths that a script imports anywhere, with their places.
fn written_out(ast: &AST) -> Vec<(String, Position)> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
            && let Expr::StringConstant(path, position) = &import.0
        {
            found.push((path.to_string(), *position));
        }
        true
    });
    found
}

fn at(error: Error, position: Position) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(ScriptError::from(error)), position))
}

/// A path beside a file, without `.` and, where names allow it, `..`.
fn beside(file: &str, path: &str) -> String {
    let joined = Path::new(file).parent().unwrap_or(Path::new("")).join(path);
    let mut plain = PathBuf::new();
    for component in joined.components() {
        let below = matches!(plain.components().next_back(), Some(Component::Normal(_)));
        match component {
            Component::CurDir => {}
            Component::ParentDir if below => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_beside_the_script_that_imports() {
        assert_eq!(beside("dir/run.rhai", "lib/parts.rhai"), "dir/lib/parts.rhai");
        assert_eq!(beside("run.rhai", "./lib/parts.rhai"), "lib/parts.rhai");
        assert_eq!(beside("dir/lib/a.rhai", "../b.rhai"), "dir/b.rhai");
        assert_eq!(beside("a.rhai", "../b.rhai"), "../b.rhai");
        assert_eq!(beside("../b.rhai", "c.rhai"), "../c.rhai");
        assert_eq!(beside("", "/abs/x.rhai"), "/abs/x.rhai");
    }
}
