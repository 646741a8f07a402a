"""Predicted memory against hand calculations, real runs, and PyTorch's counter of flops."""

from __future__ import annotations

import json
import resource
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from benchmarks.memory import Setting, compare
from benchmarks.memory_truth import Loop
from convscale.cli.main import run as run_command
from convscale.complexity.batches import largest
from convscale.complexity.memory import Life, parts_at, peak_moment
from convscale.errors import BudgetError, InputError
from convscale.input_sizes import InputSize
from convscale.quantities import format_bytes, parse_bytes


class Small(nn.Sequential):
    """Two convolutions of one pixel and a ReLU: everything can be worked out by hand."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))


# Of two images of 16 x 16: the input, the maps of 8 and of 4 channels, the weights (bytes).
IMAGES, WIDE, NARROW, WEIGHTS = 2 * 3 * 256 * 4, 2 * 8 * 256 * 4, 2 * 4 * 256 * 4, (24 + 32) * 4


def small(**options):
    return cs.memory(Small(), resolution=16, batch_size=2, **options)


def test_weights_are_parameters_and_buffers():
    found = cs.memory("resnet18", resolution=64, optimizer=None).inference
    # means and variances of 4800 channels, and a count of batches for each of 20 norms
    assert found.weights_bytes == 4 * 11_689_512 + 2 * 4 * 4800 + 8 * 20


def test_inference_keeps_what_is_still_needed_and_no_more():
    found = small(optimizer=None).inference
    # the ReLU has its input and its output; the last convolution only the smaller of the maps
    assert found.peak_bytes == WEIGHTS + IMAGES + 2 * WIDE
    assert (found.peak.phase, found.peak.path) == ("forward", "1")
    assert found.weights_bytes == WEIGHTS
    assert found.weights_bytes + found.activations_bytes == found.peak_bytes


def test_training_saves_what_the_backward_pass_reads():
    found = small().training
    # the output of the ReLU, the scores, their log-softmax, the loss and the sum of its weights
    assert found.saved_activations_bytes == WIDE + 2 * NARROW + 2 * 4
    assert found.gradients_bytes == WEIGHTS
    assert found.optimizer_state_bytes == WEIGHTS
    # backward through the ReLU: its output, the gradients on both sides of it, the scores and the
    # loss, which the loop still names, the gradient of the loss, which is 1, and that of the second
    # convolution's weights
    targets = 2 * 256 * 8
    at_peak = 3 * WIDE + NARROW + 4 + 4 + 32 * 4
    assert found.peak_bytes == 2 * WEIGHTS + IMAGES + targets + at_peak
    assert (found.peak.phase, found.peak.path) == ("backward", "1")
    assert found.peak.parts.gradients_bytes == 32 * 4
    assert found.peak.parts.inputs_bytes == IMAGES + targets
    assert found.peak.parts.total_bytes == found.peak_bytes


def test_adamw_keeps_two_numbers_a_parameter_and_a_step_a_tensor():
    assert small(optimizer="adamw").training.optimizer_state_bytes == 2 * WEIGHTS + 2 * 4


def test_half_precision_halves_what_is_in_it():
    found = small(precision="bfloat16", optimizer="adamw")
    assert found.inference.peak_bytes == (WEIGHTS + IMAGES + 2 * WIDE) // 2
    assert found.training.gradients_bytes == WEIGHTS // 2
    assert small().precision == "float32"
    own = cs.memory(Small().bfloat16(), resolution=16, batch_size=2, optimizer=None)
    assert (own.precision, own.inference) == ("bfloat16", found.inference)


def test_mixed_precision_keeps_weights_and_copies_of_them():
    found = small(precision="mixed")
    assert found.inference.peak.parts.weights_bytes == WEIGHTS
    # at the ReLU only the first convolution's weights have been cast
    assert found.inference.peak.parts.weight_copies_bytes == 24 * 2
    assert found.training.gradients_bytes == found.training.optimizer_state_bytes == WEIGHTS


def test_flops_of_a_step_are_those_worked_out_by_hand():
    flops = small().training.flops
    first, second = 2 * 256 * 3 * 8, 2 * 256 * 8 * 4
    assert flops.forward == first + second
    # nobody asks for the gradient of the images
    assert flops.backward == first + 2 * second
    assert flops.recomputed == 0


UNGROUPED = ("resnet18", "densenet121", "res2net50_26w_4s", "torchvision:vgg11_bn")
GROUPED = ("regnety_002", "efficientnet_b0", "convnext_atto", "resnext50_32x4d")


def counted(name, px, batch):
    """Half of what PyTorch counts in a forward and a backward pass."""
    with torch.device("meta"):
        module = cs.build(name, weights=False).train()
        images = torch.zeros(batch, 3, px, px)
    with FlopCounterMode(display=False) as counter:
        output = module(images)
    with FlopCounterMode(display=False) as backwards:
        output.square().sum().backward()
    return counter.get_total_flops() / 2, backwards.get_total_flops() / 2


@cache
def three_images(name):
    return cs.memory(name, resolution=64, batch_size=3).training


@pytest.mark.parametrize("name", UNGROUPED)
def test_flops_of_a_step_agree_with_torch_flop_counter(name):
    flops = three_images(name).flops
    assert (flops.forward, flops.backward) == counted(name, 64, 3)


@pytest.mark.parametrize("name", [*UNGROUPED, *GROUPED])
def test_the_backward_pass_has_twice_the_flops_but_for_the_gradient_of_the_images(name):
    # PyTorch's counter takes the weight gradients of grouped convolutions for ungrouped ones
    flops = three_images(name).flops
    count = cs.count(name, resolution=64)
    first = next(layer for layer in count.layers if layer.flops)
    assert flops.forward == 3 * count.flops
    assert flops.backward == 3 * (2 * count.flops - first.flops)


@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "torchvision:densenet121"])
def test_checkpoints_run_every_block_again(name):
    plain = three_images(name)
    found = cs.memory(name, resolution=64, batch_size=3, checkpointing=True)
    assert found.checkpoints
    again = found.training
    assert (again.flops.forward, again.flops.backward) == (
        plain.flops.forward,
        plain.flops.backward,
    )
    count = cs.count(name, resolution=64)
    inside = sum(
        layer.flops
        for layer in count.layers
        if any(layer.path.startswith(f"{path}.") for path in found.checkpoints)
        # nothing saves what comes of the last convolution of a dense layer: it need not run again
        and not ("denselayer" in layer.path and layer.path.endswith("conv2"))
    )
    assert again.flops.recomputed == 3 * inside
    assert again.saved_activations_bytes < 0.6 * plain.saved_activations_bytes


MEASURED = [
    ("timm:resnet18", Setting("float32")),
    ("timm:mobilenetv3_small_100", Setting("float32", "sgd")),
    ("timm:convnext_atto", Setting("mixed", "adamw")),
    ("timm:regnety_002", Setting("float32", "adamw", checkpointing=True)),
    ("torchvision:shufflenet_v2_x0_5", Setting("mixed", "sgd")),
    ("timm:ghostnet_050", Setting("mixed")),
    ("timm:vit_tiny_patch16_224", Setting("float32", "sgd")),
]


@pytest.mark.parametrize(("name", "setting"), MEASURED, ids=str)
def test_the_prediction_is_what_a_real_run_takes(name, setting):
    row = compare(name, setting, batch=4, px=224 if "vit" in name else 96)
    assert abs(row.tensors_error) < 0.01
    # the allocator also serves what operators use inside, which is beside the tensors
    assert row.allocator_error < 0.02


class Captioned(nn.Module):
    """Images, and words that are added to what the first block puts out."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(1000, 16)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(3))
        )
        self.head = nn.Linear(16, 10)

    def forward(self, image, ids):
        mixed = self.stem(image) + self.words(ids).mean(1)[:, :, None, None]
        return self.head(self.blocks(mixed).mean((2, 3)))


