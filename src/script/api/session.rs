//! The session itself: presets, help, seeds, files, leaving.

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::Fallible;
use crate::error;
use crate::error::{Error, Result};
use crate::preset::PresetKind;
use crate::script::convert::{from_json, map_of, number, shown};
use crate::script::docs::functions;
use crate::script::error::{Exit, ScriptError};
use crate::script::handles::TableHandle;
use crate::script::state::State;
use crate::show::{Cell, Table};

fn preset_of(state: &State, id: &str) -> Result<Map> {
    let kinds = PresetKind::ALL;
    match kinds.into_iter().find(|kind| state.presets().contains(*kind, id)) {
        Some(kind) => Ok(map_of(&state.presets().table(kind, id)?)),
        None => {
            let known: Vec<String> = kinds.into_iter().flat_map(|kind| state.presets().ids(kind)).collect();
            Err(Error::unknown("preset", id, &known, "`presets(\"llms\")` lists one kind"))
        }
    }
}

fn presets_of(state: &State, kind: &str) -> Result<Table> {
    let kind = PresetKind::parse(kind)?;
    let mut table = Table::new(kind.folder()).column("id").column("about");
    for id in state.presets().ids(kind) {
        let about = state.presets().table(kind, &id)?.get("about").and_then(|about| about.as_str().map(str::to_string));
        table.push([Cell::from(id), Cell::from(about.unwrap_or_default())]);
    }
    Ok(table)
}

#[export_module]
pub mod session {
    /// The device the session computes on by default.
    #[rhai_fn(name = "device")]
    pub fn device() -> String {
        "cpu".to_string()
    }

    /// Seconds as people read them.
    ///
    /// ```rhai
    /// print(duration(754.2));  // 12 min 34 s
    /// ```
    #[rhai_fn(name = "duration", return_raw)]
    pub fn duration(seconds: Dynamic) -> Fallible<String> {
        match number(&seconds) {
            Some(seconds) => Ok(crate::show::seconds(seconds)),
            None => Err(error!(Type, "expected seconds, got {}", shown(&seconds)).into()),
        }
    }

    /// Sets the default of every later `seed` option.
    ///
    /// ```rhai
    /// seed(3);
    /// ```
    #[rhai_fn(name = "seed", return_raw)]
    pub fn seed(context: NativeCallContext, n: i64) -> Fallible<()> {
        State::of(&context)?.set_seed(n as u64);
        Ok(())
    }

    /// The presets of a kind: encoders, llms, models, templates, recipes, datasets, benchmarks.
    ///
    /// ```rhai
    /// show(presets("recipes"));
    /// ```
    #[rhai_fn(name = "presets", return_raw)]
    pub fn presets(context: NativeCallContext, kind: &str) -> Fallible<TableHandle> {
        Ok(TableHandle(presets_of(&State::of(&context)?, kind)?))
    }

    /// What a preset says.
    ///
    /// ```rhai
    /// print(preset("tiny-clip").about);
    /// ```
    #[rhai_fn(name = "preset", return_raw)]
    pub fn preset(context: NativeCallContext, id: &str) -> Fallible<Map> {
        Ok(preset_of(&State::of(&context)?, id)?)
    }

    /// Help on a function, method or property by name.
    ///
    /// ```rhai
    /// print(help("trainer"));
    /// ```
    #[rhai_fn(name = "help", return_raw)]
    pub fn help(context: NativeCallContext, name: &str) -> Fallible<String> {
        let docs = functions(context.engine());
        let found: Vec<String> = docs
            .iter()
            .filter(|function| function.name == name)
            .map(|function| format!("{}\n{}", function.signature(), function.text()))
            .collect();
        if found.is_empty() {
            let names: Vec<&str> = docs.iter().map(|function| function.name.as_str()).collect();
            return Err(Error::unknown("function", name, &names, "`llmore docs` lists all").into());
        }
        Ok(found.join("\n\n"))
    }

    /// The text of a UTF-8 file.
    ///
    /// ```rhai
    /// print(read("tests/fixtures/training/how.md").len());
    /// ```
    #[rhai_fn(name = "read", return_raw)]
    pub fn read(context: NativeCallContext, path: &str) -> Fallible<String> {
        Ok(State::of(&context)?.places().text(path)?)
    }

    /// A value from JSON text; `null` becomes `()`.
    ///
    /// ```rhai
    /// print(json("{\"a\": [1, 2.5, null]}").a.len());
    /// ```
    #[rhai_fn(name = "json", return_raw)]
    pub fn json(text: &str) -> Fallible<Dynamic> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| error!(Decode, "this is not JSON: {error}"))?;
        Ok(from_json(&value))
    }

    /// Ends the program with an exit code.
    #[rhai_fn(name = "exit", return_raw)]
    pub fn exit(code: i64) -> Fallible<()> {
        Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(Exit(code as i32)), Position::NONE)))
    }

    /// In `catch (e)`: what happened.
    #[rhai_fn(get = "message", pure)]
    pub fn message(e: &mut ScriptError) -> String {
        e.message.clone()
    }

    /// In `catch (e)`: what to do about it, or `()`.
    #[rhai_fn(get = "help", pure)]
    pub fn help_of(e: &mut ScriptError) -> Dynamic {
        e.help.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// In `catch (e)`: the kind of error.
    #[rhai_fn(get = "kind", pure)]
    pub fn kind(e: &mut ScriptError) -> String {
        e.kind.name().to_string()
    }
}
