//! A projector before its widths are known: its name and all of its options, as scripts give them and as config.json holds
//! them, so that what is saved is built again.

use serde_json::{Map, Value, json};

use super::pool::PoolKind;
use super::{Kind, POOLING, TOKENS};
use crate::error;
use crate::error::{Error, Result};
use crate::models::config::Config;

/// Keys of config.json. The first is the reference's; the others are llmore's own.
const NAME: &str = "mm_projector_type";
/// How visual tokens are reduced before the projector.
pub const POOL: &str = "mm_projector_pool";
pub const POOL_TOKENS: &str = "mm_projector_tokens";
/// An object with the options of a kind that has some.
pub const CONFIG: &str = "mm_projector_config";

/// What a projector is before its widths are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectorChoice {
    /// `mlp2x_gelu`, `linear`, ...
    pub name: String,
    /// How the encoder's tokens are reduced first, and to how many.
    pub pool: Option<(PoolKind, usize)>,
    /// The options of its kind with their values, all of them, in the kind's order.
    numbers: Vec<(&'static str, usize)>,
}

impl ProjectorChoice {
    /// The projector of a name, with the defaults of its kind.
    ///
    /// # Errors
    /// `Missing`, with the names there are.
    pub fn new(name: &str) -> Result<Self> {
        let numbers = Kind::of(name)?.numbers.iter().map(|number| (number.spec.key, number.default)).collect();
        Ok(ProjectorChoice { name: name.to_string(), pool: None, numbers })
    }

    /// The same with the visual tokens pooled to `tokens` first.
    ///
    /// # Errors
    /// `Option` for a kind that chooses the number of its tokens itself.
    pub fn pooled(mut self, kind: PoolKind, tokens: usize) -> Result<Self> {
        if !Kind::of(&self.name)?.pools() {
            return Err(self.lacks(POOLING));
        }
        self.pool = Some((kind, tokens));
        Ok(self)
    }

    /// The same with an option of its kind.
    ///
    /// # Errors
    /// `Option` for one that the kind does not have, and for a value out of its range.
    pub fn with(mut self, key: &str, value: usize) -> Result<Self> {
        let kind = Kind::of(&self.name)?;
        let known = kind.numbers.iter().position(|number| number.spec.key == key);
        let Some(place) = known else {
            return Err(self.lacks(key));
        };
        let most = kind.numbers[place].most;
        if !(1..=most).contains(&value) {
            return Err(error!(Option, "`{key}` of projector `{}` is {value}", self.name)
                .help(format!("it is a whole number from 1 to {most}")));
        }
        self.numbers[place].1 = value;
        Ok(self)
    }

    /// The error for an option that its kind does not have.
    pub fn lacks(&self, key: &str) -> Error {
        if key == POOLING {
            return error!(Option, "projector `{}` chooses the number of its visual tokens itself", self.name)
                .help(format!("leave out `{POOLING}`: `{TOKENS}` alone is the number it gives"));
        }
        error!(Option, "projector `{}` has no option `{key}`", self.name).help(match self.numbers.as_slice() {
            [] => format!("it has `{POOLING}`, together with `{TOKENS}`"),
            numbers => format!("it has {}", keys(numbers.iter().map(|(key, _)| *key))),
        })
    }

    /// The value of an option of its kind; 0 for one that the kind does not have.
    pub fn number(&self, key: &str) -> usize {
        self.numbers.iter().find(|(known, _)| *known == key).map_or(0, |(_, value)| *value)
    }

    /// What it is called in tables and hashes: `mlp2x_gelu`, `mlp2x_gelu (average to 16)`, or with all options of its kind.
    pub fn label(&self) -> String {
        let pool = self.pool.map(|(kind, tokens)| format!("{} to {tokens}", kind.name()));
        let numbers = self.numbers.iter().map(|(key, value)| format!("{value} {key}"));
        match pool.into_iter().chain(numbers).collect::<Vec<_>>().join(", ").as_str() {
            "" => self.name.clone(),
            options => format!("{} ({options})", self.name),
        }
    }

    /// What a config.json of layout llava-more says.
    ///
    /// # Errors
    /// `Missing` and `Decode` for keys that are not there or have other values than the kind takes.
    pub fn from_config(config: &Config) -> Result<Self> {
        let pool = match config.string(POOL, "")?.as_str() {
            "" => None,
            kind => Some((PoolKind::parse(kind)?, config.required(POOL_TOKENS)?)),
        };
        let mut choice = ProjectorChoice::new(&config.string(NAME, "linear")?)?;
        if let Some((kind, tokens)) = pool {
            choice = choice.pooled(kind, tokens)?;
        }
        let options = match config.value().get(CONFIG).filter(|value| !value.is_null()) {
            None => Map::new(),
            Some(Value::Object(options)) => options.clone(),
            Some(other) => return Err(config.unsupported(CONFIG, &other.to_string(), "an object")),
        };
        if let Some((key, _)) = choice.numbers.iter().find(|(key, _)| !options.contains_key(*key)) {
            return Err(error!(
                Missing,
                "{} has projector `{}` and no `{key}` in `{CONFIG}`",
                config.file(),
                choice.name
            )
            .help(format!("`{CONFIG}` holds {}", keys(choice.numbers.iter().map(|(key, _)| *key)))));
        }
        for (key, value) in &options {
            let Some(number) = value.as_u64() else {
                return Err(config.unsupported(&format!("{CONFIG}.{key}"), &value.to_string(), "a whole number"));
            };
            choice = choice.with(key, number as usize).map_err(|error| error.context(config.file().to_string()))?;
        }
        Ok(choice)
    }

