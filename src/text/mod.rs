//! Text: the tokenizer and the chat templates. Conversations are turns of `human` and `gpt`, as LLaVA's data
//! sets write them; `<image>` in a turn is where the visual tokens go, id -200 in what comes out.

mod apart;
mod declared;
pub mod gguf;
mod pieces;
mod sentencepiece;
mod template;
mod tiktoken;
mod tokenizer;
mod vocabulary;

use serde::{Deserialize, Serialize};

pub use template::{AnswerEnd, Rendered, Template};
pub use tokenizer::Tokenizer;

/// The id that stands where an image's visual tokens are spliced in (LLaVA's `IMAGE_TOKEN_INDEX`).
pub const IMAGE_ID: i64 = -200;
/// The label of a position that is not supervised (LLaVA's `IGNORE_INDEX`).
pub const IGNORE: i64 = -100;
/// How data sets write an image inside a turn.
pub const IMAGE_MARKER: &str = "<image>";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Human,
    Gpt,
    /// What the model is told before the conversation; the first turn or none.
    System,
}

impl Role {
    /// The word data sets use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Human => "human",
            Role::Gpt => "gpt",
            Role::System => "system",
        }
    }

    /// The role of a word of data sets.
    pub fn of(name: &str) -> Option<Self> {
        [Role::Human, Role::Gpt, Role::System].into_iter().find(|role| role.name() == name)
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    #[serde(rename = "from")]
    pub role: Role,
    /// What is said, as the data set has it.
    pub value: String,
    /// Whether training learns the turn, where it is an answer.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub supervised: bool,
}

fn yes() -> bool {
    true
}

impl Turn {
    /// A turn as it is trained on unless a data set says otherwise.
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

/// A conversation's system text, and its turns from the first question on: an answer before it is dropped, as the
/// reference does.
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

/// Puts a mark per image on a line of its own in front of a question that has none (as lmms-eval does).
pub fn with_image_marks(question: &str, images: usize) -> String {
    if images == 0 || question.contains(IMAGE_MARKER) {
        return question.to_string();
    }
    format!("{}\n{question}", vec![IMAGE_MARKER; images].join(" "))
}
