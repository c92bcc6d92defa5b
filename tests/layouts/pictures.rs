//! Where the pictures of a benchmark are: apart, in its rows, beside them.

use super::*;

#[test]
fn pictures_apart_are_a_table_or_a_folder_and_wanted() {
    let root = tree("apart", &[("rows.jsonl", "gqa", 2), ("text.jsonl", "textvqa", 2)]);
    let pictures = root.join("images");
    std::fs::create_dir_all(&pictures).unwrap();
    for name in ["n0.jpg", "n1.PNG"] {
        std::fs::write(pictures.join(name), "x").unwrap();
    }
    let b = open_with("gqa", &root.join("rows.jsonl"), Some(&pictures)).unwrap();
    assert_eq!((b.items.len(), b.left_out.len()), (2, 0));
    assert!(b.items[1].images[0].key().ends_with("images/n1.PNG"));
    std::fs::remove_file(pictures.join("n1.PNG")).unwrap();
    let b = open_with("gqa", &root.join("rows.jsonl"), Some(&pictures)).unwrap();
    assert!(b.items.len() == 1 && b.left_out[0].message().contains("there is no picture `n1`"));
    std::fs::write(pictures.join("n0.png"), "y").unwrap();
    assert!(open_with("gqa", &root.join("rows.jsonl"), Some(&pictures)).is_err());
    let empty = scratch("layouts/no-pictures");
    let error = open_with("gqa", &root.join("rows.jsonl"), Some(&empty)).err().unwrap();
    assert!(told(error).contains("named by their ids"));
    for (id, set, ..) in SETS.iter().filter(|(id, ..)| *id != "gqa") {
        let file = tree(&format!("{id}-images"), &[("x.jsonl", set, 1)]).join("x.jsonl");
        let error = open_with(id, &file, Some(&pictures)).err().unwrap_or_else(|| panic!("{id}"));
        assert!(told(error).contains("takes no `images`"), "{id}");
    }
    let presets = Presets::default();
    let error = Benchmark::open(&presets, "gqa", &BenchmarkOptions::default()).err().unwrap();
    assert!(told(error).contains("images"));
    let images = BenchmarkOptions { images: Some(pictures), ..BenchmarkOptions::default() };
    assert!(Benchmark::open(&presets, "tiny-vqa", &images).is_err());
}

