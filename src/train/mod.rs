//! Training: options and recipes, schedules, the optimizer's state, the loop, checkpoints and run folders.
//! Takes a [`Vlm`](crate::vlm::Vlm) and a data set, tells events, prints nothing.

mod audit;
mod backward;
mod checkpoint;
mod diff;
mod dry;
mod feed;
mod fit;
mod fits;
mod folder;
mod gradients;
mod identity;
mod moments;
mod optimizer;
mod options;
mod plan;
mod recipe;
mod run;
mod same_weights;
mod schedule;
mod summary;
mod tensorboard;
mod trainer;
mod trouble;

pub use audit::Audit;
pub use checkpoint::checkpoints;
pub use diff::{Difference, LossDifference, RunDiff};
pub use fit::{Fit, Status};
pub use fits::{Alternatives, Saving};
pub use folder::{Place, is_part_of_run};
pub use moments::MomentKind;
pub use options::{Features, LossKind, TRAINER, TrainOptions, Turns, overrule};
pub use plan::{DiskPlan, FeaturePlan, Limits, MemoryPlan, Plan, TimePlan};
pub use recipe::{Recipe, Stage};
pub use run::{Lock, Run, SUMMARY};
pub use same_weights::WeightDifference;
pub use schedule::Schedule;
pub use summary::{Moved, Summary, Verified, sha256_of};
pub use trainer::{Trainer, TrainerSetup};
