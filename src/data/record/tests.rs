//! Tests of records: what published files and libraries write, and what is refused.

use super::super::brief::id_hash;
use super::*;

fn record(text: &str) -> Record<'_> {
    serde_json::from_str(text).unwrap()
}

fn sample(text: &str) -> Sample {
    record(text).sample(7, |name| ImageSource::file(name.into())).unwrap()
}

fn keys(sample: &Sample) -> Vec<String> {
    sample.images.iter().map(ImageSource::key).collect()
}

fn refusal(text: &str) -> String {
    serde_json::from_str::<Record>(text).err().unwrap().to_string()
}

#[test]
fn a_record_says_what_it_lacks() {
    let one = record(
        r#"{"id": 7, "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nx"},
            {"from": "gpt", "value": null}], "model": "unused"}"#,
    )
    .brief(0);
    assert_eq!((one.words, one.images, one.empty_answer(), one.unknown_role()), (2, 1, true, false));
    assert_eq!(one.id, id_hash("7"));
    let other = record(r#"{"id": "7", "image": null, "conversations": [{"from": "user", "value": ""}]}"#).brief(0);
    assert_eq!((other.words, other.images, other.empty_answer(), other.unknown_role()), (0, 0, false, true));
    assert_eq!(other.id, one.id);
}