SIZES = (InputSize((3, 24, 24)), InputSize((7,), "int64"))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD, torch.optim.AdamW])
def test_the_prediction_for_two_inputs_is_what_a_real_run_takes(optimizer, checkpointing):
    if checkpointing and optimizer is None:
        pytest.skip("checkpoints are for training")
    options = {"lr": 0.1, "momentum": 0.9} if optimizer is torch.optim.SGD else {"lr": 0.1}
    name = None if optimizer is None else optimizer.__name__.lower()
    found = cs.memory(
        Captioned(),
        example_inputs=SIZES,
        batch_size=4,
        optimizer=name,
        checkpointing=checkpointing,
    )
    assert found.checkpoints == (("blocks.0", "blocks.1", "blocks.2") if checkpointing else ())
    assert found.inputs == ("4x3x24x24:float32", "4x7:int64")
    inputs = torch.zeros(4, 3, 24, 24), torch.zeros(4, 7, dtype=torch.long)
    loop = Loop(Captioned(), inputs, optimizer, options, checkpoints=found.checkpoints)
    assert found.peak_bytes == loop.measure().tensors_bytes


@pytest.mark.parametrize("precision", [None, "bfloat16", "mixed"])
def test_inputs_are_predicted_alike_in_every_form(precision):
    image, ids = torch.zeros(4, 3, 24, 24), torch.zeros(4, 7, dtype=torch.long)
    named = {"image": InputSize((3, 24, 24)), "ids": InputSize((7,), "int64")}
    first = cs.memory(Captioned(), example_inputs=SIZES, batch_size=4, precision=precision)
    for inputs, batch in [((image, ids), 1), ((image.to("meta"), ids), 1), (named, 4)]:
        found = cs.memory(Captioned(), example_inputs=inputs, batch_size=batch, precision=precision)
        assert (found.inference, found.training) == (first.inference, first.training)
        assert bool(found.notes) == (batch == 1)  # of the batch that tensors have


