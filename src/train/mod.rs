//! Training: options and recipes, schedules, the optimizer's state, the loop, checkpoints and run folders.
//! Takes a [`Vlm`](crate::vlm::Vlm) and a data set, tells events, prints nothing.

mod audit;
mod backward;
mod checkpoint;
mod diff;
mod feed;
mod gradients;
mod optimizer;
mod options;
mod plan;
mod recipe;
mod run;
mod schedule;
mod tensorboard;
mod trainer;

pub use audit::Audit;
pub use diff::{Difference, LossDifference, RunDiff};
pub use options::{LossKind, TrainOptions};
pub use plan::Plan;
pub use recipe::{Recipe, Stage};
pub use run::{Lock, Run};
pub use schedule::Schedule;
pub use trainer::{Fit, Status, Trainer, TrainerSetup};
