//! Statistics of studies whose answers are made up, so that they can be computed by hand.

use llmore::eval::{Benchmark, BenchmarkOptions, Results};
use llmore::preset::Presets;
use llmore::study::{Folder, Record, ResultFile, StudyCell};

use super::scripting::{scratch, without_sums};
use super::study::strings;

/// A cell and a question of a made-up study, by position.
struct At {
    encoder: usize,
    llm: usize,
    seed: u64,
    benchmark: usize,
    question: usize,
}

/// A study's folder with made-up answers: `right` says which are.
fn made_up(
    name: &str,
    (encoders, llms, benchmarks): (&[&str], &[&str], &[&str]),
    questions: usize,
    right: &dyn Fn(At) -> bool,
) -> Folder {
    let out = scratch(name);
    let options = BenchmarkOptions { limit: Some(questions), ..BenchmarkOptions::default() };
    let open = |id: &&str| Benchmark::open(&Presets::default(), id, &options).unwrap();
    let opened: Vec<Benchmark> = benchmarks.iter().map(open).collect();
    let places = (0..encoders.len()).flat_map(|e| (0..llms.len()).flat_map(move |l| [(e, l, 0), (e, l, 1)]));
    let mut cells = Vec::new();
    for (encoder, llm, seed) in places {
        let id = format!("{}--{}--s{seed}", encoders[encoder], llms[llm]);
        let folder = format!("cells/{id}");
        std::fs::create_dir_all(out.join(&folder)).unwrap();
        let mut results = Vec::new();
        for (benchmark, set) in opened.iter().enumerate() {
            let answer = |(question, item): (usize, &llmore::eval::Item)| {
                let is_right = right(At { encoder, llm, seed, benchmark, question });
                if is_right { item.gold.answer.all()[0].to_string() } else { "X".to_string() }
            };
            let outputs: Vec<String> = set.items.iter().enumerate().map(answer).collect();
            let file = format!("{folder}/{}.jsonl", set.id);
            Results::score_outputs(set, "made up", &outputs, 0.0).unwrap().save(&out.join(&file)).unwrap();
            results.push(ResultFile { benchmark: set.id.clone(), file, answered: None });
        }
        let (encoder, llm) = (encoders[encoder].to_string(), llms[llm].to_string());
        cells.push(StudyCell { id, encoder, llm, seed, folder, stages: Vec::new(), error: None, results });
    }
    let record = Record {
        about: "made up".to_string(),
        encoders: strings(encoders),
        llms: strings(llms),
        projector: "linear".to_string(),
        recipe: "none".to_string(),
        benchmarks: strings(benchmarks),
        seeds: vec![0, 1],
        limit: Some(questions),
        seeds_from: 1,
        questions: Default::default(),
        baselines: Default::default(),
        computed: None,
        protocol: Vec::new(),
        cells,
    };
    std::fs::write(out.join("study.toml"), toml::to_string(&record).unwrap()).unwrap();
    Folder::open(&out).unwrap()
}

#[test]
fn what_is_real_is_told_apart_from_what_is_not() {
    // Of 200 questions about as many pictures `good` has 140 right, `poor` 100 of the same, both with every seed; `other` has
    // what `poor` has but for two questions, and of those one more.
    let folder = made_up("study-told-apart", (&["good", "poor", "other"], &["lm"], &["tiny-seed"]), 200, &|at| match (
        at.encoder,
        at.question,
    ) {
        (0, i) => i % 10 < 7,
        (1, i) => i % 10 < 5,
        (_, i) => (i % 10 < 5 && i != 10) || i == 7 || i == 17,
    });
    let table = folder.table().unwrap();
    let row = |i: usize| table.rows[i][2].text.as_str();
    assert!(row(0).starts_with("70.0 \u{b1}0.0 (") && table.rows[0][2].bold, "{}", row(0));
    assert!(row(1).starts_with("50.0 \u{b1}0.0 (") && !table.rows[1][2].bold && !row(1).contains('\u{2248}'));
    assert_eq!(table.rows[2][2].value, 0.505);

    let differences = folder.differences().unwrap();
    assert_eq!(differences.rows[0][3].text, "+20.0");
    // 40 questions all on one side: the exact exchange test is at its smallest, three tests correct it threefold.
    assert!(differences.rows[0][5].value.as_f64().unwrap() < 0.001);
    // poor against other, 1 to 2 questions: all 8 exchanges are at least as far apart.
    assert_eq!(differences.rows[2][3].text, "\u{2212}0.5");
    assert_eq!(differences.rows[2][5].value, 1.0);
    assert_eq!(differences.rows[2][8].text, "not told apart");

    let conclusion = folder.conclusion().unwrap();
    let start = "good beats poor by 20.0 points (95 % interval ";
    assert!(conclusion.starts_with(start), "{conclusion}");
    assert!(conclusion.contains("p < 0.001 after Holm); good beats other by 19.5 points"), "{conclusion}");
    assert!(
        conclusion.contains("; other and poor cannot be told apart with 200 questions: 0.5 points"),
        "{conclusion}"
    );
}

/// Both encoders answer alike, with every seed: nothing varies, so nothing can be said about what would be found.
#[test]
fn a_study_without_variance_says_nothing_about_power() {
    let folder = made_up("study-alike", (&["a", "b"], &["lm"], &["tiny-seed"]), 50, &|at| at.question % 2 == 0);
    let row = &folder.differences().unwrap().rows[0];
    assert_eq!(
        (row[3].text.as_str(), row[6].text.as_str(), row[8].text.as_str()),
        ("0.0", "unknown", "not told apart")
    );
    let conclusion = folder.conclusion().unwrap();
    assert!(conclusion.contains("is not known, as nothing varies") && !conclusion.contains("80 %"), "{conclusion}");
}

