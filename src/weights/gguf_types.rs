//! The tensor types of GGUF by ggml's numbers: those that are supported, and the names of the others.
//! Source: gguf 0.19.0, `constants.py` (`GGMLQuantizationType`); ggml's `include/ggml.h` for Q2_0 and what was dropped.

use candle_core::quantized::GgmlDType;

use crate::error;
use crate::error::{Error, Result};

/// Types that are not supported.
const OTHERS: [(u32, &str); 30] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// The type with this number, if candle can compute with it.
pub(super) fn dtype(number: u32) -> Result<GgmlDType> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        other => return Err(refused(other)),
    })
}

fn refused(number: u32) -> Error {
    let known = "llmore computes f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0 and q2_k to q6_k";
    let Some((_, name)) = OTHERS.iter().find(|(other, _)| *other == number) else {
        return error!(Decode, "it is of type {number}, which ggml did not have when llmore was written").help(known);
    };
    let next = match *name {
        "I8" | "I16" | "I32" | "I64" | "F64" => "it is not a type for weights",
        "Q4_2" | "Q4_3" | "Q4_0_4_4" | "Q4_0_4_8" | "Q4_0_8_8" | "IQ4_NL_4_4" | "IQ4_NL_4_8" | "IQ4_NL_8_8" => {
            "ggml has dropped the type: take a newer file of the model"
        }
        _ => {
            "take a Q4_K_M or Q8_0 file of the model, or make one: `llama-quantize --allow-requantize in.gguf out.gguf Q8_0`"
        }
    };
    error!(Decode, "it is of type {name}, which is not supported").help(format!("{known}; {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_computed_is_called_by_its_name() {
        for (number, name) in OTHERS {
            let text = dtype(number).unwrap_err().to_string();
            assert!(text.contains(&format!("type {name},")), "{text}");
        }
        assert!(dtype(99).unwrap_err().to_string().contains("type 99"));
        assert!(OTHERS.is_sorted_by_key(|(number, _)| *number));
    }
}