def test_a_limit_finds_the_batch_of_sizes_and_not_of_tensors():
    found = cs.memory(Captioned(), example_inputs=SIZES, limit="3MB", optimizer="adamw")
    more = {"example_inputs": SIZES, "optimizer": "adamw", "batch_size": found.batch_size + 1}
    assert found.peak_bytes <= 3e6 < cs.memory(Captioned(), **more).peak_bytes
    given = torch.zeros(4, 3, 24, 24), torch.zeros(4, 7, dtype=torch.long)
    with pytest.raises(InputError, match="^A limit finds the batch size, but tensors were given"):
        cs.memory(Captioned(), example_inputs=given, limit="3MB")
    with pytest.raises(InputError, match="^The batch size is 3, but tensors were given"):
        cs.memory(Captioned(), example_inputs=given, batch_size=3)


def test_quantised_weights_are_held_packed_and_not_trained():
    layers = nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.Linear(8, 10)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)
    found = cs.memory(quantised, resolution=8, optimizer=None).inference
    # of the convolution four bytes a number; of the linear layer one a weight, four a bias
    assert found.weights_bytes == 4 * (8 * 3 * 64 + 8) + 80 + 4 * 10
    with pytest.raises(InputError, match="holds quantised weights, which cannot be trained"):
        cs.memory(quantised, resolution=8)


def test_mixed_precision_keeps_weights_in_float32_whatever_the_network_has():
    options = {"resolution": 16, "batch_size": 2, "precision": "mixed"}
    found, other = (cs.memory(net, **options) for net in (Small(), Small().half()))
    assert found.training.weights_bytes == WEIGHTS
    assert (other.inference, other.training) == (found.inference, found.training)


def test_words_alone_are_an_input_without_a_resolution():
    words = nn.Sequential(nn.Embedding(50, 6), nn.Linear(6, 4))
    found = cs.memory(words, example_inputs=InputSize((9,), "int64"), batch_size=2, optimizer=None)
    assert found.resolution is None
    # weights, indices, the words' vectors and the scores
    assert found.peak_bytes == 4 * (300 + 28) + 8 * 18 + 4 * 18 * (6 + 4)


def test_a_network_larger_than_the_memory_at_hand_is_predicted():
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 500_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = cs.memory(module, resolution=1, batch_size=2, optimizer="adamw")
    assert found.training.gradients_bytes > 9 * 500_000_000 * 4 - 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 500e6


def test_the_network_is_left_as_it_was():
    module = Small().eval()
    module[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = cs.memory(module, resolution=16, batch_size=2)
    assert found.training.gradients_bytes == 32 * 4  # that of the frozen layer is none
    assert not module.training
    assert not module[0]._forward_hooks
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())
    assert module[0].weight.grad is module[2].weight.grad is None


def test_the_peak_is_found_in_the_module_that_has_it():
    class Uneven(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.wide = nn.Conv2d(4, 400, 1)
            self.head = nn.Conv2d(400, 8, 1)

        def forward(self, x):
            return self.head(self.wide(self.stem(x)))

    found = cs.memory(Uneven(), resolution=32, batch_size=2)
    # the maps of 400 and of 8 channels live at once where the head runs
    assert found.inference.peak.path == "head"
    assert (found.training.peak.phase, found.training.peak.path) == ("backward", "head")


@pytest.mark.parametrize("options", [{}, {"optimizer": None}, {"checkpointing": True}])
def test_the_batch_for_a_limit_fits_and_the_next_one_does_not(options):
    limit = parse_bytes("300MB")
    found = cs.memory("resnet18", resolution=64, limit=limit, **options)
    assert found.limit_bytes == limit
    assert found.peak_bytes <= limit
    more = {"batch_size": found.batch_size + 1, **options}
    assert cs.memory("resnet18", resolution=64, **more).peak_bytes > limit


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 4000))
def test_the_largest_batch_is_that_of_trying_all(steps, limit):
    sizes = [sum(steps[: n + 1]) for n in range(len(steps))]

    def size(batch):
        last = len(sizes)
        return sizes[batch - 1] if batch <= last else sizes[-1] + 10 * (batch - last)

    brute = max((n for n in range(1, 500) if size(n) <= limit), default=None)
    assert largest(size, limit=limit) == brute


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20), st.integers(1, 9)), min_size=1))
def test_the_peak_is_the_largest_of_all_moments(drawn):
    lives = [Life(size, born, born + length) for size, born, length in drawn]
    every = [parts_at(lives, moment).total_bytes for moment in range(40)]
    moment = peak_moment(lives)
    assert every[moment] == max(every)
    assert moment == every.index(max(every))