#[test]
fn a_difference_that_seeds_make_is_not_taken_for_one_of_encoders() {
    // With seed 0 `a` is 40 questions ahead, with seed 1 behind by 10: 15 of 100 on average, with a standard error over seeds
    // of sqrt(((0.4 - 0.15)^2 + (-0.1 - 0.15)^2) / 2) = 0.25.
    let folder =
        made_up("study-seeds", (&["a", "b"], &["lm"], &["tiny-seed"]), 100, &|at| match (at.encoder, at.seed) {
            (0, 0) => at.question < 80,
            (0, _) => at.question < 30,
            _ => at.question < 40,
        });
    let row = &folder.differences().unwrap().rows[0];
    assert_eq!((row[3].text.as_str(), row[7].text.as_str(), row[8].text.as_str()), ("+15.0", "25.0", "within seeds"));
    // 55 % and 40 % are means of two seeds; the first spreads by 50 / sqrt(2).
    let table = folder.table().unwrap();
    assert!(table.rows[0][2].text.starts_with("55.0 \u{b1}35.4 ("), "{}", table.rows[0][2].text);
    let conclusion = folder.conclusion().unwrap();
    assert!(conclusion.contains("other seeds alone move that by \u{b1}317.6"), "{conclusion}");
}

#[test]
fn a_results_file_that_still_grows_does_not_count() {
    let folder = made_up("study-growing", (&["a", "b"], &["lm"], &["tiny-seed"]), 20, &|at| at.question < 10);
    let path = folder.dir().join("cells/b--lm--s1/tiny-seed.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let folder = Folder::open(folder.dir()).unwrap();
    assert!(folder.results(3, 0).is_none() && folder.results(2, 0).is_some());
    // The pair of the other seed is what is left to compare.
    assert_eq!(folder.differences().unwrap().rows[0][3].text, "0.0");
}

#[test]
fn axes_are_averaged_over_and_drawn() {
    // Percent right by encoder, more with the second LLM, less from benchmark to benchmark, and 4 less with seed 1.
    let axes: (&[&str], &[&str], &[&str]) =
        (&["clip", "siglip", "dinov2"], &["phi-4-mini", "gemma-2-9b"], &["tiny-vqa", "tiny-pope", "tiny-seed"]);
    let folder = made_up("study-drawn", axes, 300, &|at| {
        let percent = [61, 74, 58][at.encoder] + 12 * at.llm - 8 * at.benchmark - 4 * at.seed as usize;
        // 37 is prime to 100, so that every hundred questions hold each number once.
        at.question * 37 % 100 < percent
    });
    let differences = folder.differences().unwrap();
    // 3 pairs of encoders and one of LLMs, on the mean and on three benchmarks.
    assert_eq!(differences.rows.len(), 4 * 4);
    let of = |row: usize| differences.rows[row][..4].iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>();
    // The F1 of tiny-pope is no mean of right answers, so only the others are known in advance.
    assert_eq!(of(4), ["clip", "siglip", "tiny-vqa", "\u{2212}13.0"]);
    assert_eq!(of(7), ["phi-4-mini", "gemma-2-9b", "tiny-vqa", "\u{2212}12.0"]);
    assert_eq!(of(13), ["clip", "dinov2", "tiny-seed", "+3.0"]);
    assert!(folder.conclusion().unwrap().contains("siglip beats clip by "), "{}", folder.conclusion().unwrap());
    let table = folder.table().unwrap();
    assert_eq!((table.rows.len(), table.columns.len()), (6, 6));
    for (name, figure) in [("bars", folder.bars().unwrap()), ("radar", folder.radar().unwrap())] {
        figure.save(&folder.dir().join(format!("{name}.png"))).unwrap();
        let svg = figure.svg().unwrap();
        assert!(svg.contains("siglip + gemma-2-9b") && svg.contains("tiny-pope"), "{name}");
    }
    let text = [table.text(None, false), differences.text(None, false), folder.conclusion().unwrap()].join("\n");
    std::fs::write(folder.dir().join("tables.txt"), text).unwrap();
}

#[test]
fn a_study_does_not_mix_prompts() {
    let folder = made_up("study-mixed", (&["a", "b"], &["lm"], &["tiny-seed"]), 20, &|at| at.question < 10);
    let path = folder.dir().join("cells/b--lm--s1/tiny-seed.jsonl");
    let text = without_sums(&std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, text.replacen("\"prompt\":\"", "\"prompt\":\"Please: ", 1)).unwrap();
    let error = Folder::open(folder.dir()).map(|_| ()).unwrap_err();
    assert!(error.message().contains("question `0` has another prompt for b--lm--s1 than for a--lm--s0"), "{error}");
}

#[test]
fn a_cell_with_fewer_answers_than_another_is_not_done() {
    let folder = made_up("study-fewer", (&["a", "b"], &["lm"], &["tiny-seed"]), 20, &|at| at.question < 10);
    assert_eq!(folder.record().finished(), 4);
    let mut record = folder.record().clone();
    record.cells[1].results[0].answered = Some(19);
    std::fs::write(folder.dir().join("study.toml"), toml::to_string(&record).unwrap()).unwrap();
    let path = folder.dir().join(&record.cells[1].results[0].file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.lines().take(19).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert_eq!(Folder::open(folder.dir()).unwrap().record().finished(), 3);
}
