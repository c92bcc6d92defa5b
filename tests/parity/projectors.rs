//! Projectors that the reference does not have, against their description in torch.

use std::sync::Arc;

use candle_core::{Device, Var};
use llmore::models::config::Config;
use llmore::models::projectors::{Features, ProjectorChoice, VisualTokens, projector};
use llmore::models::registry::Target;
use llmore::weights::{Source, TensorFiles};

use super::{Expected, cases, differences, name};

const GRADIENT: f64 = 1e-4;

#[test]
fn tokens_and_gradients_are_those_of_torch() {
    for case in cases("projectors") {
        let (expected, name) = (Expected::open(&case), name(&case));
        let config = serde_json::from_slice(&std::fs::read(case.join("config.json")).unwrap()).unwrap();
        let choice = ProjectorChoice::from_config(&Config::new(config, "config.json")).unwrap();
        let features = Var::from_tensor(&expected.tensor("features")).unwrap();
        let (_, count, width) = features.dims3().unwrap();
        let weights = expected.tensor("weights");
        let output = weights.dims3().unwrap().2;
        let files = Arc::new(TensorFiles::open(&case.join("model.safetensors")).unwrap());
        let source = Source::Files { files: files.clone(), prefix: String::new() };
        let given = Features { tokens: VisualTokens::Free(count), width };
        let built = projector(&choice, given, output, source, &Target::cpu()).unwrap();
        assert!(built.unused.is_empty() && files.notes().list().is_empty(), "{name}: {:?}", files.notes().list());
        built.params.set_trainable(true).unwrap();

        let tokens = built.model.project(&features).unwrap();
        assert_eq!(tokens.dims()[1], built.model.tokens().count());
        let (max, _) = differences(&tokens, &expected.tensor("tokens"));
        assert!(max <= 1e-5, "{name}: tokens differ by {max:.2e}");
        let store = (tokens * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let mut worst = 0f64;
        let of_params = built.params.iter().map(|param| (param.name().to_string(), param.tensor().unwrap()));
        for (tensor, ours) in of_params.chain([("features".to_string(), features.as_tensor().clone())]) {
            let reference = expected.tensor(&format!("gradient.{tensor}"));
            let ours = store.get(&ours).unwrap_or_else(|| panic!("{name}: `{tensor}` has no gradient"));
            let largest = reference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let off = differences(&ours.to_device(&Device::Cpu).unwrap(), &reference).0 / f64::from(largest);
            assert!(off <= GRADIENT, "{name}: gradient of `{tensor}` is off by {off:.2e}");
            worst = worst.max(off);
        }
        println!("{name}: tokens differ by {max:.1e}, gradients by {worst:.1e}");
    }
}
