"""The options that several commands share, as types; their values arrive as text."""

from __future__ import annotations

from typing import Annotated

import typer

_NETWORK_HELP = (
    "A paper family (RegNetY-4.0GF), timm:NAME, torchvision:NAME, NAME (timm first), "
    "path/to/file.py:factory, a YAML file, a saved folder, or NAME@STRATEGY:FACTOR."
)

_TARGET = "Target (exactly one)"

Network = Annotated[str, typer.Argument(metavar="NETWORK", help=_NETWORK_HELP, show_default=False)]
OtherNetwork = Annotated[
    str, typer.Argument(metavar="OTHER", help="Another network.", show_default=False)
]
Networks = Annotated[
    list[str],
    typer.Argument(metavar="NETWORK", help=f"One or several: {_NETWORK_HELP}", show_default=False),
]
Resolution = Annotated[
    str | None,
    typer.Option(
        "--resolution",
        metavar="PX",
        help="Input side of the base network: 224, 256x128 (height x width) or 16x112x112 "
        "(frames x height x width); by default the network's own.",
    ),
]
InputSizes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-size",
        metavar="SIZE",
        help="Of an input, without the batch: 3x224x224, 10:int64, scalar:int64 or "
        "NAME=10:int64; once for each input, in place of --resolution.",
    ),
]
NumClasses = Annotated[
    str | None,
    typer.Option("--num-classes", metavar="N", help="Classes; for names and factories."),
]
InChans = Annotated[
    str | None,
    typer.Option("--in-chans", metavar="N", help="Input channels; for names and factories."),
]
Convention = Annotated[
    str,
    typer.Option(
        "--convention",
        metavar="NAME",
        help="How the edges are counted: default, pycls, fvcore or torch.",
    ),
]
CountConvention = Annotated[
    str,
    typer.Option(
        "--convention",
        metavar="NAME",
        help="How the edges are counted: default, pycls, fvcore or torch; all for each of them.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON document and nothing else.")
]
BatchSize = Annotated[
    str, typer.Option("--batch-size", metavar="N", help="Images in one forward pass.")
]
BatchSizeOrNone = Annotated[
    str | None,
    typer.Option("--batch-size", metavar="N", help="Images in one pass; 1 if not given."),
]
StepOptimizer = Annotated[
    str,
    typer.Option(
        "--optimizer", metavar="NAME", help="sgd (with momentum), adamw, or none: inference alone."
    ),
]
StepPrecision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="float32, bfloat16, float16 or mixed (weights in float32, automatic casts to "
        "bfloat16); by default that of the network's weights.",
    ),
]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--checkpointing", metavar="", help="Run each block again instead of saving what it made."
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--limit", metavar="SIZE", help="Find the largest batch that fits: 8GB, 7.5GiB or bytes."
    ),
]
BatchSizeOrMax = Annotated[
    str,
    typer.Option(
        "--batch-size", metavar="N", help="Images in one pass; max: as many as fit into memory."
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        "--mode", metavar="MODE", help="inference, or training: forward, backward, optimizer."
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="float32, or bfloat16 or float16 under autocast; by default the network's own.",
    ),
]
ChannelsLast = Annotated[
    bool,
    typer.Option("--channels-last", metavar="", help="Lay tensors out with the channels last."),
]
Compile = Annotated[
    bool, typer.Option("--compile", metavar="", help="Compile the network by torch.compile.")
]
Backend = Annotated[
    str,
    typer.Option("--backend", metavar="NAME", help="What runs it: pytorch or onnxruntime."),
]
Optimizer = Annotated[
    str,
    typer.Option("--optimizer", metavar="NAME", help="For training: sgd (momentum) or adamw."),
]
Energy = Annotated[
    bool,
    typer.Option("--energy", metavar="", help="Measure joules an image too (NVML or RAPL)."),
]
Room = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="What a batch of size max may take, such as 8GB; by default what is left.",
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        metavar="",
        help="Run each network in a process of its own, so that a crash is one line.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="SHARE",
        help="Repeat until the median's 95 % interval is within it: 2% (the default where no "
        "repeats are given) or 0.02.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Where to measure: cpu, cuda or mps.")
]
Threads = Annotated[
    str | None,
    typer.Option("--threads", metavar="N", help="Threads on the CPU; by default one."),
]
Repeats = Annotated[
    str | None,
    typer.Option(
        "--repeats", metavar="N", help="Timed passes of each network; of several, rounds."
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="TIME", help="Stop repeating after this time."),
]
Strategy = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="STRATEGY",
        help="Such as w, dwr, dWr, dWr@0.6, efficientnet-table@b3, my.yaml; "
        "see 'convscale strategies'.",
    ),
]
Factor = Annotated[
    str | None,
    typer.Option("--factor", metavar="S", help="Times the flops.", rich_help_panel=_TARGET),
]
Flops = Annotated[
    str | None,
    typer.Option("--flops", metavar="NUMBER", help="Such as 1.6G.", rich_help_panel=_TARGET),
]
Params = Annotated[
    str | None,
    typer.Option("--params", metavar="NUMBER", help="Such as 20M.", rich_help_panel=_TARGET),
]
Acts = Annotated[
    str | None,
    typer.Option("--acts", metavar="NUMBER", help="Such as 12M.", rich_help_panel=_TARGET),
]
Latency = Annotated[
    str | None,
    typer.Option(
        "--latency",
        metavar="TIME",
        help="Such as 8ms or 0.008s, as --profile predicts it; --memory may go with it.",
        rich_help_panel=_TARGET,
    ),
]
_PROFILE_HELP = "A device profile: its name (see 'convscale profiles') or JSON file."
Profile = Annotated[str | None, typer.Option("--profile", metavar="NAME|FILE", help=_PROFILE_HELP)]
ScaleProfile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME|FILE",
        help=f"{_PROFILE_HELP} For --latency, or to see latencies beside another target.",
    ),
]
CompareProfile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME|FILE", help=f"{_PROFILE_HELP} Predicts latencies."),
]
ProfileName = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROFILE]", help="One to show; all are listed without.", show_default=False
    ),
]
Coverage = Annotated[
    str,
    typer.Option(
        "--coverage", metavar="SHARE", help="Of networks that the interval holds: 0.9 or 90%."
    ),
]
PredictionCsv = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write the predictions as CSV, a line a network."),
]
_FITTING = "What must fit into --memory"
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Such as 8GB: a training step, or inference, needs no more.",
        rich_help_panel=_TARGET,
    ),
]
FittingBatch = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images; 1 by default. Of --latency too.",
        rich_help_panel=_FITTING,
    ),
]
FittingOptimizer = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        help="sgd (the default), adamw, or none: inference alone.",
        rich_help_panel=_FITTING,
    ),
]
FittingPrecision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="float32, bfloat16, float16 or mixed.",
        rich_help_panel=_FITTING,
    ),
]
FittingCheckpoints = Annotated[
    bool,
    typer.Option(
        "--checkpointing",
        metavar="",
        help="Run each block again in the backward pass.",
        rich_help_panel=_FITTING,
    ),
]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FOLDER", help="Save the scaled network in a new folder."),
]
Rounding = Annotated[
    str | None,
    typer.Option(
        "--rounding",
        metavar="NAME",
        help="How sizes are rounded: nearest, efficientnet, tinynet or yolo, by default as the "
        "strategy does; for paper families also reference.",
    ),
]
GroupWidth = Annotated[
    str | None,
    typer.Option(
        "--group-width",
        metavar="RULE",
        help="follow: scaled like width; named: only where the strategy names g.",
    ),
]
WidthMultiple = Annotated[
    str,
    typer.Option(
        "--width-multiple",
        metavar="N",
        help="Widths keep it as far as the base's are multiples of it, twice at least.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="LIST",
        help="What to leave alone: axes (d, w, r; the others share s), stem, head; may be "
        "repeated.",
    ),
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        "--freeze",
        metavar="PATTERN",
        help="Modules whose shapes stay, such as layer1 or '*.downsample'; may be repeated.",
    ),
]
StageDepth = Annotated[
    str | None,
    typer.Option(
        "--stage-depth",
        metavar="LIST",
        help="For each stage a number that its depth factor is multiplied by: 1,1,3,1. "
        "No target is needed then.",
    ),
]
StageWidth = Annotated[
    str | None,
    typer.Option("--stage-width", metavar="LIST", help="Likewise for the width factor."),
]
Seed = Annotated[
    str, typer.Option("--seed", metavar="N", help="Seed of the weights that are saved.")
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", metavar="", help="Fail where a budget or a factor cannot be met nearly."
    ),
]
Strategies = Annotated[
    str, typer.Option("--strategies", metavar="LIST", help="Separated by commas.")
]
Factors = Annotated[str, typer.Option("--factors", metavar="LIST", help="Times the flops: 2,4.")]
Measure = Annotated[
    bool, typer.Option("--measure", metavar="", help="Measure latency on the machine at hand.")
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--latency-budget",
        metavar="LIMIT",
        help="Recommend within it: 2.5x (the base's latency) or 8ms; with --measure.",
    ),
]
Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write a report with the tables and plots."),
]
Layers = Annotated[bool, typer.Option("--layers", metavar="", help="Count layer by layer too.")]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="VIEW",
        help="Where it sits: total, layer, stage, kind (of operator) or operator, with the bytes "
        "that are read and written.",
    ),
]
Csv = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write the view of --by (else the total) as CSV."),
]
Plot = Annotated[
    str | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw flops, params and acts along the network: .html, .png, .svg or .pdf.",
    ),
]
ViewDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Dtype of the tensors whose bytes are counted; by default float32.",
    ),
]
ViewBatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images in the forward pass whose bytes are counted; by default 1.",
    ),
]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="NUMBER", help="Images of one epoch, such as 1.28M."),
]
Epochs = Annotated[
    str | None, typer.Option("--epochs", metavar="N", help="How often all images are seen.")
]
Devices = Annotated[
    str, typer.Option("--devices", metavar="N", help="Devices that train together.")
]
DeviceBatch = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images on each device in a step; by default 256, or the nearest that the profile "
        "has seen.",
    ),
]
Efficiency = Annotated[
    str,
    typer.Option(
        "--efficiency",
        metavar="SHARE",
        help="What is left of a device's speed beside the others: 0.9 or 90%.",
    ),
]
Power = Annotated[
    str | None,
    typer.Option("--power", metavar="WATTS", help="Of each device, such as 300W: adds energy."),
]
