//! Coverage of intervals and false findings, by simulation. The small form runs with the tests; the whole one,
//! 10,000 repetitions and 2,000 grids, with `cargo test --release --test tests statistics -- --ignored --nocapture`.

use llmore::eval::stats::{Finish, Groups, difference, exchange, holm, interval};
use llmore::rng::Rng;
use rayon::prelude::*;

/// A population of images with questions that are easy or hard together.
#[derive(Clone, Copy, Debug)]
struct World {
    groups: usize,
    /// Questions a group.
    questions: usize,
    /// Images' chances of a right answer, each as likely.
    chances: [f64; 4],
    metric: Metric,
}

#[derive(Clone, Copy, Debug)]
enum Metric {
    Accuracy,
    F1,
    /// Two categories of images with two questions each: points as in MME.
    Points,
}

const WORLDS: [World; 6] = [
    World { groups: 30, questions: 6, chances: [0.4, 0.6, 0.8, 1.0], metric: Metric::Accuracy },
    World { groups: 50, questions: 6, chances: [0.7, 0.8, 0.9, 1.0], metric: Metric::F1 },
    World { groups: 60, questions: 2, chances: [0.5, 0.7, 0.9, 0.9], metric: Metric::Points },
    World { groups: 60, questions: 5, chances: [0.8, 0.9, 0.9, 1.0], metric: Metric::Accuracy },
    World { groups: 100, questions: 9, chances: [0.6, 0.8, 0.9, 1.0], metric: Metric::Accuracy },
    World { groups: 200, questions: 1, chances: [0.5, 0.6, 0.7, 0.8], metric: Metric::Accuracy },
];

impl World {
    /// Sums of one model over sampled images; `difficulty` is shared by models, `model` is not.
    fn sample(&self, difficulty: Rng, model: Rng) -> Groups {
        let finish = match self.metric {
            Metric::Accuracy => Finish::Ratio,
            Metric::F1 => Finish::F1,
            Metric::Points => Finish::Points(2),
        };
        let names: Vec<String> = (0..self.groups).map(|group| format!("{group:04}")).collect();
        let rows = (0..self.groups).map(|group| {
            let chance = self.chances[(difficulty.bits(group as u64) % 4) as usize];
            let at = |question: usize| (group * self.questions + question) as u64;
            let right: Vec<bool> = (0..self.questions).map(|q| model.uniform(at(q)) < chance).collect();
            let count = right.iter().filter(|right| **right).count() as f64;
            let category = (group % 2) as u32;
            let (stratum, sums) = match self.metric {
                Metric::Accuracy => (0, vec![count, self.questions as f64]),
                Metric::F1 => {
                    // Every other question is a "yes".
                    let of = |yes: bool, is_right: bool| {
                        right.iter().enumerate().filter(|(q, r)| (q % 2 == 0) == yes && **r == is_right).count() as f64
                    };
                    (0, vec![of(true, true), of(false, false), of(true, false)])
                }
                Metric::Points => {
                    let points = 50.0 * count + if count == 2.0 { 100.0 } else { 0.0 };
                    let sums = if category == 0 { vec![points, 1.0, 0.0, 0.0] } else { vec![0.0, 0.0, points, 1.0] };
                    (category, sums)
                }
            };
            (names[group].as_str(), stratum, sums)
        });
        let scale = if matches!(self.metric, Metric::Points) { 400.0 } else { 1.0 };
        Groups::collect(finish, scale, rows.collect::<Vec<_>>().into_iter())
    }

    /// The metric of the population.
    fn truth(&self) -> f64 {
        let mean = |f: &dyn Fn(f64) -> f64| self.chances.iter().map(|chance| f(*chance)).sum::<f64>() / 4.0;
        let chance = mean(&|chance| chance);
        match self.metric {
            // As many yes as no: precision and recall are both the chance of a right answer.
            Metric::Accuracy | Metric::F1 => chance,
            Metric::Points => 2.0 * (100.0 * chance + 100.0 * mean(&|chance| chance * chance)),
        }
    }
}

/// Shares of intervals that hold the truth: of a score, and of the difference of two equal models.
fn coverage(world: &World, repetitions: u64) -> (f64, f64) {
    let truth = world.truth();
    let covered: Vec<(bool, bool)> = (0..repetitions)
        .into_par_iter()
        .map(|repetition| {
            let rng = |name| Rng::new(1, name).split(repetition);
            let first = world.sample(rng("difficulty"), rng("first"));
            let second = world.sample(rng("difficulty"), rng("second"));
            let score = interval(&first).unwrap().contains(truth);
            (score, difference(&first, &second).unwrap().contains(0.0))
        })
        .collect();
    let share =
        |of: &dyn Fn(&(bool, bool)) -> bool| covered.iter().filter(|c| of(c)).count() as f64 / covered.len() as f64;
    (share(&|c| c.0), share(&|c| c.1))
}

/// The share of grids of equal models in which anything is found: 4 models on 3 benchmarks, 9 comparisons.
fn false_findings(grids: u64) -> f64 {
    let worlds = [WORLDS[0], WORLDS[1], WORLDS[4]];
    let found = (0..grids).into_par_iter().filter(|grid| {
        let mut p = Vec::new();
        for (number, world) in worlds.iter().enumerate() {
            let rng = |name: &str, model: u64| Rng::new(2, name).split(*grid).split(number as u64).split(model);
            let first = world.sample(rng("difficulty", 0), rng("model", 0));
            let others = (1..4).map(|model| world.sample(rng("difficulty", 0), rng("model", model)));
            p.extend(others.map(|other| exchange(&first, &other)));
        }
        holm(&p).iter().any(|p| *p < 0.05)
    });
    found.count() as f64 / grids as f64
}

#[test]
fn intervals_hold_the_truth() {
    for world in &WORLDS[..1] {
        let (score, difference) = coverage(world, 2_000);
        println!("{world:?}: {score:.4} {difference:.4}");
        assert!((0.935..=0.965).contains(&score) && (0.935..=0.965).contains(&difference), "{score} {difference}");
    }
}

#[test]
#[ignore = "minutes; the figures are in docs/statistics.md"]
fn intervals_at_full_size() {
    for world in &WORLDS {
        let (score, difference) = coverage(world, 10_000);
        println!("{world:?}: score {:.2} %, difference {:.2} %", 100.0 * score, 100.0 * difference);
        assert!((0.94..=0.96).contains(&score) && (0.94..=0.96).contains(&difference));
    }
}

#[test]
#[ignore = "minutes; the figures are in docs/statistics.md"]
fn grids_at_full_size() {
    let found = false_findings(2_000);
    println!("grids of equal models with a false finding: {:.2} %", 100.0 * found);
    assert!(found <= 0.06);
}
