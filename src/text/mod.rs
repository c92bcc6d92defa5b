//! Text: the tokenizer and the chat templates. Conversations are turns of `human` and `gpt`, as in LLaVA's data sets;
//! `<image>` in a turn marks the position of the visual tokens, which becomes id -200.

mod apart;
mod declared;
pub mod gguf;
mod inner;
mod pieces;
mod sentencepiece;
mod template;
mod tiktoken;
mod tokenizer;
mod vocabulary;

use serde::{Deserialize, Serialize};

pub use pieces::Rendered;
pub use template::{AnswerEnd, Template};
pub use tokenizer::Tokenizer;

/// The id at the position where an image's visual tokens are spliced in (LLaVA's `IMAGE_TOKEN_INDEX`).
pub const IMAGE_ID: i64 = -200;
/// The label of a position that is not supervised (LLaVA's `IGNORE_INDEX`).
pub const IGNORE: i64 = -100;
/// The marker of an image inside a turn.
pub const IMAGE_MARKER: &str = "<image>";

/// The speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Human,
    Gpt,
    /// The instructions before the conversation; only as the first turn.
    System,
}

impl Role {
    /// The name in data sets.
    pub fn name(self) -> &'static str {
        match self {
            Role::Human => "human",
            Role::Gpt => "gpt",
            Role::System => "system",
        }
    }

    /// The role with a name in data sets.
    pub fn of(name: &str) -> Option<Self> {
        [Role::Human, Role::Gpt, Role::System].into_iter().find(|role| role.name() == name)
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The speaker.
    #[serde(rename = "from")]
    pub role: Role,
    /// The text, as in the data set.
    pub value: String,
    /// Whether an answer is supervised in training.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub supervised: bool,
}

fn yes() -> bool {
    true
}

impl Turn {
    /// A turn that is supervised if it is an answer, which is the default.
    pub fn of(role: Role, value: impl Into<String>) -> Self {
        Turn { role, value: value.into(), supervised: true }
    }

    /// A question.
    pub fn human(value: impl Into<String>) -> Self {
        Turn::of(Role::Human, value)
    }

    /// An answer.
    pub fn gpt(value: impl Into<String>) -> Self {
        Turn::of(Role::Gpt, value)
    }
}

/// A conversation's system text, and its turns from the first question on: answers before it are dropped, as in the
/// reference.
pub fn opened(turns: &[Turn]) -> (Option<&str>, &[Turn]) {
    let (system, turns) = match turns {
        [first, rest @ ..] if first.role == Role::System => (Some(first.value.as_str()), rest),
        _ => (None, turns),
    };
    match turns {
        [first, rest @ ..] if first.role == Role::Gpt => (system, rest),
        _ => (system, turns),
    }
}

/// Puts one marker per image on a line of its own in front of a question without markers (as lmms-eval does).
pub fn with_image_marks(question: &str, images: usize) -> String {
    if images == 0 || question.contains(IMAGE_MARKER) {
        return question.to_string();
    }
    format!("{}\n{question}", vec![IMAGE_MARKER; images].join(" "))
}