    /// Writes it into a config.json, over what that said of another one.
    pub fn write(&self, config: &mut Map<String, Value>) {
        config.retain(|key, _| ![POOL, POOL_TOKENS, CONFIG].contains(&key.as_str()));
        config.insert(NAME.to_string(), json!(self.name));
        if let Some((kind, tokens)) = self.pool {
            config.insert(POOL.to_string(), json!(kind.name()));
            config.insert(POOL_TOKENS.to_string(), json!(tokens));
        }
        if !self.numbers.is_empty() {
            let numbers = self.numbers.iter().map(|(key, value)| (key.to_string(), json!(value)));
            config.insert(CONFIG.to_string(), Value::Object(numbers.collect()));
        }
    }
}

fn keys<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(choice: &ProjectorChoice) -> Value {
        let mut config = Map::new();
        // Of the model its LLM was in before.
        config.insert(POOL.to_string(), json!("average"));
        config.insert(POOL_TOKENS.to_string(), json!(1));
        choice.write(&mut config);
        Value::Object(config)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let pooled = ProjectorChoice::new("mlp3x_gelu").unwrap().pooled(PoolKind::PixelShuffle, 16).unwrap();
        let known = [
            (ProjectorChoice::new("linear").unwrap(), json!({ "mm_projector_type": "linear" }), "linear"),
            (
                pooled,
                json!({ "mm_projector_type": "mlp3x_gelu", POOL: "pixel_shuffle", POOL_TOKENS: 16 }),
                "mlp3x_gelu (pixel_shuffle to 16)",
            ),
        ];
        for (choice, expected, label) in known {
            assert_eq!((written(&choice), choice.label().as_str()), (expected, label));
            let config = Config::new(written(&choice), "config.json");
            assert_eq!(ProjectorChoice::from_config(&config).unwrap(), choice);
        }
        let mut options =
            json!({ "mm_projector_type": "resampler", CONFIG: { "tokens": 32, "layers": 3, "heads": 8 } });
        let config = |value: &Value| ProjectorChoice::from_config(&Config::new(value.clone(), "config.json"));
        let resampler =
            ProjectorChoice::new("resampler").unwrap().with("tokens", 32).unwrap().with("layers", 3).unwrap();
        assert_eq!((written(&resampler), config(&options).unwrap()), (options.clone(), resampler.clone()));
        assert_eq!(resampler.label(), "resampler (32 tokens, 3 layers, 8 heads)");
        assert!(resampler.pooled(PoolKind::Average, 4).unwrap_err().help_text().unwrap().contains("leave out `pool`"));
        for (key, value, said) in [
            ("layers", json!(0), "from 1 to 64"),
            ("layers", json!("two"), "`\"two\"`"),
            ("depth", json!(2), "no option `depth`"),
        ] {
            let mut wrong = options.clone();
            wrong[CONFIG][key] = value;
            let error = config(&wrong).unwrap_err();
            assert!(format!("{error} {:?}", error.help_text()).contains(said), "{error}");
        }
        options[CONFIG] = json!({ "tokens": 32 });
        assert!(config(&options).unwrap_err().message().contains("no `layers`"));
        // The reference's default.
        let config = Config::new(json!({}), "config.json");
        assert_eq!(ProjectorChoice::from_config(&config).unwrap(), ProjectorChoice::new("linear").unwrap());
    }

    #[test]
    fn every_kind_is_named_by_itself_alone() {
        for name in ["linear", "mlp1x_gelu", "mlp16x_gelu", "identity", "resampler"] {
            assert_eq!(super::super::KINDS.iter().filter(|kind| (kind.is)(name)).count(), 1, "{name}");
        }
        for name in ["mlp0x_gelu", "mlp17x_gelu", "mlpx_gelu", "Linear", ""] {
            let error = ProjectorChoice::new(name).unwrap_err();
            assert!(error.help_text().unwrap().contains("`linear`, `mlp2x_gelu`"), "{error}");
        }
        let error = ProjectorChoice::new("linear").unwrap().with("layers", 2).unwrap_err();
        assert_eq!(error.help_text(), Some("it has `pool`, together with `tokens`"));
    }
}
