"""Networks whose forward pass takes other than one image."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.input_sizes import InputSize, parse_input_size, parse_input_sizes


class Captioned(nn.Module):
    """An image and a caption: the words' vectors are added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.words = nn.Embedding(50, 6)
        self.mix = nn.Linear(6, 8)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        caption = self.mix(self.words(ids)).mean(1)
        return self.stem(image) + caption[:, :, None, None]


def captioned_flops(height: int, width: int, words: int) -> int:
    return 27 * 8 * (height - 2) * (width - 2) + words * 6 * 8


class Stepped(nn.Module):
    """A network of diffusion: an image, the number of a step, and a mask by keyword only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.step = nn.Linear(1, 8)

    def forward(self, image, steps, *, mask):
        assert steps.shape == (len(image),)
        assert mask.dtype == torch.bool
        known = image.masked_fill(mask[:, None], 0)
        return self.stem(known) + self.step(steps[:, None].to(known.dtype))[:, :, None, None]


class Words(nn.Module):
    """Words alone, and convolutions along them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 6)
        self.mix = nn.Conv1d(6, 4, 3)

    def forward(self, ids):
        return self.mix(self.words(ids).transpose(1, 2))


def torch_count(module: nn.Module, *args, **kwargs) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(*args, **kwargs)
    return counter.get_total_flops() // 2


IMAGE, IDS = torch.zeros(1, 3, 32, 24), torch.zeros(1, 10, dtype=torch.int64)
FORMS = {
    "tensors": (IMAGE, IDS),
    "tensors by keyword": {"ids": IDS, "image": IMAGE},
    "sizes": (InputSize((3, 32, 24)), InputSize((10,), "int64")),
    "sizes by keyword": (InputSize((3, 32, 24)), InputSize((10,), "int64", "ids")),
    "both": (IMAGE, InputSize((10,), "int32")),
    "on the meta device": (IMAGE.to("meta"), IDS.to("meta")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_inputs_are_counted_in_every_form(form, device):
    module = Captioned().to(device)
    found = cs.count(module, example_inputs=FORMS[form])
    assert found.flops == captioned_flops(32, 24, 10)
    assert found.flops == torch_count(Captioned(), IMAGE, IDS)
    assert found.acts == 8 * 30 * 22 + 10 * 8
    assert found.resolution == (32, 24)
    assert sorted(shape.split(":")[0] for shape in found.inputs) == ["1x10", "1x3x32x24"]
    assert found.flops == sum(layer.flops for layer in found.layers)


def test_a_number_a_mask_and_keywords_are_inputs():
    sizes = parse_input_sizes(["3x16x16", "scalar:int64", "mask=16x16:bool"])
    found = cs.count(Stepped(), example_inputs=sizes)
    assert found.flops == 27 * 8 * 16 * 16 + 8
    assert found.resolution == 16
    assert found.inputs == ("1x3x16x16:float32", "1:int64", "1x16x16:bool")


def test_words_alone_have_no_resolution():
    found = cs.count(Words(), example_inputs=IDS)
    assert found.flops == 3 * 6 * 4 * 8
    assert found.resolution is None
    assert found.as_document()["resolution"] is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sizes_take_the_dtype_of_the_network(dtype):
    found = cs.count(Captioned().to(dtype), example_inputs=FORMS["sizes"])
    assert found.flops == captioned_flops(32, 24, 10)
    assert found.inputs[0] == f"1x3x32x24:{str(dtype).removeprefix('torch.')}"


def test_a_network_of_torchvision_with_two_images_is_counted_like_pytorch_does():
    images = torch.zeros(1, 3, 128, 128, device="meta")
    module = torchvision.models.optical_flow.raft_small(weights=None).to("meta")
    size = InputSize((3, 128, 128))
    found = cs.count("torchvision:raft_small", example_inputs=(size, size))
    assert found.flops == torch_count(module, images, images)
    assert found.params == sum(parameter.numel() for parameter in module.parameters())
    assert found.resolution == 128


def test_a_list_of_images_is_one_input():
    module = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None
    )
    image = torch.rand(3, 64, 64)
    found = cs.count(module, example_inputs=([image],))
    assert found.flops == torch_count(module, [image])
    assert found.notes[0].startswith("Counted by a real forward pass: the meta device fails")


def test_inputs_keep_their_values_for_a_real_pass_and_are_not_changed():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 16, 1)

        def forward(self, image, which):
            image.add_(1)
            return self.one(image) if which.item() else self.other(image)

    image = torch.zeros(1, 3, 4, 4)
    found = [cs.count(Chooses(), example_inputs=(image, torch.tensor(w))) for w in (1, 0)]
    assert [count.flops for count in found] == [3 * 8 * 16, 3 * 16 * 16]
    assert not image.any()


