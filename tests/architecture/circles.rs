//! Circles of files: which file of `src/` uses what of which other, by its paths, and where that leads back to its
//! begin. Re-exports are followed to the file that declares the name, and are no use themselves. Not seen are calls of
//! methods, so an `impl` may stand in a file above its type.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// Who uses whom: user and used to the names that are used.
pub(super) type Uses = BTreeMap<(String, String), BTreeSet<String>>;

/// The files as modules.
struct Modules<'a> {
    files: &'a [Source],
    /// Module path (`eval::scorers`) to file.
    by_module: BTreeMap<String, usize>,
    /// By file: the name of an import to the path behind it.
    imports: Vec<Vec<(String, Vec<String>)>>,
    declared: Vec<BTreeSet<&'a str>>,
}

/// What a path leads to: a file, or something that is declared in it.
#[derive(Clone)]
enum Target {
    Module(usize),
    Item(usize, String),
}

/// The deepest chain of re-exports that is followed.
const DEEPEST: usize = 8;

impl<'a> Modules<'a> {
    fn new(files: &'a [Source]) -> Self {
        let by_module = files.iter().enumerate().map(|(i, file)| (module_of(&file.path), i)).collect();
        let imports = |file: &Source| {
            let paths = file.paths().into_iter().filter(|path| !path.in_test);
            paths.filter_map(|path| Some((path.import?, path.names))).collect()
        };
        let declared = files.iter().map(|file| file.declared().into_iter().collect()).collect();
        Modules { files, by_module, imports: files.iter().map(imports).collect(), declared }
    }

    fn child(&self, of: usize, name: &str) -> Option<usize> {
        let parent = module_of(&self.files[of].path);
        let path = if parent.is_empty() { name.to_string() } else { format!("{parent}::{name}") };
        self.by_module.get(&path).copied()
    }

    fn parent(&self, of: usize) -> Option<usize> {
        let path = module_of(&self.files[of].path);
        let parent = path.rsplit_once("::").map_or("", |(parent, _)| parent);
        self.by_module.get(parent).copied()
    }

    /// Where a path in a file leads; `None` outside the crate.
    fn resolve(&self, from: usize, names: &[String], depth: usize) -> Option<Target> {
        if depth > DEEPEST {
            return None;
        }
        let (first, rest) = names.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(*self.by_module.get("")?),
            "self" => Target::Module(from),
            "super" => Target::Module(self.parent(from)?),
            name => self.name(from, name, depth, names.len() > 1)?,
        };
        rest.iter().try_fold(start, |at, name| match at {
            Target::Module(file) if name == "super" => self.parent(file).map(Target::Module),
            Target::Module(file) if name == "*" || name == "self" => Some(Target::Module(file)),
            Target::Module(file) => {
                Some(self.name(file, name, depth, false).unwrap_or_else(|| Target::Item(file, name.clone())))
            }
            item => Some(item),
        })
    }

    /// What a name is in a module: something it declares, a module below it, or an import; `None` when it is nothing of these.
    /// `leads`: more of a path follows, so that a function cannot be meant.
    fn name(&self, file: usize, name: &str, depth: usize, leads: bool) -> Option<Target> {
        if depth > DEEPEST {
            return None;
        }
        if self.declared[file].contains(name) && !leads {
            return Some(Target::Item(file, name.to_string()));
        }
        if let Some(child) = self.child(file, name) {
            return Some(Target::Module(child));
        }
        let named =
            self.imports[file].iter().find(|(import, path)| import == name && path.first().is_some_and(|f| f != name));
        if let Some((_, path)) = named {
            return self.resolve(file, path, depth + 1);
        }
        // An import of everything there is.
        self.imports[file].iter().filter(|(import, _)| import == "*").find_map(|(_, path)| {
            match self.resolve(file, path, depth + 1)? {
                Target::Module(other) if other != file => self.name(other, name, depth + 1, leads),
                _ => None,
            }
        })
    }
}

/// The module that a file is: `eval::scorers` for `eval/scorers/mod.rs`, nothing for `lib.rs`.
fn module_of(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

/// Who uses what of whom, tests aside.
pub(super) fn uses(files: &[Source]) -> Uses {
    let modules = Modules::new(files);
    let mut uses = Uses::new();
    for (from, file) in files.iter().enumerate().filter(|(_, file)| !file.is_test() && file.path != "lib.rs") {
        for path in file.paths().into_iter().filter(|path| !path.in_test && !path.is_handed_on) {
            let (to, name) = match modules.resolve(from, &path.names, 0) {
                Some(Target::Item(to, name)) => (to, name),
                // A module that is imported says nothing yet; what is used of it has a path of its own.
                Some(Target::Module(to)) if path.names.last().is_some_and(|last| last == "*") => (to, "*".to_string()),
                _ => continue,
            };
            if to != from && files[to].path != "lib.rs" && !files[to].is_test() {
                uses.entry((file.path.clone(), files[to].path.clone())).or_default().insert(name);
            }
        }
    }
    uses
}

/// Whether a file is the module right above another.
pub(super) fn is_parent(parent: &str, child: &str) -> bool {
    let (parent, child) = (module_of(parent), module_of(child));
    child.rsplit_once("::").is_some_and(|(above, _)| above == parent)
}

/// Sets of files, each of which uses every other on whatever way; what a child uses of its own parent counts not.
pub(super) fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let mut used_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, used) in uses.keys().filter(|(user, used)| !is_parent(used, user)) {
        used_by.entry(user).or_default().push(used);
    }
    let below: BTreeMap<&str, BTreeSet<&str>> = used_by.keys().map(|file| (*file, reached(&used_by, file))).collect();
    let mutual = |a: &str, b: &str| below[a].contains(b) && below.get(b).is_some_and(|below| below.contains(a));
    let circle = |file: &str| below.keys().filter(|other| mutual(file, other)).map(ToString::to_string).collect();
    let found: BTreeSet<Vec<String>> = below.keys().map(|file| circle(file)).collect();
    found.into_iter().filter(|circle| circle.len() > 1).collect()
}

fn reached<'a>(used_by: &BTreeMap<&'a str, Vec<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        let used = used_by.get(at).into_iter().flatten().copied();
        open.extend(used.filter(|used| seen.insert(*used)));
    }
    seen
}

/// A circle in words: who of it uses what of whom.
pub(super) fn told(circle: &[String], uses: &Uses) -> String {
    let inside = uses
        .iter()
        .filter(|((user, used), _)| circle.contains(user) && circle.contains(used) && !is_parent(used, user));
    let lines = inside.map(|((user, used), names)| {
        format!("\n    {user} uses {} of {used}", names.iter().cloned().collect::<Vec<_>>().join(", "))
    });
    format!("a circle of {} files:{}", circle.len(), lines.collect::<String>())
}