#[test]
fn a_record_becomes_a_sample_or_an_error_that_names_it() {
    let one = sample(r#"{"id": 1.5, "image": "a\/b.jpg", "conversations": [{"from": "human", "value": "caf\u00e9"}]}"#);
    assert_eq!((one.id.as_str(), one.turns[0].value.as_str()), ("1.5", "caf\u{e9}"));
    assert_eq!(keys(&one), ["a/b.jpg"]);

    let text = r#"{"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "b"}]}"#;
    let error = record(text).sample(0, |_| unreachable!()).err().unwrap().to_string();
    assert!(error.contains("sample `x`: turn 2 is from `bot`"), "{error}");
}

#[test]
fn pictures_are_one_or_several_or_none() {
    let turns = r#""conversations": [{"from": "human", "value": "a"}]"#;
    let of = |fields: &str| {
        let text = format!("{{{fields}{turns}}}");
        let read = record(&text);
        assert_eq!(usize::from(read.brief(7).images), read.names().count());
        (keys(&sample(&text)).join(" "), sample(&text).id)
    };
    for (fields, names, id) in [
        (r#""image": ["a.jpg"],"#, "a.jpg", "7"),
        (r#""image": ["a.jpg", "b.jpg"], "id": 3,"#, "a.jpg b.jpg", "3"),
        (r#""images": ["a.jpg", "b.jpg"], "image": null,"#, "a.jpg b.jpg", "7"),
        (r#""image": "a.jpg", "images": ["a.jpg"],"#, "a.jpg", "7"),
        (r#""image": "","#, "", "7"),
        (r#""image": [""], "id": null,"#, "", "7"),
        (r#""image": {"path": "a.jpg", "bytes": null},"#, "a.jpg", "7"),
        ("", "", "7"),
    ] {
        assert_eq!(of(fields), (names.to_string(), id.to_string()), "{fields}");
    }
    for (fields, told) in [
        (r#""image": "a.jpg", "images": ["b.jpg"],"#, "different pictures"),
        (r#""image": {"path": null, "bytes": "iVBOR"},"#, "bytes in JSON"),
        (r#""image": 3,"#, "expected a picture's path"),
    ] {
        let error = refusal(&format!("{{{fields}{turns}}}"));
        assert!(error.contains(told), "{error}");
    }
}

/// `datasets` 5.2.0: `Sequence({"from": .., "value": ..})` is a struct of lists.
#[test]
fn turns_are_a_list_a_struct_of_lists_or_text() {
    let list =
        sample(r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}]}"#);
    assert!(list.turns[0].supervised && !list.turns[1].supervised);
    for text in [
        r#"{"conversations": {"from": ["human", "gpt"], "value": ["a", "b"], "weight": [null, 0]}}"#,
        r#"{"conversations": "[{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\", \"loss\": false}]"}"#,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": false}]}"#,
        r#"{"conversations": null, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b", "mask": true}]}"#,
    ] {
        assert_eq!(sample(text).turns, list.turns, "{text}");
    }
    let parts = sample(
        r#"{"messages": [{"role": "user", "content": [{"type": "image", "text": null, "image": "a.jpg"},
            {"type": "text", "text": "What is it?"}]}, {"role": "assistant", "content": "A cat."}]}"#,
    );
    assert_eq!((parts.turns[0].value.as_str(), keys(&parts)), ("<image>What is it?", vec!["a.jpg".to_string()]));
    for (text, told) in [
        (r#"{"conversations": {"from": ["human"], "value": ["a", "b"]}}"#, "lists 2 values for 1 turns"),
        (r#"{"conversations": "hello"}"#, "invalid type: string \"hello\", expected a list of turns"),
        (r#"{"conversations": null}"#, "`conversations` is null"),
        (r#"{"messages": [{"role": "user"}]}"#, "missing field `content`"),
        (r#"{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}"#, "neither text nor picture"),
        (r#"{"conversations": [{"from": "gpt", "value": "b", "weight": 0.5}]}"#, "`weight` of a turn is 0.5"),
        (r#"{"conversations": [{"from": "gpt", "value": "b", "weight": 0, "train": true}]}"#, "the opposite"),
        (r#"{"id": 1, "id": 2, "conversations": []}"#, "duplicate field `id`"),
    ] {
        let error = refusal(text);
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_system_text_is_the_first_turn() {
    let turns = r#"{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}"#;
    let beside = sample(&format!(r#"{{"system": "Be brief.", "conversations": [{turns}]}}"#));
    assert_eq!((beside.turns[0].role, beside.turns[0].value.as_str()), (Role::System, "Be brief."));
    let inside = format!(r#"{{"conversations": [{{"from": "system", "value": "Be brief."}}, {turns}]}}"#);
    assert_eq!(sample(&inside).turns, beside.turns);
    for none in ["\"\"", "null"] {
        assert_eq!(sample(&format!(r#"{{"system": {none}, "conversations": [{turns}]}}"#)).turns.len(), 2);
    }
    let twice = refusal(&inside.replacen('{', r#"{"system": "Be long.", "#, 1));
    assert!(twice.contains("beside the turns and inside"), "{twice}");
}

#[test]
fn a_flag_of_the_sample_is_one_of_all_its_answers() {
    let turns = r#""conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
        {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]"#;
    let learned = |flag: &str| -> Vec<bool> {
        let sample = sample(&format!("{{{flag}, {turns}}}"));
        sample.turns.iter().filter(|turn| turn.role == Role::Gpt).map(|turn| turn.supervised).collect()
    };
    assert_eq!(learned(r#""weight": 1.0"#), [true, true]);
    assert_eq!(learned(r#""weight": 0"#), [false, false]);
    assert_eq!(learned(r#""train": null"#), [true, true]);
    assert_eq!(learned(r#""loss_mask": [0, 0, 0, 1]"#), [false, true]);
    for (flag, told) in [
        (r#""sample_weight": 0.5"#, "`sample_weight` of the sample is 0.5"),
        (r#""loss_mask": [1]"#, "1 values for 4 turns"),
    ] {
        let error = refusal(&format!("{{{flag}, {turns}}}"));
        assert!(error.contains(told), "{error}");
    }
    assert!(record(&format!("{{\"weight\": 0, {turns}}}")).brief(0).unsupervised());
}

#[test]
fn keys_that_nothing_reads_are_known() {
    let text = r#"{"id": 1, "model": "gpt-4", "quality": 3, "system": "x", "conversations": [
        {"from": "human", "value": "a", "train": true}, {"from": "gpt", "value": "b", "score": 1, "loss": 1}]}"#;
    assert_eq!(record(text).unread(), ["`quality`", "`score` of a turn", "`train` of a turn"]);
}
