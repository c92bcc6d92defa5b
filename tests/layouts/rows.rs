//! Rows that belong to another benchmark, and those of people's own.

use super::*;

#[test]
fn rows_of_another_benchmark_are_refused() {
    // Both presets of TextVQA and of MMBench read the same columns.
    let family = |id: &str| id.split('_').next().unwrap().to_string();
    for (owner, set, ..) in SETS {
        let file = tree(&format!("rows-of-{owner}"), &[("rows.jsonl", set, 3)]).join("rows.jsonl");
        for (id, ..) in SETS {
            match open(id, &file) {
                Ok(b) => assert!(family(id) == family(owner) && b.items.len() == 3, "`{id}` takes rows of `{owner}`"),
                Err(error) => {
                    assert!(family(id) != family(owner) && !told(error).is_empty(), "`{id}` refuses its own rows")
                }
            }
        }
    }
    // VLMEvalKit's RealWorldQA has the choices apart: its questions alone cannot be answered.
    let root = scratch("layouts/vlmevalkit");
    std::fs::write(
        root.join("RealWorldQA.tsv"),
        "index\timage\tquestion\tA\tB\tanswer\n0\ta.png\tIs it?\tyes\tno\tA\n",
    )
    .unwrap();
    assert!(refused("realworldqa", &root.join("RealWorldQA.tsv")).contains("without their choices"));
}

#[test]
fn a_few_fields_are_enough_for_rows_of_ones_own() {
    let enough = [
        ("gqa", json!({"id": 1, "imageId": "n1", "question": "q", "answer": "a"})),
        ("scienceqa_img", json!({"question": "q", "choices": ["a", "b"], "answer": 0, "image": "a.png"})),
        ("textvqa_val", json!({"question_id": 1, "question": "q", "answers": ["a"], "image": "a.png"})),
        ("ai2d", json!({"question": "q", "options": ["a", "b"], "answer": 0, "image": "a.png"})),
        ("chartqa", json!({"question": "q", "answer": "a", "image": "a.png"})),
        ("docvqa", json!({"questionId": 1, "question": "q", "answers": ["a"], "image": "a.png"})),
        ("mme", json!({"question_id": "a", "question": "q", "answer": "Yes", "category": "color", "image": "a.png"})),
        ("pope", json!({"question_id": 1, "question": "q", "answer": "yes", "image": "a.png"})),
        ("pope", json!({"question_id": 1, "question": "q", "answer": "yes", "category": "random", "image": "a.png"})),
        ("mmbench_en_dev", json!({"index": 1, "question": "q", "answer": "A", "A": "a", "B": "b", "image": "a.png"})),
        (
            "mmmu_val",
            json!({"id": "validation_Art_1", "question": "<image 1>", "options": "['a', 'b']", "answer": "A",
            "question_type": "multiple-choice", "image_1": "a.png"}),
        ),
        ("ok_vqa", json!({"question_id": 1, "question": "q", "answers": ["a"], "image": "a.png"})),
        ("realworldqa", json!({"question": "q", "answer": "A", "image": "a.png", "my_note": "x"})),
        ("vizwiz_vqa", json!({"question_id": 1, "question": "q", "answers": ["a"], "image": "a.png"})),
        ("vqav2", json!({"question_id": 1, "question": "q", "answers": ["a"], "image": "a.png"})),
        ("llava_bench", json!({"question_id": 1, "question": "q", "image": "a.png"})),
    ];
    for (n, (id, row)) in enough.iter().enumerate() {
        let file = scratch(&format!("layouts/enough-{n}")).join("x.jsonl");
        std::fs::write(&file, row.to_string()).unwrap();
        assert_eq!(count(id, &file), 1, "{id}");
    }
}
