//! Flags with which files say that a turn is not to be learned. What is neither a plain yes nor a plain no is refused: a
//! turn is learned whole or not at all.
//! Sources: `weight` of OpenAI's fine-tuning format, `loss` of ms-swift (3.x, `messages`), `train` and `training` of axolotl
//! (0.8, `message_field_training`), `masked` of torchtune (0.6, `Message`), loss masks of 0 and 1.

use serde_json::Value;

/// What a flag that is set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Learned,
    Hidden,
    /// Hidden if true; 0 and 1 are used in both senses.
    HiddenIfTrue,
}

const FLAGS: [(&str, Says); 21] = [
    ("weight", Says::Learned),
    ("loss", Says::Learned),
    ("loss_weight", Says::Learned),
    ("loss_scale", Says::Learned),
    ("loss_mask", Says::Learned),
    ("train", Says::Learned),
    ("train_on", Says::Learned),
    ("train_on_turn", Says::Learned),
    ("training", Says::Learned),
    ("trainable", Says::Learned),
    ("trained", Says::Learned),
    ("learn", Says::Learned),
    ("supervised", Says::Learned),
    ("compute_loss", Says::Learned),
    ("with_loss", Says::Learned),
    ("mask", Says::HiddenIfTrue),
    ("masked", Says::Hidden),
    ("ignore", Says::Hidden),
    ("ignore_loss", Says::Hidden),
    ("no_loss", Says::Hidden),
    ("no_train", Says::Hidden),
];

/// Whether a turn's key is a flag.
pub fn is_one(key: &str) -> bool {
    FLAGS.iter().any(|(flag, _)| *flag == key)
}

/// Whether a flag says that the turn is learned; `None` where it is null.
///
/// # Errors
/// A sentence for a value that is not a plain yes or no.
pub fn read(key: &str, value: &Value) -> Result<Option<bool>, String> {
    let says = FLAGS.iter().find(|(flag, _)| *flag == key).map_or(Says::Learned, |(_, says)| *says);
    let set = match value {
        Value::Null => return Ok(None),
        Value::Bool(set) => Some(*set),
        Value::Number(number) if says != Says::HiddenIfTrue => match number.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        _ => None,
    };
    match set {
        Some(set) => Ok(Some(set == (says == Says::Learned))),
        None if says == Says::HiddenIfTrue => Err(format!(
            "`{key}` of a turn is {value}, which may mean either; `train: false` says that it is not learned"
        )),
        None => {
            Err(format!("`{key}` of a turn is {value}: a turn is learned whole or not at all (true, false, 1 or 0)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_says_yes_or_no_or_is_refused() {
        for (key, value, learned) in [
            ("weight", json!(0), Some(false)),
            ("weight", json!(0.0), Some(false)),
            ("weight", json!(1), Some(true)),
            ("loss", json!(false), Some(false)),
            ("train", json!(true), Some(true)),
            ("loss_mask", json!(0), Some(false)),
            ("mask", json!(true), Some(false)),
            ("mask", json!(false), Some(true)),
            ("masked", json!(1), Some(false)),
            ("train", json!(null), None),
        ] {
            assert_eq!(read(key, &value), Ok(learned), "{key}: {value}");
        }
        for (key, value) in [
            ("weight", json!(0.5)),
            ("weight", json!(2)),
            ("weight", json!(-1)),
            ("loss", json!("no")),
            ("mask", json!(0)),
            ("mask", json!("User")),
            ("train", json!([1, 0])),
        ] {
            let told = read(key, &value).unwrap_err();
            assert!(told.contains(key) && told.contains(&value.to_string()), "{told}");
        }
        assert!(is_one("weight") && !is_one("value"));
    }
}
