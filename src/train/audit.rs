//! The audit before the first step: every tensor declared trainable receives a finite, non-zero gradient, and no
//! frozen one would move. Stock candle ops stop gradients silently; this is where it shows.

use super::step::Stepper;
use crate::error;
use crate::error::{Error, Result};

/// How many micro-batches may pass until every tensor was reached (a batch can be text-only).
const MICRO_BATCHES: usize = 8;

/// What the audit found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Tensors that will be trained.
    pub trained: usize,
    /// Tensors that should stay as they are.
    pub frozen: usize,
    /// Trainable tensors that no gradient reached.
    pub unreached: Vec<String>,
    /// Trainable tensors whose gradient is zero everywhere.
    pub zero: Vec<String>,
    /// Trainable tensors with NaN or infinity in the gradient.
    pub not_finite: Vec<String>,
    /// Tensors that should be frozen but are tracked.
    pub moving: Vec<String>,
}

impl Audit {
    /// Trainable tensors with a gradient as it should be.
    pub fn good(&self) -> usize {
        self.trained.saturating_sub(self.unreached.len() + self.zero.len() + self.not_finite.len())
    }

    /// Frozen tensors that stay as they are.
    pub fn still(&self) -> usize {
        self.frozen.saturating_sub(self.moving.len())
    }

    /// Whether training may start.
    pub fn passed(&self) -> bool {
        self.error().is_none()
    }

    /// Why training must not start.
    pub fn error(&self) -> Option<Error> {
        let findings = [
            (
                &self.unreached,
                "receive no gradient",
                "an op on the way to them has no backward, or no sample uses them",
            ),
            (&self.not_finite, "receive a gradient that is not finite", "look at the data and the learning rate"),
            (&self.zero, "receive a gradient of zeros", "something on the way to them is constant"),
            (&self.moving, "are declared frozen but would be updated", "make a new trainer for this model"),
        ];
        findings.into_iter().find(|(names, _, _)| !names.is_empty()).map(|(names, what, help)| {
            let shown: Vec<_> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > 4 { format!(" and {} more", names.len() - 4) } else { String::new() };
            error!(
                Train,
                "audit: {} of {} trainable tensors {what}: {}{more}",
                names.len(),
                self.trained,
                shown.join(", ")
            )
            .help(help)
        })
    }
}

impl Audit {
    /// Looks at the gradients of the first micro-batches; nothing is updated.
    ///
    /// # Errors
    /// What reading and computing the samples gives; what is found is no error here but one of [`error`](Self::error).
    pub fn of(stepper: &Stepper) -> Result<Self> {
        stepper.activate()?;
        match stepper.lora() {
            Some(lora) => lora.probed(|| look(stepper)),
            None => look(stepper),
        }
    }
}

fn look(stepper: &Stepper) -> Result<Audit> {
    let trained = stepper.trained();
    let mut audit = Audit { trained: trained.len(), ..Audit::default() };
    let names: std::collections::HashSet<&str> = trained.iter().map(|t| t.name.as_str()).collect();
    for (name, _, param) in stepper.vlm().named_params() {
        if !names.contains(name.as_str()) {
            audit.frozen += 1;
            if param.is_trainable() {
                audit.moving.push(name);
            }
        }
    }
    let mut state: Vec<Option<f64>> = vec![None; trained.len()];
    for micro in stepper.first_micro_batches(MICRO_BATCHES) {
        let micro = micro?;
        let features = stepper.loader.encode(&micro)?;
        let Some(loss) = stepper.pass().forward(&micro, features.as_ref())? else { continue };
        loss.backward(stepper.vlm(), 1.0, &mut |gradients| {
            for (state, trained) in state.iter_mut().zip(trained) {
                if let Some(gradient) = gradients.get(&trained.param.tensor()?) {
                    let norm = crate::nn::ops::squared_norm(gradient)?;
                    *state = Some(state.unwrap_or(0.0) + norm);
                }
            }
            Ok(())
        })?;
        if state.iter().all(|state| state.is_some_and(|norm| norm > 0.0 || norm.is_nan())) {
            break;
        }
    }
    for (state, trained) in state.iter().zip(trained) {
        match state {
            None => audit.unreached.push(trained.name.clone()),
            Some(norm) if !norm.is_finite() => audit.not_finite.push(trained.name.clone()),
            Some(norm) if *norm == 0.0 => audit.zero.push(trained.name.clone()),
            Some(_) => {}
        }
    }
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{model, trainer};
    use super::*;
    use crate::scratch::scratch;

    #[test]
    fn a_tensor_that_fails_is_not_counted_as_good() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let audit = Audit {
            trained: 9,
            frozen: 4,
            unreached: names(&["a", "b"]),
            zero: names(&["c"]),
            not_finite: names(&["d"]),
            moving: names(&["e"]),
        };
        assert_eq!((audit.good(), audit.still()), (5, 3));
    }

    #[test]
    fn each_finding_is_an_error_of_its_own() {
        let names = || vec!["a".to_string()];
        let none = || Audit { trained: 3, frozen: 2, ..Audit::default() };
        assert!(none().passed());
        let cases = [
            (Audit { unreached: names(), ..none() }, "receive no gradient: `a`"),
            (Audit { zero: names(), ..none() }, "receive a gradient of zeros: `a`"),
            (Audit { not_finite: names(), ..none() }, "receive a gradient that is not finite: `a`"),
            (Audit { moving: names(), ..none() }, "are declared frozen but would be updated: `a`"),
        ];
        for (audit, said) in cases {
            assert!(!audit.passed() && audit.error().unwrap().message().contains(said), "{audit:?}");
        }
    }

    #[test]
    fn a_frozen_tensor_that_is_tracked_is_found() {
        let vlm = model();
        let table = "batch = 2\nsteps = 1\ntrain = { projector = 1e-3 }";
        let trainer = trainer(&vlm, 2, table, &scratch("moving"));
        trainer.stepper.activate().unwrap();
        let norm = vlm.named_params().into_iter().find(|(name, _, _)| name == "model.norm.weight").unwrap().2;
        norm.set_trainable(true).unwrap();
        let audit = look(&trainer.stepper).unwrap();
        assert_eq!((audit.moving.as_slice(), audit.passed()), (["model.norm.weight".to_string()].as_slice(), false));
    }
}