def test_scaled_networks_and_families_are_taken_by_name():
    base = cs.memory("resnet18", resolution=64, optimizer=None)
    wide = cs.memory("resnet18@w:2", resolution=64, optimizer=None)
    assert wide.network == "timm:resnet18@w:2"
    assert wide.inference.weights_bytes > 1.8 * base.inference.weights_bytes
    assert cs.memory("RegNetX-400MF", optimizer=None).resolution == 224


def test_the_document_has_what_the_value_has():
    found = small(optimizer="adamw", checkpointing=False)
    document = json.loads(json.dumps(found.as_document()))
    assert document["schema_version"] == 1
    assert document["inference"]["peak_bytes"] == found.inference.peak_bytes
    assert document["training"]["flops_backward"] == found.training.flops.backward
    peak = dict(document["training"]["peak"])
    del peak["phase"], peak["path"]
    assert sum(peak.values()) == document["training"]["peak_bytes"]
    assert small(optimizer=None).as_document()["training"] is None


class Peeking(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        y = self.mix(x)
        return y if float(y.sum()) >= 0 else -y


class Pooled(nn.Sequential):
    def __init__(self):
        pool = (nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten())
        super().__init__(nn.Conv2d(3, 4, 1), *pool)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (Small(), {"batch_size": 0}, "The batch size is 0; it must be at least 1."),
        (Small(), {"optimizer": "lion"}, "Unknown optimizer 'lion'. Use sgd, adamw or none."),
        (Small(), {"precision": "int8"}, "Unknown precision 'int8'. Use float32, bfloat16, .*"),
        (Small(), {"limit": "8 barrels"}, "Cannot read '8 barrels' as memory limit. Write 8GB.*"),
        (Small(), {"limit": -1}, "The memory limit is -1; it must be positive and finite."),
        (
            Small(),
            {"optimizer": None, "checkpointing": True},
            "Checkpointing is for training. Give an optimizer: sgd or adamw.",
        ),
        (
            Small(),
            {"checkpointing": True},
            "The network has no blocks that are modules of their own, .*",
        ),
        (Pooled(), {}, "module:Pooled cannot be trained on one image at a time: .*"),
        (
            Peeking(),
            {},
            "The memory of module:Peeking cannot be predicted: in its forward pass what runs "
            "follows from values of tensors, not from shapes alone.",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(network, arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        cs.memory(network, resolution=16, **arguments)


def test_a_limit_below_a_single_image_is_an_error():
    message = "^module:Small needs 33.6 KiB at batch size 1; the limit is 1000 bytes. Give.*$"
    with pytest.raises(BudgetError, match=message):
        cs.memory(Small(), resolution=16, limit=1000)


def test_a_network_that_trains_on_two_images_at_least_gets_its_largest_batch():
    found = cs.memory(Pooled(), resolution=16, limit="1MB")
    assert found.batch_size >= 2


def test_nothing_trainable_and_nothing_to_lose_are_told():
    frozen = Small().requires_grad_(False)
    with pytest.raises(InputError, match="^No parameter of the network is trainable. .*$"):
        cs.memory(frozen, resolution=16)
    flat = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(0))
    with pytest.raises(InputError, match="^The network puts out nothing with an axis of classes.*"):
        cs.memory(flat, resolution=16)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("7.5GiB", 15 << 29), ("12 kB", 12000), ("9 B", 9), ("9000", 9000)],
)
def test_memory_is_read_as_people_write_it(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8 GBB", "-1GB", "0.1", "nan", "1e400GB"])
def test_other_texts_are_no_memory(text):
    with pytest.raises(InputError):
        parse_bytes(text)


def test_memory_is_written_for_people():
    assert [format_bytes(size) for size in (3 << 30, 5 << 20, 5 << 10, 5)] == [
        "3.00 GiB",
        "5.0 MiB",
        "5.0 KiB",
        "5 bytes",
    ]


def test_the_command_shows_both_peaks(capsys):
    assert run_command(["memory", "resnet18", "--resolution", "64", "--batch-size", "2"]) == 0
    shown = capsys.readouterr().out
    assert "timm:resnet18 at 64 px, batch size 2, float32" in shown
    assert "Inference peaks at" in shown
    assert "A training step by sgd peaks at" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--limit", "8GB", "--batch-size", "2"], 2, "A limit finds the batch size."),
        (["--limit", "1MB"], 3, "timm:resnet18 needs"),
        (["--optimizer", "lion"], 2, "Unknown optimizer 'lion'."),
        (["--batch-size", "many"], 2, "Cannot read 'many' as the batch size."),
    ],
)
def test_the_command_refuses_in_one_line(arguments, status, line, capsys):
    assert run_command(["memory", "resnet18", "--resolution", "64", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"convscale: {line}")
    assert captured.err.count("\n") == 1


BUDGETS = [
    ("resnet18", "w", cs.MemoryBudget(300_000_000, batch_size=8)),
    ("resnet18", "dWr", cs.MemoryBudget(400_000_000, 8, "adamw", "mixed")),
    ("regnety_002", "dwr", cs.MemoryBudget(40_000_000, batch_size=8, optimizer=None)),
    ("resnet18", "w", cs.MemoryBudget(250_000_000, 4, checkpointing=True)),
]


@pytest.mark.parametrize(("name", "strategy", "budget"), BUDGETS, ids=str)
def test_a_network_scaled_to_a_budget_of_memory_fits_and_leaves_little(name, strategy, budget):
    scaled = cs.scale(name, strategy=strategy, memory=budget, resolution=64, weights=False)
    found = cs.memory(
        scaled.module,
        resolution=scaled.resolution,
        batch_size=budget.batch_size,
        optimizer=budget.optimizer,
        precision=budget.precision,
        checkpointing=budget.checkpointing,
    )
    assert scaled.memory.peak_bytes == found.peak_bytes
    assert 0.95 * budget.limit_bytes < found.peak_bytes <= budget.limit_bytes
    assert scaled.requested == {"memory": budget.limit_bytes}
    assert scaled.as_document()["memory"]["batch_size"] == budget.batch_size


def test_a_network_with_weights_is_scaled_to_memory_and_saved(tmp_path):
    budget = cs.MemoryBudget(60_000_000, batch_size=2, optimizer=None)
    scaled = cs.scale("resnet18", strategy="w", memory=budget, resolution=64)
    assert not any(p.is_meta for p in scaled.module.parameters())
    again = cs.load(scaled.save(tmp_path / "fitting"))
    assert again.requested == scaled.requested


def test_depth_alone_leaves_what_a_block_needs_and_says_so():
    budget = cs.MemoryBudget(300_000_000, batch_size=2)
    scaled = cs.scale("resnet18", strategy="d", memory=budget, weights=False)
    left = 1 - scaled.memory.peak_bytes / 300_000_000
    assert left > 0.03
    assert f"{left:.1%} of the memory is left; the next larger network needs more." in scaled.notes
    with pytest.raises(BudgetError, match="^The largest network of strategy 'd' that was found .*"):
        cs.scale("resnet18", strategy="d", memory=budget, weights=False, strict=True)


def test_a_budget_that_nothing_fits_into_is_an_error():
    with pytest.raises(BudgetError, match="^No network of strategy 'dWr' was found to fit into .*"):
        cs.scale("resnet18", strategy="dWr", memory="50kB", resolution=64, weights=False)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--memory", "8GB", "--factor", "2"], 2, "2 targets were given"),
        (["--memory", "8 barrels"], 2, "Cannot read '8 barrels' as memory budget."),
        (["--factor", "2", "--batch-size", "8"], 2, "--batch-size, --optimizer, --precision"),
        (["--memory", "8GB", "--precision", "half"], 2, "Unknown precision 'half'."),
    ],
)
def test_scaling_to_memory_refuses_in_one_line(arguments, status, line, capsys):
    assert run_command(["scale", "resnet18", "--strategy", "w", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"convscale: {line}")


def test_the_command_scales_to_memory(capsys):
    options = ["--memory", "250MB", "--batch-size", "4", "--optimizer", "adamw"]
    assert (
        run_command(["scale", "resnet18", "--strategy", "w", "--resolution", "64", *options]) == 0
    )
    shown = capsys.readouterr().out
    assert "Requested memory 238.4 MiB." in shown
    assert "A training step by adamw at batch size 4, float32, needs 23" in shown
