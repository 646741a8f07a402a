"""Networks that take other than one image, scaled: by sizes on the command line, or by tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.input_sizes import InputSize
from convscale.network.running.given import given_sides, resized
from tests.cli_answers import document
from tests.networks import Wobble


class Depths(nn.Module):
    """A picture and its depths at half the side, and an index of where they were taken."""

    def __init__(self, width=32, depth=2):
        super().__init__()
        self.colour = nn.Conv2d(3, width, 3, 4, 1)
        self.depth = nn.Conv2d(1, width, 3, 2, 1)
        self.place = nn.Embedding(7, width)
        self.body = nn.Sequential(*[Wobble(2 * width, 2 * width, 1) for _ in range(depth)])
        self.exit = nn.Linear(2 * width, 10)

    def forward(self, image, place, *, depths):
        colour = self.colour(image) + self.place(place)[:, :, None, None]
        return self.exit(self.body(torch.cat([colour, self.depth(depths)], 1)).mean((2, 3)))


SIZES = (
    InputSize((3, 64, 64)),
    InputSize((), "int64"),
    InputSize((1, 32, 32), name="depths"),
)
OPTIONS = ["--input-size=3x64x64", "--input-size=scalar:int64", "--input-size=depths=1x32x32"]


def counted(module, side, batch=1):
    """Half of what PyTorch's counter says of a forward pass, and the output."""
    image, depths = torch.randn(batch, 3, side, side), torch.randn(batch, 1, side // 2, side // 2)
    place = torch.ones(batch, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter:
        output = module(image, place, depths=depths)
    return counter.get_total_flops() // 2, output


@pytest.mark.parametrize("strategy", ["w", "d", "r", "dwr", "dWr"])
@pytest.mark.parametrize("factor", [0.5, 2, 4])
def test_networks_of_several_inputs_are_scaled(strategy, factor):
    scaled = cs.scale(Depths(), strategy=strategy, factor=factor, example_inputs=SIZES)
    image, place, depths = scaled.inputs
    assert image.sizes == (3, scaled.resolution, scaled.resolution)
    assert place.sizes == ()
    assert depths.sizes == (1, round(scaled.resolution / 2), round(scaled.resolution / 2))
    module = scaled.module.eval()
    assert counted(module, scaled.resolution)[0] == scaled.achieved.flops
    counted(module.train(), scaled.resolution, batch=2)[1].square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


def test_tensors_that_are_given_say_the_sizes_too():
    tensors = {
        "image": torch.zeros(1, 3, 64, 64),
        "place": torch.zeros(1, dtype=torch.long),
        "depths": torch.zeros(1, 1, 32, 32),
    }
    by_tensors = cs.scale(Depths(), strategy="dwr", factor=4, example_inputs=tensors)
    by_sizes = cs.scale(Depths(), strategy="dwr", factor=4, example_inputs=SIZES)
    assert by_tensors.achieved == by_sizes.achieved
    assert by_tensors.resolution == by_sizes.resolution > 64
    assert by_tensors.inputs["depths"].shape[2] == round(by_tensors.resolution / 2)


def test_a_folder_keeps_what_its_network_takes(tmp_path):
    base = Depths()
    scaled = cs.scale(base, strategy="dwr", factor=4, example_inputs=SIZES)
    loaded = cs.load(scaled.save(tmp_path / "four"), base=base)
    assert loaded.inputs == (*scaled.inputs[:2], scaled.inputs[2])
    assert counted(loaded.module.eval(), loaded.resolution)[0] == scaled.achieved.flops
    again = cs.scale(loaded.module, strategy="w", factor=4, example_inputs=loaded.inputs)
    assert again.base.flops == scaled.achieved.flops


def test_inputs_that_are_no_tensors_are_handed_on():
    class Scaling(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 32, 3)
            self.exit = nn.Linear(32, 10)

        def forward(self, x, times):
            return self.exit(self.body(x).relu().mean((2, 3)) * times)

    given = (torch.zeros(1, 3, 16, 16), 3)
    scaled = cs.scale(Scaling(), strategy="w", factor=4, example_inputs=given)
    assert scaled.inputs[1] == 3
    assert scaled.module.body.out_channels == 64


def test_stages_and_diff_take_inputs():
    table = cs.stages(Depths(), example_inputs=SIZES)
    assert [(row.name, row.depth, row.resolution) for row in table.rows] == [("body", 2, (16, 16))]
    wider = cs.diff(Depths(), Depths(width=64, depth=4), example_inputs=SIZES)
    assert [pair.ratio["depth"] for pair in wider.pairs] == [2.0]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(
        "from tests.test_scaled_inputs import Depths\n\ndef net():\n    return Depths()\n"
    )
    return f"{path}:net"


def test_the_commands_take_input_sizes(file, capsys):
    found = document(capsys, "scale", file, "--strategy=dWr", "--factor=4", *OPTIONS)
    side = found["resolution"]
    assert found["inputs"][0] == f"1x3x{side}x{side}:float32"
    expected = cs.scale(Depths(), strategy="dWr", factor=4, example_inputs=SIZES, weights=False)
    assert found["achieved"] == expected.achieved.as_dict()
    assert [row["depth"] for row in document(capsys, "stages", file, *OPTIONS)["stages"]] == [2]
    pairs = document(capsys, "diff", file, file, *OPTIONS)["stages"]
    assert [pair["ratio"]["flops"] for pair in pairs] == [1.0]


def test_a_resolution_beside_inputs_is_refused():
    with pytest.raises(cs.InputError, match="Give the inputs alone"):
        cs.scale(Depths(), strategy="w", factor=2, resolution=64, example_inputs=SIZES)


def test_sequences_of_indices_have_sides():
    net = nn.Sequential(nn.Embedding(9, 16), nn.Conv1d(24, 32, 1), nn.Conv1d(32, 32, 1))
    assert given_sides(net, InputSize((24,), "int64")) == (24,)
    assert resized((InputSize((24,), "int64"), InputSize((5,))), (24,), (36,)) == (
        InputSize((36,), "int64"),
        InputSize((5,)),
    )


def test_inputs_without_sides_are_refused():
    with pytest.raises(cs.InputError, match=r"None of the inputs has the sides of an image"):
        cs.stages(nn.Sequential(nn.Conv2d(3, 8, 1)), example_inputs=InputSize((5,)))


class Talking(nn.Module):
    """A sound and an image, side by side: only one of them has the sides that are scaled."""

    def __init__(self):
        super().__init__()
        self.sound = nn.Conv1d(1, 16, 8, 4)
        self.image = nn.Conv2d(3, 16, 3, 2, 1)
        self.exit = nn.Linear(32, 10)

    def forward(self, sound, image):
        pooled = (self.sound(sound).mean(-1), self.image(image).mean((2, 3)))
        return self.exit(torch.cat(pooled, 1))


@pytest.mark.parametrize("strategy", ["r", "w"])
def test_inputs_that_do_not_grow_with_the_resolution_are_named(strategy):
    inputs = torch.zeros(1, 1, 1600), torch.zeros(1, 3, 32, 32)
    scaled = cs.scale(Talking(), strategy=strategy, factor=2, example_inputs=inputs, weights=False)
    moved = [tuple(one.shape) for one in scaled.inputs] != [tuple(one.shape) for one in inputs]
    assert moved == (strategy == "r")
    held = "Inputs keep their sides, which are not those that grow: 2 (1x3x32x32)."
    assert (held in scaled.notes) == moved


def test_inputs_that_all_grow_are_no_note():
    scaled = cs.scale(Depths(), strategy="r", factor=2, example_inputs=SIZES, weights=False)
    assert not [note for note in scaled.notes if note.startswith("Inputs keep")]