def test_several_images_are_counted_as_given_and_a_note_says_so():
    found = cs.count(Captioned(), example_inputs=(IMAGE.repeat(2, 1, 1, 1), IDS.repeat(2, 1)))
    assert found.flops == 2 * captioned_flops(32, 24, 10)
    assert found.notes == (
        "The numbers are for all of the inputs: the first has 2 entries along its first axis.",
    )


def test_a_network_that_takes_a_size_is_made_for_that_of_its_input():
    found = cs.count("levit_conv_128s", example_inputs=InputSize((3, 256, 256)))
    assert found.as_dict() == cs.count("levit_conv_128s", resolution=256).as_dict()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([IMAGE, IDS], "^example_inputs is list; give a tensor, a tuple with one entry for each"),
        ("3x32x32", "^example_inputs is str; give a tensor, a tuple"),
        ((), "^example_inputs is tuple; give a tensor, a tuple"),
        ((IMAGE,), "missing 1 required positional argument: 'ids'.* with all its inputs, as in "
                   "--input-size 3x224x224 --input-size 10:int64, or example_inputs="),
        ((IMAGE, IDS, IDS), "cannot run on these inputs: TypeError: .*Give other inputs.$"),
        ({"image": IMAGE, "id": IDS}, "cannot run on these inputs: TypeError: .*'id'"),
        ((IMAGE, IMAGE), r"cannot run on these inputs: .* \(in words, a Embedding\)"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_refused_in_one_line(inputs, message):
    with pytest.raises(InputError, match=message):
        cs.count(Captioned(), example_inputs=inputs)


def test_a_resolution_beside_inputs_is_refused():
    with pytest.raises(InputError, match=r"^A resolution and inputs were given\. Give the inputs"):
        cs.count(Captioned(), resolution=32, example_inputs=(IMAGE, IDS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^Cannot read '' as the size of an input\. Write 3x224x224, 10:int64, scalar:int64"),
        ("3xa", r"^Cannot read '3xa' as the size of an input\."),
        ("3x8:", r"^Cannot read '3x8:' as the size"),
        ("2y=3", r"^Cannot read '2y=3' as the size"),
        ("3x0x8", r"^The size of an input is 0; it must be at least 1\.$"),
        ("3x-8", r"^The size of an input is -8; it must be at least 1\.$"),
        ("3x8:int65", r"^Unknown dtype 'int65' of an input\. Did you mean int64"),
        ("99999999x99999999", r"^The input 99999999x99999999 has more than 2\^48 elements\."),
    ],
)
def test_sizes_that_cannot_be_read_are_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message):
        parse_input_size(text)


def test_a_keyword_is_given_once():
    with pytest.raises(InputError, match=r"^The input 'mask' is given twice\. Give each keyword"):
        parse_input_sizes(["mask=3", "mask=4"])


FILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.words = nn.Conv2d(3, 8, 3), nn.Embedding(50, 8)

    def forward(self, image, ids):
        return self.stem(image) + self.words(ids).mean(1)[:, :, None, None]
