"""Networks with several outputs train: the main one is judged, auxiliary ones add to the loss."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import googlenet
from torchvision.models.inception import InceptionOutputs

import convscale as cs
from convscale.errors import InputError
from convscale.training.judging import judge
from convscale.training.metrics import evaluate
from convscale.training.outputs import auxiliary_outputs, main_output, outputs_notes, over_outputs
from convscale.training.parts import make_loss
from convscale.training.recipe import Recipe
from convscale.training.regularising import DropInputs, regularise
from convscale.training.results import write_result
from convscale.training.subject import prepare
from tests.training_runs import Silent, run


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


MAIN, OTHER, HIDDEN = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 7)
FORMS = {
    "tensor": (MAIN, 0),
    "tuple": ((MAIN, OTHER), 1),
    "nested list": ([MAIN, [OTHER, OTHER + 1]], 2),
    "namedtuple": (InceptionOutputs(MAIN, OTHER), 1),
    "namedtuple without an auxiliary": (InceptionOutputs(MAIN, None), 0),
    "dictionary": ({"aux": OTHER, "out": MAIN}, 1),
    "logits": (OrderedDict(loss=torch.zeros(()), logits=MAIN, hidden=HIDDEN), 0),
    "dictionary of other names": ({"coarse": MAIN, "fine": OTHER}, 1),
    "dataclass": (Answer(MAIN, HIDDEN), 0),
    "twice the same": ({"out": MAIN, "again": MAIN}, 0),
}


@pytest.mark.parametrize(("output", "others"), FORMS.values(), ids=FORMS)
def test_the_first_output_or_the_named_one_is_the_main(output, others):
    assert main_output(output) is MAIN
    assert len(auxiliary_outputs(output)) == others


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(label_smoothing=0.1, aux_weight=0.4)])
def test_the_loss_of_googlenet_is_that_of_its_three_classifiers(recipe):
    torch.manual_seed(0)
    net = googlenet(weights=None, num_classes=10, init_weights=False).train()
    images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 9, 3, 3])
    logits, aux2, aux1 = net(images)
    one, two, three = (
        cross_entropy(scores, targets, label_smoothing=recipe.label_smoothing)
        for scores in (logits.detach(), aux1.detach(), aux2.detach())
    )
    found = over_outputs(make_loss(recipe), recipe.aux_weight)((logits, aux2, aux1), targets)
    assert found.item() == pytest.approx(float(one + recipe.aux_weight * (two + three)), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "side", "others"),
    [
        ("torchvision:googlenet", 64, 2),
        ("torchvision:googlenet@w:0.25", 64, 2),
        ("torchvision:inception_v3@w:0.25", 299, 1),
    ],
)
def test_torchvisions_networks_with_auxiliary_classifiers_train(name, side, others):
    subject = prepare(name, Recipe(), classes=10, resolution=side)
    module = subject.module.train()
    output = module(torch.randn(2, 3, side, side))
    assert main_output(output) is output.logits
    assert len(auxiliary_outputs(output)) == others
    loss = over_outputs(cross_entropy, 0.3)(output, torch.tensor([1, 2]))
    loss.backward()
    assert all(weight.grad is not None for weight in module.parameters())
    plural = "outputs" if others > 1 else "output"
    assert subject.notes[0].startswith(f"The loss takes {others} auxiliary {plural} too")


class Heads(nn.Module):
    """Three outputs in either mode: scores, other scores, features."""

    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropped = nn.Dropout(0.0)
        self.fc, self.side = nn.Linear(8, classes), nn.Linear(8, classes)

    def forward(self, x):
        x = self.body(x)
        return {"side": self.side(x), "out": self.fc(x), "features": x}


def test_a_run_with_several_outputs_is_judged_by_the_main_one_and_comes_back(tmp_path):
    result = run(tmp_path / "run", network=Heads(), epochs=1)
    assert result.notes[-2:] == (
        "The loss takes 1 auxiliary output too, with a weight of 0.3.",
        "Of the outputs in training, 1 of other shape than the scores is left out of the loss.",
    )
    write_result(result)
    judged = judge(tmp_path / "run", base=Heads())
    assert judged.errors["last"].top1_error_pct == result.rows[-1]["top1_error_pct"]


def test_weights_of_the_side_move_by_the_weight_of_its_loss(tmp_path):
    """With plain gradient steps, no decay and a shared body that cannot move, they scale."""

    class Frozen(Heads):
        def __init__(self):
            super().__init__()
            self.body.requires_grad_(False)

    torch.manual_seed(0)
    net = Frozen()
    before = net.side.weight.detach().clone()
    moved = {}
    for weight in (0.25, 0.5):
        watch = Silent()
        net_run = run(
            tmp_path / str(weight), watch, network=net, epochs=1, aux_weight=weight, momentum=0.0,
            weight_decay=0.0, lr=1e-4, optimizer="momentum", augment="none",
        )  # fmt: skip
        moved[weight] = net_run.subject.module.side.weight.detach() - before
    torch.testing.assert_close(moved[0.5], 2 * moved[0.25], rtol=0.02, atol=1e-7)


def test_errors_are_those_of_the_main_output():
    net, images = Heads(6), torch.randn(5, 3, 8, 8)
    targets = net(images)["out"].argmax(1)
    found = evaluate(net, [(images, targets)], classes=6)
    assert (found.wrong1, found.images) == (0, 5)


def test_dropout_stands_before_the_main_classifier_alone():
    net = Heads()
    regularise(net, drop_path=0.0, dropout=0.5, classes=10, inputs=(2, 3, 8, 8))
    hooks = {path: list(part._forward_pre_hooks.values()) for path, part in net.named_modules()}
    assert [type(hook) for hook in hooks["fc"]] == [DropInputs]
    assert hooks["side"] == []


class Features(Heads):
    def forward(self, x):
        return self.body(x), self.fc(self.body(x))


class Text(Heads):
    def forward(self, x):
        return "scores", self.fc(self.body(x))


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (
            Features(),
            "module:Features puts out 8 scores an image as the first of several outputs and the "
            "data have 10 classes. Give a network with 10 outputs.",
        ),
        (
            Text(),
            "module:Text puts out a tuple in evaluation; to train, it must be a tensor of scores, "
            "or a tuple or dictionary of which it is the first, or is called out or logits.",
        ),
    ],
)
def test_what_is_no_scores_is_refused(net, line):
    with pytest.raises(InputError) as told:
        prepare(net, Recipe(), classes=10, resolution=8)
    assert told.value.line == line


def test_inception_says_where_an_image_is_too_small():
    with pytest.raises(InputError, match=r"does not run in training at 96 px: .*AuxLogits"):
        prepare("torchvision:inception_v3", Recipe(), classes=10, resolution=96)


def test_an_output_alone_needs_no_note():
    assert outputs_notes(MAIN, 0.3) == ()


def test_a_folder_with_other_classes_is_refused_with_how_to_save_one(tmp_path):
    folder = str(tmp_path / "net")
    cs.scale("resnet10t", strategy="w", factor=0.25, resolution=32).save(folder)
    with pytest.raises(
        InputError,
        match=rf"^{folder} puts out 1000 scores an image and the data have 10 classes. Give a "
        r"network with 10 outputs: scale saves one with --num-classes 10.$",
    ):
        prepare(folder, Recipe(), classes=10)
