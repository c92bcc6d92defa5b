//! Adapters against PEFT: its files are read, its logits and gradients are met.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use llmore::models::LanguageModel;
use llmore::models::config::Config;
use llmore::models::registry::{self, Built, Target};
use llmore::nn::packing::Packing;
use llmore::vlm::Lora;
use llmore::weights::{Source, TensorFiles};
use serde_json::Value;

use super::{Expected, cases, differences, name};

const LOGITS: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const PREFIX: &str = "base_model.model.";

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn source(path: &Path, prefix: &str) -> Source {
    Source::Files { files: Arc::new(TensorFiles::open(path).unwrap()), prefix: prefix.to_string() }
}

fn adapted(case: &Path) -> (Built<dyn LanguageModel>, Lora) {
    let config = Config::new(json_of(&case.join("config.json")), "config.json");
    let built = registry::llm(&config, source(case, ""), &Target::cpu()).unwrap();
    let config = Config::new(json_of(&case.join("adapter/adapter_config.json")), "adapter_config.json");
    let files = Arc::new(TensorFiles::open(&case.join("adapter")).unwrap());
    let lora = Lora::open(&built.params, &config, files, &Device::Cpu).unwrap();
    (built, lora)
}

fn logits(model: &dyn LanguageModel, ids: &[u32]) -> Tensor {
    let embeds = model.embed(&Arc::from(ids)).unwrap();
    model.logits(&model.hidden(&embeds, &Packing::whole(&[ids.len()]), None).unwrap()).unwrap()
}

#[test]
fn adapters_of_peft_give_its_logits_and_gradients() {
    let mut gradients = 0;
    for case in cases("lora") {
        let (expected, name) = (Expected::open(&case), name(&case));
        let ids = expected.tensor("ids").to_vec1::<u32>().unwrap();
        let (built, lora) = adapted(&case);
        let (max, _) = differences(&logits(&*built.model, &ids), &expected.tensor("logits"));
        println!("{name}: logits differ by {max:.1e}");
        assert!(max <= LOGITS, "{name}: logits differ by {max:.2e}");

        lora.params.set_trainable(true).unwrap();
        let packing = Packing::whole(&[ids.len()]).with_rows((0..ids.len() as u32 - 1).collect());
        let hidden = built.model.hidden(&built.model.embed(&Arc::from(&ids[..])).unwrap(), &packing, None).unwrap();
        let sum = built.model.loss_sum(&hidden, &Arc::from(&ids[1..])).unwrap();
        let store = (sum / (ids.len() - 1) as f64).unwrap().backward().unwrap();
        for base in built.params.iter() {
            assert!(store.get(&base.tensor().unwrap()).is_none(), "{name}: frozen `{}` has a gradient", base.name());
        }
        for param in lora.params.iter() {
            let expected = expected.tensor(&format!("gradient.{PREFIX}{}", param.name()));
            let scale = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let (max, _) = differences(store.get(&param.tensor().unwrap()).unwrap(), &expected);
            assert!(max <= GRADIENT * f64::from(scale), "{name}: gradient of {} differs by {max:.2e}", param.name());
            gradients += 1;
        }

        lora.params.set_trainable(false).unwrap();
        for base in built.params.iter() {
            base.assign(&base.merged().unwrap()).unwrap();
            base.set_adapter(None);
        }
        let (max, _) = differences(&logits(&*built.model, &ids), &expected.tensor("merged.logits"));
        assert!(max <= LOGITS, "{name}: merged logits differ by {max:.2e}");
    }
    // Two layers of three blocks, four of three: two matrices each.
    assert_eq!(gradients, 2 * 3 * 2 + 4 * 3 * 2);
}
