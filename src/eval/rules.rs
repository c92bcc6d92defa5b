//! Sets of rules: whose reading of an output counts.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Whose reading of an output counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// LLaVA-MORE 2460d39.
    #[default]
    Reference,
    /// The answer and nothing else; case and white space around do not matter.
    Strict,
    /// lmms-eval 0.7.3.
    LmmsEval,
    /// The scripts of LLaVA 1.2.2.
    Llava,
    /// VLMEvalKit (nvidia-vlmeval 26.3), its deterministic part.
    #[serde(rename = "vlmevalkit")]
    VlmEvalKit,
}

impl Rules {
    const ALL: [Rules; 5] = [Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::Llava, Rules::VlmEvalKit];

    /// The word scripts use.
    pub fn name(self) -> &'static str {
        match self {
            Rules::Reference => "reference",
            Rules::Strict => "strict",
            Rules::LmmsEval => "lmms-eval",
            Rules::Llava => "llava",
            Rules::VlmEvalKit => "vlmevalkit",
        }
    }

    /// Rules by name.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Rules::ALL.map(Rules::name);
        let rules = Rules::ALL.into_iter().find(|rules| rules.name() == name);
        rules.ok_or_else(|| Error::unknown("set of rules", name, &known, ""))
    }
}
