//! Options of benchmarks, results, reports, studies and figures.

use super::{BATCH, DEVICE, DTYPE, LIMIT, MAPS_SHOWN, NOT_SET, OVERWRITE, OptionTable, RULES, option, table};
use crate::options::{Kind, OptionSpec, Unset};

pub(in crate::script) const BENCHMARK: OptionTable = table(
    "benchmark",
    "string",
    &[&[
        option(
            "data",
            Kind::Text,
            Unset::Words("the preset's"),
            "the published set: a parquet, JSON, JSON-lines or TSV file, a folder as it was downloaded, a cache of the hub, or a data set \
         of the hub such as \"lmms-lab/POPE\", of which only what is needed is fetched",
        ),
        option(
            "images",
            Kind::Text,
            Unset::Words("beside the data"),
            "pictures of GQA: a table of `id` and `image`, or a folder of files named by their ids",
        ),
        LIMIT,
        option("rules", RULES, Unset::Text("reference"), "how outputs are read"),
        option(
            "reference_quirks",
            Kind::Flag,
            Unset::Flag(false),
            "asks and scores as the reference does where that has faults",
        ),
    ]],
);
pub(in crate::script) const RUN: OptionTable = table("run", "Benchmark", &[&[
    BATCH,
    option(
        "image",
        Kind::Names(&["gray"]),
        Unset::Words("the question's pictures"),
        "a gray picture for every question: what is left of the score did not need the pictures",
    ),
    option("out", Kind::Text, NOT_SET, "a results file that grows with every answer, and that a stopped run continues").harmless(),
    LIMIT,
    option("shard", Kind::Other("`[k, n]`"), Unset::Words("all"), "part k of n, from 0, with whole pictures"),
    option(
        "cache",
        Kind::Text,
        Unset::Text("memory"),
        "where known answers are kept: \"memory\" for the session, \"disk\" in the cache folder, a folder, or \"off\"",
    )
    .harmless(),
    option(
        "choices",
        Kind::Names(&["generate", "likelihood"]),
        Unset::Text("generate"),
        "\"likelihood\" answers with the lettered choice of the highest log-probability",
    ),
    option("name", Kind::Text, Unset::Words("by its parts"), "what tables call the model").harmless(),
]]);
pub(in crate::script) const RESCORE: OptionTable =
    table("rescore", "Results", &[&[option("rules", RULES, Unset::Text("reference"), "how outputs are read")]]);
pub(in crate::script) const COMPARE: OptionTable = table(
    "compare",
    "array",
    &[&[
        option("published", Kind::Text, Unset::Words("none"), "the model whose published numbers stand beside these")
            .harmless(),
        option("table", Kind::Text, Unset::Text("llava-more"), "the published table it is in").harmless(),
    ]],
);

const REPORT_FOLDER: &[OptionSpec] = &[
    option("data", Kind::Text, NOT_SET, "the data of a benchmark that does not bring its own").harmless(),
    MAPS_SHOWN,
    OVERWRITE,
];
pub(in crate::script) const REPORT_RUN: OptionTable = table("report", "Run", &[REPORT_FOLDER]);
pub(in crate::script) const REPORT_STUDY: OptionTable = table("report", "Study", &[REPORT_FOLDER]);
pub(in crate::script) const REPORT_RESULTS: OptionTable = table(
    "report",
    "Results",
    &[&[
        option("benchmark", Kind::Other("a benchmark"), NOT_SET, "has the pictures, where its data are not inside")
            .harmless(),
        option("model", Kind::Other("a model"), NOT_SET, "the one that answered: the first questions get maps")
            .harmless(),
        MAPS_SHOWN,
        OVERWRITE,
    ]],
);
pub(in crate::script) const SAVE_RESULTS: OptionTable = table("save", "Results", &[&[OVERWRITE]]);
pub(in crate::script) const SAVE_FIGURE: OptionTable = table("save", "Figure", &[&[OVERWRITE]]);

pub(in crate::script) const STUDY: OptionTable = table(
    "study",
    "map",
    &[&[
        option("encoders", Kind::Other("ids"), Unset::Text("tiny-clip"), "an id or an array of ids"),
        option("llms", Kind::Other("ids"), Unset::Text("tiny-llama"), "an id or an array of ids"),
        option("projector", Kind::Other("a name or a projector"), Unset::Text("mlp2x_gelu"), "of all cells"),
        option("recipe", Kind::Text, Unset::Text("llava-more-tiny"), "the stages each cell is trained by"),
        option("benchmarks", Kind::Other("ids or benchmarks"), Unset::Text("tiny-vqa"), "what each cell is asked"),
        option(
            "seeds",
            Kind::Other("whole numbers from 0"),
            Unset::Words("the session's"),
            "each cell is trained once for each",
        ),
        option(
            "seeds_from",
            Kind::Count,
            Unset::Count(1),
            "the first stage, from 1, that a seed changes; those before it are shared",
        ),
        option(
            "limit",
            Kind::Count,
            Unset::Words("all"),
            "the first n questions of each benchmark; it may grow and shrink",
        ),
        option(
            "data",
            Kind::Text,
            NOT_SET,
            "the folder of the files that stages name, with their pictures in `images`",
        ),
        option(
            "stage",
            Kind::Other("a map of trainer options"),
            NOT_SET,
            "trainer options that go over those of every stage",
        ),
        BATCH,
        DTYPE,
        DEVICE,
        option(
            "out",
            Kind::Text,
            Unset::Words("`runs/<time>-<name>`"),
            "its folder; a study of the same `out` goes on where it stopped",
        )
        .harmless(),
        option("name", Kind::Text, Unset::Text("study"), "what its folder is called").harmless(),
    ]],
);

const TITLE: OptionSpec = option("title", Kind::Text, Unset::Text(""), "above the figure").harmless();
pub(in crate::script) const PLOT: OptionTable = table(
    "plot",
    "map",
    &[&[
        option("series", Kind::Other("a map from name to numbers"), Unset::Required, "a line each").harmless(),
        TITLE,
        option("x", Kind::Text, Unset::Text(""), "what the x axis is").harmless(),
        option("y", Kind::Text, Unset::Text(""), "what the y axis is").harmless(),
        option("log", Kind::Flag, Unset::Flag(false), "a logarithmic y axis").harmless(),
    ]],
);
pub(in crate::script) const RADAR: OptionTable = table(
    "radar",
    "map",
    &[&[
        option(
            "series",
            Kind::Other("a map from name to a map of numbers"),
            Unset::Required,
            "a ring each, over three axes or more",
        )
        .harmless(),
        TITLE,
        option("note", Kind::Text, Unset::Text(""), "below the figure").harmless(),
    ]],
);
