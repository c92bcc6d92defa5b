//! `--set key=value` of the command line: options of every trainer, and what holds for the whole script.

use toml::{Table, Value};

use super::smoke;
use crate::error;
use crate::error::{Error, Kind, Result};
use crate::preset::{from_table, set_option};
use crate::train::TrainOptions;

/// `--set key=value` of the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Options of every `trainer(...)`.
    pub train: Table,
    /// `limit` of every benchmark.
    pub limit: Option<usize>,
    /// Two steps, 16 questions, and `tiny-*` stand-ins for every id (`smoke.rs`).
    pub smoke: bool,
}

impl Overrides {
    /// Sorts `key=value` pairs; a key that is neither a trainer option nor one of ours is an error.
    pub fn parse(pairs: &[String]) -> Result<Self> {
        let mut overrides = Overrides::default();
        for pair in pairs {
            let Some((key, text)) = pair.split_once('=') else {
                return Err(error!(Usage, "`--set {pair}` is not `key=value`"));
            };
            let value = parse_value(text);
            match (key, &value) {
                ("smoke", Value::Boolean(smoke)) => overrides.smoke = *smoke,
                ("limit", Value::Integer(limit)) if *limit > 0 => overrides.limit = Some(*limit as usize),
                ("smoke", _) => return Err(error!(Usage, "`--set smoke={text}`: expected true or false")),
                ("limit", _) => {
                    return Err(error!(Usage, "`--set limit={text}`: expected a whole number above 0"));
                }
                _ => {
                    overrides.train.insert(key.to_string(), value);
                }
            }
        }
        overrides.check()?;
        Ok(overrides)
    }

    /// The pairs again, for run.lock.
    pub(super) fn table(&self) -> Table {
        let mut table = self.train.clone();
        if let Some(limit) = self.limit {
            table.insert("limit".to_string(), Value::Integer(limit as i64));
        }
        if self.smoke {
            table.insert("smoke".to_string(), Value::Boolean(true));
        }
        table
    }

    /// The overrides of a run.lock.
    pub fn of_table(table: &Table) -> Result<Self> {
        let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Overrides::parse(&pairs)
    }

    /// The options that go over those of every trainer, by their names as they were given: `lora.r` is one in a map.
    pub(super) fn train(&self) -> Table {
        let mut table = self.train.clone();
        if self.smoke {
            for (key, value) in smoke::TRAIN {
                table.entry(key).or_insert(Value::Integer(value));
            }
        }
        table
    }

    fn check(&self) -> Result<()> {
        let mut table = Table::new();
        table.insert("train".to_string(), Value::Table(Table::new()));
        self.train.iter().for_each(|(key, value)| set_option(&mut table, key, value.clone()));
        let checked: Result<TrainOptions> = from_table(table);
        checked.map(|_| ()).map_err(|error: Error| {
            let error = match error.help_text() {
                Some(keys) if keys.contains("known keys") => {
                    let help = format!("{keys}; and, for everything: `limit`, `smoke`");
                    error.help(help)
                }
                _ => error,
            };
            error.with_kind(Kind::Usage).context("--set")
        })
    }
}

/// A TOML value, or a string when it is none.
fn parse_value(text: &str) -> Value {
    let line = format!("value = {text}");
    line.parse::<Table>().ok().and_then(|mut table| table.remove("value")).unwrap_or(Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_sorted_and_checked() {
        let pairs = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let overrides = Overrides::parse(&pairs(&["smoke=true", "limit=7", "seed=3"])).unwrap();
        assert!(overrides.smoke);
        assert_eq!(overrides.limit, Some(7));
        assert_eq!(overrides.train().get("steps"), Some(&Value::Integer(2)));
        assert_eq!(overrides.train().get("seed"), Some(&Value::Integer(3)));
        assert!(Overrides::parse(&pairs(&["sed=3"])).unwrap_err().to_string().contains("did you mean `seed`"));
    }
}
