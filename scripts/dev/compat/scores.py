"""Predictions scored by lmms-eval's own functions and by llmore's rules `lmms-eval`, row by row."""

import ast
import copy
import importlib
import json

from . import harness
from .harness import ROOT, Wrong, case

DATA = ROOT / "tests/fixtures/scorers"


def utils(task: str):
    return importlib.import_module(f"lmms_eval.tasks.{task}")


def pope(doc, output):
    return utils("pope.utils").pope_process_results(doc, [output])["pope_accuracy"]["score"]


def mme(doc, output):
    return next(iter(utils("mme.utils").mme_process_results(doc, [output]).values()))["score"]


def exact(output, gold):
    from lmms_eval.api.metrics import exact_match_hf_evaluate

    return float(exact_match_hf_evaluate([output], [gold], ignore_case=True, ignore_punctuation=True)["exact_match"])


def gqa(doc, output):
    return exact(output, doc["answer"])


def ai2d(doc, output):
    task = utils("ai2d.utils")
    read = task.MultiChoiceRegexFilter(regex_pattern=r"([A-Z])\.", ignore_case=True, ignore_punctuation=True)
    return exact(read.apply([[output]], [doc])[0], task.ai2d_doc_to_target(doc, "mcq"))


def scienceqa(doc, output):
    return utils("scienceqa.utils").sqa_process_results(doc, [output])["exact_match"]


def seed(doc, output):
    task = utils("seedbench.utils")
    return task.seed_aggregation_result([task.seed_process_result(doc, [output])["seed_all"]])


def textvqa(doc, output):
    return utils("textvqa.utils").textvqa_process_results(copy.deepcopy(doc), [output])["exact_match"]


def mmbench(doc, output):
    """One order of a question; `static_only` reads without a judge what the rules before it leave."""
    import pandas

    item = {c: doc.get(c) for c in "ABCDE"} | {"index": doc["index"], "prediction": output}
    evaluator = utils("mmbench.mmbench_evals").MMBench_Evaluator()
    return evaluator.eval_sub_data(pandas.DataFrame([item]), {doc["index"]: doc["answer"]}, static_only=True)


def mmmu(doc, output):
    """What cannot be read is answered by a random letter there; here it is wrong."""
    task = utils("mmmu.utils")
    if doc["question_type"] == "multiple-choice":
        letters, choices = task.get_multi_choice_info(ast.literal_eval(doc["options"]))
        utils("_task_utils.mmmu_mcq_utils").random.choice = lambda choices: None
        return float(task.parse_multi_choice_response(output, choices, letters) == doc["answer"])
    return float(task.eval_open(doc["answer"], task.parse_open_response(output)))


def compare(folder, benchmark, score):
    docs = [json.loads(line) for line in (DATA / f"data/{benchmark}.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (DATA / f"{benchmark}.jsonl").read_text().splitlines()]
    outputs = [row["output"].strip() for row in rows]
    (folder / "outputs.json").write_text(json.dumps(outputs))
    said = harness.llmore(folder, f'''let b = benchmark("{benchmark}", #{{ data: "{DATA}/data/{benchmark}.jsonl", rules: "lmms-eval" }});
        for row in b.score(json(read("outputs.json"))).rows {{ print(row.score); }}''')
    ours = [float(line) for line in said.split()]
    theirs = [float(score(doc, output)) for doc, output in zip(docs, outputs)]
    if len(ours) != len(theirs):
        raise Wrong(f"{len(ours)} rows of {len(theirs)}")
    apart = [i for i, (a, b) in enumerate(zip(ours, theirs)) if abs(a - b) > 1e-9]
    if apart:
        first = apart[0]
        raise Wrong(f"{len(apart)} of {len(ours)} rows; the first, {outputs[first]!r}: {ours[first]}, theirs {theirs[first]}")
    return f"{len(ours)} rows equal"


for name, function in {
    "pope": pope, "mme": mme, "gqa": gqa, "ai2d": ai2d, "scienceqa_img": scienceqa, "seedbench": seed, "textvqa_val": textvqa,
    "mmbench_en_dev": mmbench, "mmbench_cn_dev": mmbench, "mmmu_val": mmmu,
}.items():
    random = "an answer that cannot be read is a random letter there, wrong here" if name.startswith(("mmmu", "mmb")) else ""
    case("lmms-eval", f"scores of {name}, rules `lmms-eval`", why=random, benchmark=name, score=function)(compare)