"""


def test_the_command_line_takes_sizes_of_inputs(tmp_path, capsys):
    (tmp_path / "net.py").write_text(FILE)
    name = f"{tmp_path}/net.py:Net"
    sizes = ["--input-size", "3x32x24", "--input-size", "ids=10:int64"]
    assert run(["count", name, *sizes, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flops"] == 27 * 8 * 30 * 22
    assert document["resolution"] == [32, 24]
    assert document["inputs"] == ["1x3x32x24:float32", "1x10:int64"]
    assert run(["count", name, *sizes, "--convention", "all"]) == 0
    assert "on inputs 1x3x32x24:float32, 1x10:int64" in capsys.readouterr().out
    assert run(["count", name, "--resolution", "32"]) == 2
    assert "--input-size 3x224x224 --input-size 10:int64" in capsys.readouterr().err
    assert run(["count", name, *sizes, "--by", "stage"]) == 0
    assert "has no stage of blocks that can be repeated" in capsys.readouterr().out
    assert run(["count", name, *sizes, "--plot", str(tmp_path / "net.html")]) == 0
    assert "3x32x24" in capsys.readouterr().out
    assert run(["memory", name, *sizes, "--optimizer", "none", "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["inference"]["weights_bytes"]
    assert weights == 4 * (27 * 8 + 8 + 50 * 8)
    assert run(["count", name, *sizes, "--by", "kind", "--batch-size", "2", "--json"]) == 0
    kinds = {part["kind"]: part for part in json.loads(capsys.readouterr().out)["by_kind"]}
    # a batch of two looks up 10 words each, and indices have 8 bytes
    assert kinds["lookup"]["bytes_read"] == 2 * 10 * (8 * 4 + 8)
    assert kinds["convolution kxk"]["flops"] == 2 * document["flops"]
    assert run(["measure", name, "--resolution", "32"]) == 2
    said = "Wrap it in a module that makes its other inputs: what is timed takes images."
    assert capsys.readouterr().err.rstrip().endswith(f"'ids'. {said}")
    assert run(["scale", name, "--strategy", "w", "--factor", "2", "--json", *sizes]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == document["inputs"]


class ByName(nn.Module):
    """A network that takes its image by keyword only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)

    def forward(self, *, image: torch.Tensor) -> torch.Tensor:
        return self.stem(image)


def test_inputs_that_are_taken_by_name_are_asked_for_by_name():
    with pytest.raises(InputError, match="inputs by name, as in --input-size image=3x224x224.$"):
        cs.count(ByName(), resolution=8)
    found = cs.count(ByName(), example_inputs={"image": torch.zeros(1, 3, 8, 8)})
    assert found.flops == 27 * 8 * 36


def test_indices_without_a_dtype_are_asked_for_with_one():
    sizes = (InputSize((3, 8, 8)), InputSize((5,)))
    with pytest.raises(InputError, match="the dtype of what is looked up, as in --input-size 10:"):
        cs.count(Captioned(), example_inputs=sizes)


def test_inputs_without_entries_are_named():
    found = cs.count(nn.Conv2d(3, 8, 3), example_inputs=torch.zeros(0, 3, 8, 8))
    assert found.flops == 0
    assert "the first has no entries along its first axis" in found.notes[0]


class Forgiving(nn.Module):
    """A network that goes another way where a part of it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(5, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.other(x)
        except RuntimeError:
            return self.entry(x)


def test_what_runs_behind_a_failure_that_was_caught_is_in_its_own_module():
    found = cs.count(nn.Sequential(Forgiving(), nn.Conv2d(8, 4, 1)), resolution=8)
    flops = {layer.path: layer.flops for layer in found.layers if layer.flops}
    assert flops == {"0.entry": 27 * 8 * 36, "1": 8 * 4 * 36}


class Placed(nn.Module):
    """A convolution of an image and of where each of its pixels is (CoordConv)."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, x):
        where = torch.ones_like(x[:, :1])
        return self.fc(self.conv(torch.cat([x, where], 1)).mean((2, 3)))


def test_channels_that_a_network_adds_to_its_image_are_asked_for():
    told = (
        r"takes no 3 channels, give what it takes, as in --input-size 2x32x32, or example_inputs="
    )
    with pytest.raises(cs.InputError, match=told):
        cs.scale(Placed(), strategy="w", factor=2, resolution=32)
    image = torch.zeros(1, 2, 32, 32)
    scaled = cs.scale(Placed(), strategy="w", factor=4, example_inputs=(image,))
    assert scaled.module(image).shape == (1, 10)
    assert scaled.module.conv.out_channels == 32
