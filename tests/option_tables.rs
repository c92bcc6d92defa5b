//! One entry an option: what help prints is what is used, and nothing is known of an option beside its entry.

use std::collections::BTreeMap;

use llmore::options::{Kind, OptionSpec};
use llmore::preset::from_table;
use llmore::script::docs::{Function, OPTION_MAPS};
use llmore::train::{Lock, TRAINER, TrainOptions};
use llmore::vlm::LoraOptions;
use toml::{Table, Value};

use super::scripting::{run, session};

/// Parameters that take a map which holds data, by function.
const DATA_MAPS: [(&str, &str); 3] = [("bar", "values"), ("plot", "series"), ("save_tensors", "map")];

fn functions() -> Vec<Function> {
    session("option-tables").0.functions()
}

#[test]
fn every_function_that_takes_options_has_a_table() {
    let mut with_options = 0;
    for function in functions() {
        for (name, _) in function.params.iter().filter(|(_, kind)| kind == "map") {
            let signature = function.signature();
            if OPTION_MAPS.contains(&name.as_str()) {
                assert!(!function.options.is_empty(), "`{signature}` has no table in src/script/options/");
                with_options += 1;
            } else {
                let is_data = DATA_MAPS.contains(&(function.name.as_str(), name.as_str()));
                assert!(is_data, "`{signature}`: a map of options is called one of {OPTION_MAPS:?}");
            }
        }
    }
    assert!(with_options >= 30, "only {with_options} functions take options");
}

#[test]
fn a_trainer_uses_the_defaults_that_are_printed() {
    let rate = Table::from_iter([("projector".to_string(), Value::Float(1e-3))]);
    let given =
        Table::from_iter([("train".to_string(), Value::Table(rate)), ("lora".to_string(), Value::Table(Table::new()))]);
    let used = Table::try_from(from_table::<TrainOptions>(given).unwrap()).unwrap();
    let lora = Table::try_from(LoraOptions::default()).unwrap();
    assert_eq!(used["lora"], Value::Table(lora));
    let trainer = functions().into_iter().find(|function| function.name == "trainer").unwrap();
    let printed = |key: &str| trainer.options.iter().find(|row| row.key == key).unwrap().default.clone();
    let check = |specs: &[OptionSpec], used: &Table, before: &str| {
        for spec in specs {
            let default = spec.unset.value();
            assert_eq!(used.get(spec.key).filter(|_| default.is_some()), default.as_ref(), "{}", spec.key);
            if let Some(default) = default {
                // What is printed reads as the value.
                let text = format!("value = {}", printed(&format!("{before}{}", spec.key)));
                let read = &text.parse::<Table>().unwrap()["value"];
                let same = match (read, &default) {
                    (Value::Integer(read), Value::Float(default)) => *read as f64 == *default,
                    _ => *read == default,
                };
                assert!(same, "{}: {read} is printed for {default}", spec.key);
            }
        }
    };
    check(TRAINER, &used, "");
    let Some(Kind::Map(inner)) = TRAINER.iter().find(|spec| spec.key == "lora").map(|spec| spec.kind) else {
        panic!("`lora` is no map");
    };
    check(inner, used["lora"].as_table().unwrap(), "lora.");
    assert_eq!(printed("batch"), "32");
    assert_eq!(printed("eps"), "1e-8");
    assert_eq!(printed("lora.alpha"), "32");
    assert_eq!(printed("micro_batch"), "`batch`");
}

#[test]
fn names_of_a_trainers_options_are_those_that_are_read() {
    for spec in TRAINER {
        let Kind::Names(names) = spec.kind else { continue };
        let read = |value: &str| {
            let table = Table::from_iter([(spec.key.to_string(), Value::String(value.to_string()))]);
            from_table::<TrainOptions>(table).map(|_| ()).map_err(|error| error.to_string())
        };
        for name in names {
            assert_eq!(read(name), Ok(()), "{}: {name}", spec.key);
        }
        let expected = llmore::options::alternatives(names);
        let told = read("no-such-name").unwrap_err();
        assert!(told.contains(&format!("expected {expected}")), "{told} lists others than {expected}");
    }
}

#[test]
fn a_run_goes_on_under_other_values_of_what_changes_no_result() {
    let lock = |key: &str, value: i64| Lock {
        options: Table::from_iter([(key.to_string(), Value::Integer(value))]),
        ..Lock::default()
    };
    let mut harmless = Vec::new();
    for spec in TRAINER {
        let differs = !lock(spec.key, 1).differences(&lock(spec.key, 2)).is_empty();
        assert_eq!(differs, spec.changes_results, "{}", spec.key);
        if !spec.changes_results {
            harmless.push(spec.key);
        }
    }
    // What a run may change between its start and its end, said once more on purpose: a new one is to be thought about.
    let expected = [
        "name",
        "data",
        "features",
        "features_bytes",
        "spike",
        "save_every_steps",
        "save_every_minutes",
        "keep",
        "out",
    ];
    assert_eq!(harmless, expected);
    assert!(!lock("no_such_key", 1).differences(&lock("no_such_key", 2)).is_empty());
}

#[test]
fn an_option_of_another_kind_is_refused_before_anything_is_opened() {
    let cases = [
        ("encoder(\"no-such\", #{ seed: \"a\" })", "encoder: option `seed` is \"a\", expected a whole number from 0"),
        (
            "encoder(\"no-such\", #{ select: \"patches\" })",
            "encoder: option `select` is \"patches\", expected \"patch\" or",
        ),
        ("load(\"no-such\", #{ merge: true })", "load: no option `merge`"),
        ("dataset(\"no-such\", #{ format: \"json\" })", "dataset: option `format` is \"json\", expected \"llava\" or"),
        ("benchmark(\"no-such\", #{ limit: -1 })", "benchmark: option `limit` is -1, expected a whole number from 0"),
        ("plot(#{ title: \"x\" })", "`plot` needs `series`"),
    ];
    for (script, expected) in cases {
        let told = run("option-kinds", script).unwrap_err();
        assert!(told.starts_with(&format!("error: {expected}")), "{script}: {told}");
    }
    assert!(
        run("option-near", "encoder(\"x\", #{ select: \"patches\" })").unwrap_err().contains("did you mean \"patch\"?")
    );
}

#[test]
fn help_and_the_reference_print_the_table() {
    let told = run("option-help", "print(help(\"trainer\"))").unwrap();
    assert!(told.contains("- `batch`, a whole number from 0 (default: 32): Samples of one optimizer step."), "{told}");
    assert!(
        told.contains("- `keep`, a whole number from 0 (default: 2): ") && told.contains("Changes no result."),
        "{told}"
    );
    let page = llmore::script::docs::reference(&functions());
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for key in page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key)) {
        *rows.entry(key).or_default() += 1;
    }
    assert_eq!(rows.get("lora.dropout"), Some(&1), "a table that functions share is printed once");
    for function in functions() {
        for row in &function.options {
            assert!(rows.contains_key(row.key.as_str()), "{}: {}", function.name, row.key);
        }
    }
}