#[test]
fn pictures_as_base64_text_are_pictures() {
    let root = scratch("layouts/base64");
    let header = "index\tquestion\thint\tA\tB\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit";
    // The second row's picture is the first one's, as VLMEvalKit writes it; the third's question holds a quoted tab.
    let rows = [
        format!("0\tq\t\tx\ty\tA\tocr\t{PIXEL}\ts\tf\t\tdev"),
        "1000000\tq\t\ty\tx\tB\tocr\t0\ts\tf\t\tdev".to_string(),
        format!("2\t\"a\tb \"\"c\"\"\nd\"\th\tx\ty\tB\tocr\t{PIXEL}\ts\tf\t\tdev"),
    ];
    std::fs::write(root.join("mmbench_dev_20230712.tsv"), format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    for data in [root.clone(), root.join("mmbench_dev_20230712.tsv")] {
        let b = open("mmbench_en_dev", &data).unwrap();
        assert_eq!((b.items.len(), b.left_out.len()), (3, 0));
        assert!(b.items[2].prompt.starts_with("h a\tb \"c\"\nd There"), "{}", b.items[2].prompt);
        for item in &b.items {
            let image = item.images[0].open().unwrap();
            assert_eq!((image.width, image.height, item.images[0].key().len() < 300), (1, 1, true));
        }
        let hash = |n: usize| b.items[n].images[0].sha256().unwrap();
        assert!(hash(0) == hash(1) && hash(0) == hash(2));
    }
    // In JSON lines, in a list, and as an address.
    for (n, image) in [json!(PIXEL), json!([PIXEL]), json!(format!("data:image/png;base64,{PIXEL}"))].iter().enumerate()
    {
        let row = json!({"index": 1, "question": "q", "answer": "A", "A": "a", "B": "b", "image": image});
        for (name, text) in [("x.jsonl", row.to_string()), ("x.json", json!([row]).to_string())] {
            let file = scratch(&format!("layouts/base64-{n}")).join(name);
            std::fs::write(&file, text).unwrap();
            let b = open("mmbench_en_dev", &file).unwrap();
            assert_eq!(b.items[0].images[0].open().unwrap().width, 1, "{name}");
        }
    }
    // Damaged text is an error of its row, and is not quoted.
    let row = json!({"index": 1, "question": "q", "answer": "A", "A": "a", "B": "b", "image": format!("{PIXEL}!{}", "A".repeat(9000))});
    std::fs::write(root.join("y.jsonl"), row.to_string()).unwrap();
    match open("mmbench_en_dev", &root.join("y.jsonl")) {
        Ok(b) => {
            let error = b.left_out.first().cloned().unwrap_or_else(|| b.items[0].images[0].open().err().unwrap());
            assert!(error.to_string().len() < 500, "{error}");
        }
        Err(error) => assert!(error.to_string().len() < 700, "{error}"),
    }
}

#[test]
fn files_of_llavas_evaluation_folder_are_opened_or_named() {
    let root = scratch("layouts/eval");
    let file = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    // POPE's own files: the split is in the name, pictures are COCO's.
    for (n, split) in ["adversarial", "popular", "random"].iter().enumerate() {
        let row =
            |id: usize| json!({"question_id": id, "image": "COCO_val2014_1.jpg", "text": "Is there?", "label": "yes"});
        file(
            &format!("pope/coco/coco_pope_{split}.json"),
            &(0..n + 1).map(|id| row(id).to_string() + "\n").collect::<String>(),
        );
    }
    file("pope/val2014/COCO_val2014_1.jpg", "x");
    let b = open("pope", &root.join("pope/coco")).unwrap();
    let categories: Vec<&str> = b.items.iter().map(|item| item.category.as_str()).collect();
    assert_eq!(categories, ["adversarial", "popular", "popular", "random", "random", "random"]);
    assert!(b.left_out.is_empty() && b.items[0].gold.answer.first() == "yes");
    assert!(b.items[0].images[0].key().ends_with("pope/coco/../val2014/COCO_val2014_1.jpg"));
    let b = open("pope", &root.join("pope/coco/coco_pope_popular.json")).unwrap();
    assert!(b.items.len() == 2 && b.items[0].category == "popular");
    // Lists of rows, in one line and indented.
    let rows: Vec<Value> = (0..3).map(|n| row("ai2d", n)).collect();
    for text in [serde_json::to_string(&rows).unwrap(), serde_json::to_string_pretty(&rows).unwrap()] {
        assert_eq!(count("ai2d", &file("list.json", &text)), 3);
    }
    let is = |id: &str, path: &Path, words: &[&str]| {
        let message = refused(id, path);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(message.contains("lmms-lab"), "{message}");
    };
    let question = "{\"question_id\": \"1\", \"image\": \"1.jpg\", \"text\": \"Is it?\", \"category\": \"default\"}\n";
    let no_answers = file("q/llava_x.jsonl", question);
    for (id, set, ..) in SETS.iter().filter(|(_, set, ..)| *set != "llava_bench") {
        is(id, &no_answers, &["questions without answers"]);
        let _ = set;
    }
    assert_eq!(count("llava_bench", &no_answers), 1);
    let entry =
        |n: usize| format!("\"{n}\": {{\"imageId\": \"n1\", \"question\": \"Is it red?\", \"answer\": \"yes\"}}");
    let entries: Vec<String> = (0..5000).map(entry).collect();
    let one_line = file("gqa/testdev_balanced_questions.json", &format!("{{{}}}", entries.join(", ")));
    is(
        "gqa",
        &one_line,
        &["one object with 5000 entries by name (`0`, `1`, `2`, ...)", "testdev_balanced_instructions"],
    );
    let indented = file("s/problems.json", &format!("{{\n  {}\n}}\n", entries.join(",\n  ")));
    is("scienceqa_img", &indented, &["one object with 5000 entries", "ScienceQA-IMG"]);
    is(
        "scienceqa_img",
        &file("s/pid_splits.json", "{\"train\": [\"1\"], \"test\": [\"2\"]}"),
        &["2 lists by name (`train`, `test`)"],
    );
    let text = "{\"dataset_type\": \"val\", \"dataset_name\": \"textvqa\", \"dataset_version\": \"0.5.1\", \"data\": [{\"question\": \"q\"}]}";
    is("textvqa_val", &file("t/TextVQA_0.5.1_val.json", text), &["holds its rows in `data`", "split `validation`"]);
    let conversation = "[\n  {\"id\": \"4\", \"conversations\": []}\n]";
    is("scienceqa_img", &file("s/llava_test_CQM-A.json", conversation), &["conversations, as models are trained on"]);
    is("ai2d", &file("list-of-ids.json", "[1, 2, 3]"), &["its item 0 is no object"]);

    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 139466424\n";
    for name in ["lfs/test-00000-of-00001.parquet", "lfs2/test.jsonl", "lfs3/x.tsv"] {
        let path = file(name, lfs);
        for data in [path.clone(), path.parent().unwrap().to_path_buf()] {
            let message = refused("ai2d", &data);
            assert!(message.contains("pointer of Git LFS") && message.contains("139466424"), "{message}");
        }
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts/parquet/ai2d.parquet");
    let whole = std::fs::read(fixture).unwrap();
    std::fs::write(file("cut.parquet", ""), &whole[..whole.len() / 2]).unwrap();
    assert!(refused("ai2d", &root.join("cut.parquet")).contains("cut off"));
    file("arrow/data-00000-of-00001.arrow", "x");
    file("arrow/state.json", "{}");
    assert!(refused("ai2d", &root.join("arrow")).contains("to_parquet"));
}
