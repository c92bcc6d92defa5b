//! Training: options and recipes, schedules, the optimizer's state, the loop, checkpoints and run folders.
//! Takes a [`Vlm`](crate::vlm::Vlm) and a data set, reports events, prints nothing.

mod alternatives;
mod audit;
mod backward;
mod checkpoint;
mod diff;
mod disk;
mod dry;
mod exchange;
mod feed;
mod fit;
mod fits;
mod folder;
mod gradients;
mod identity;
mod leaves;
mod lengths;
mod moments;
mod optimizer;
mod options;
mod pass;
mod plan;
mod recipe;
mod resume;
mod run;
mod same_weights;
mod schedule;
mod step;
mod summary;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trainer;
mod trouble;

pub use alternatives::Alternatives;
pub use audit::Audit;
pub use diff::{Difference, LossDifference, RunDiff};
pub use disk::DiskPlan;
pub use exchange::{Alone, Exchange};
pub use fit::{Fit, Status};
pub use fits::Saving;
pub use folder::{RunPlace, is_part_of_run};
pub use leaves::{Summand, pairwise};
pub use moments::MomentKind;
pub use options::{Features, LossKind, TRAINER, TrainOptions, Turns, overrule, usual_length};
pub use plan::{FeaturePlan, Limits, MemoryPlan, Plan, TimePlan};
pub use recipe::{Recipe, Stage};
pub use run::{Lock, Run, SUMMARY, checkpoints};
pub use same_weights::WeightDifference;
pub use schedule::Schedule;
pub use step::{Sight, Stepped, Stepper};
pub use summary::{Moved, Summary, Verified};
pub use trainer::{Trainer, TrainerSetup};
