"""A training recipe as one value: every knob of a run, checked. No torch here."""

from __future__ import annotations

import re
from math import log2
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_MOST = 2**20
_Whole = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
_Natural = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
_Px = Annotated[int, Field(ge=1, le=_MOST, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, lt=1, strict=True, allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, le=_MOST, strict=True, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, le=1e9, strict=True, allow_inf_nan=False)]
_Growth = Annotated[float, Field(ge=-1, le=1, strict=True, allow_inf_nan=False)]
_Three = tuple[_Positive, _Positive, _Positive]
_Middle = tuple[_Share, _Share, _Share]

# timm's notation, such as rand-m9-mstd0.5-inc1: a policy, then its settings, each with a number.
_REAL, _ABOVE_0 = r"\d+(\.\d+)?", r"(?![0.]+(-|$))\d+(\.\d+)?"
_AUGMENT = re.compile(
    rf"none|flip-crop|rand(-(m|n|mmax|inc)\d+|-(mstd|p){_REAL})*"
    rf"|augmix(-(m|d|b)\d+|-w[1-9]\d*|-a{_ABOVE_0}|-mstd{_REAL})*"
    rf"|(3a|original|originalr|v0|v0r)(-mstd{_REAL})*"
)
HIGHEST_RATE = 0.9  # of dropout and stochastic depth, however far a network is scaled


class Recipe(BaseModel):
    """Every knob of a training run; what a file leaves out is as in the recipe `basic`.

    Rates of stochastic depth and dropout grow with the scale s of the network (its flops over
    the base's): rate + growth · log2(s). The learning rate is linear in the batch.

    Example:
        >>> recipe = Recipe(batch_size=512, lr=0.1, lr_batch=256)
        >>> recipe.peak_lr, Recipe(drop_path=0.1, drop_path_growth=0.05).rates(4.0)["drop_path"]
        (0.2, 0.2)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: Annotated[str, Field(strict=True)] = Field(
        default="a recipe of one's own", description="what the recipe is for"
    )
    epochs: _Whole = Field(default=100, description="passes over the training images")
    batch_size: _Whole = Field(default=128, description="images in a step, over all processes")
    seed: _Natural = Field(default=0, description="of weights, order, augmentation and dropout")

    optimizer: Literal["sgd", "momentum", "adam", "adamw", "rmsproptf", "lamb"] = Field(
        default="sgd", description="sgd (Nesterov), momentum, adam, adamw, rmsproptf or lamb"
    )
    lr: _Positive = Field(default=0.1, description="highest learning rate, for a batch of lr_batch")
    lr_batch: _Whole | None = Field(
        default=256, description="the learning rate is lr * batch_size / lr_batch; null: it is lr"
    )
    momentum: _Rate = Field(default=0.9, description="of sgd, momentum and rmsproptf")
    weight_decay: _Amount = Field(default=5e-5, description="of all weights that decay")
    decay_norms_and_biases: bool = Field(
        default=False, strict=True, description="whether norm layers and biases decay too"
    )
    grad_clip: _Positive | None = Field(default=None, description="largest norm of the gradient")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine",
        description="cosine (half a period, to lr_end) or constant, after the warm-up",
    )
    warmup_epochs: _Amount = Field(
        default=5.0, description="epochs in which the learning rate rises"
    )
    warmup_start: _Share = Field(default=0.1, description="where it starts, over the highest")
    lr_end: _Share = Field(default=0.0, description="where the cosine ends, over the highest")

    augment: Annotated[str, Field(strict=True)] = Field(
        default="flip-crop",
        description="none, flip-crop, or it and a policy of timm: rand-m9-mstd0.5",
    )
    crop_scale: tuple[_Share, _Share] | None = Field(
        default=None,
        examples=["[0.08, 1.0]", "null"],
        description="share of the area that random crops keep; null: the data's own",
    )
    flip: _Share | None = Field(
        default=None,
        examples=["0.5", "null"],
        description="how often images are mirrored; null: the data's own",
    )
    color_jitter: _Share = Field(
        default=0.0, description="change of brightness, contrast, saturation"
    )
    random_erase: _Share = Field(default=0.0, description="how often a rectangle is erased")
    mixup: _Amount = Field(default=0.0, description="alpha of mixup; 0: none")
    cutmix: _Amount = Field(default=0.0, description="alpha of cutmix; 0: none")
    label_smoothing: _Rate = Field(
        default=0.0, description="share of the target spread over all classes"
    )
    aux_weight: _Amount = Field(
        default=0.3, description="of the losses of outputs beside the first, in training"
    )
    drop_path: _Rate = Field(default=0.0, description="rate of stochastic depth in the last block")
    drop_path_growth: _Growth = Field(
        default=0.0, description="what each doubling of flops adds to it"
    )
    dropout: _Rate = Field(default=0.0, description="rate of dropout before the classifier")
    dropout_growth: _Growth = Field(
        default=0.0, description="what each doubling of flops adds to it"
    )
    ema: Annotated[float, Field(gt=0, lt=1, strict=True)] | None = Field(
        default=None, description="decay of the moving average of the weights; null: none"
    )

    train_resolution: _Px | tuple[_Px, _Px] | None = Field(
        default=None,
        examples=["224", "[256, 128]", "null"],
        description="px, or [height, width]; null: the network's",
    )
    test_resolution: _Px | tuple[_Px, _Px] | None = Field(
        default=None,
        examples=["256", "[256, 128]", "null"],
        description="likewise for evaluation; null: the network's",
    )
    crop_pct: Annotated[float, Field(gt=0, le=1, strict=True)] | None = Field(
        default=None, description="share of the side that evaluation sees; null: the data's own"
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        default="bilinear", description="how images are resized: bilinear or bicubic"
    )
    mean: _Middle | None = Field(
        default=None,
        examples=["[0.5, 0.5, 0.5]", "null"],
        description="subtracted; null: the data's own",
    )
    std: _Three | None = Field(
        default=None,
        examples=["[0.25, 0.25, 0.25]", "null"],
        description="divided by; null: the data's own",
    )

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto (measured on the CPU), fp32, bf16, or fp16 on a GPU"
    )
    channels_last: Literal["auto"] | bool = Field(
        default="auto",
        examples=["auto", "true", "false"],
        description="auto (measured on the CPU), true or false",
    )
    workers: Literal["auto"] | _Natural = Field(
        default="auto",
        examples=["auto", "4"],
        description="processes that load images: auto or a number",
    )
    sync_batchnorm: bool = Field(
        default=True, strict=True, description="whether batch norm sees the batch of all processes"
    )
    parts: Annotated[int, Field(strict=True)] | None = Field(
        default=None,
        examples=["2", "null"],
        description="parts of a batch, each computed as by a process; null: one a process",
    )
    checkpoint_seconds: _Positive = Field(
        default=300.0, description="between checkpoints in an epoch"
    )
    checkpoint_steps: _Whole | None = Field(
        default=None, description="likewise in steps; null: none"
    )
    broken_limit: _Natural = Field(default=10, description="images that may be unreadable")

    @field_validator("augment")
    @classmethod
    def _known(cls, text: str) -> str:
        if not _AUGMENT.fullmatch(text):
            raise ValueError("write none, flip-crop, or a policy such as rand-m9-mstd0.5")
        return text

    @field_validator("crop_scale")
    @classmethod
    def _ordered(cls, pair: tuple[float, float] | None) -> tuple[float, float] | None:
        if pair is not None and not 0 < pair[0] <= pair[1]:
            raise ValueError("write two shares above 0, the smaller first, as in [0.08, 1.0]")
        return pair

    @field_validator("parts")
    @classmethod
    def _halved(cls, parts: int | None) -> int | None:
        if parts is not None and (parts < 2 or parts & (parts - 1)):
            raise ValueError("write a power of 2, from 2 on, or null")
        return parts

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: linear in the batch.

        Source: arXiv 1706.02677.
        """
        return self.lr if self.lr_batch is None else self.lr * self.batch_size / self.lr_batch

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0

    def rates(self, scale: float) -> dict[str, float]:
        """Return the rates of stochastic depth and dropout for a network.

        Args:
            scale: The network's flops over its base's.

        Example:
            >>> Recipe(dropout=0.2, dropout_growth=0.05).rates(0.25)["dropout"]
            0.1
        """
        return {
            name: _rate(getattr(self, name), getattr(self, f"{name}_growth"), scale)
            for name in ("drop_path", "dropout")
        }

    def lasting(self, epochs: int) -> Recipe:
        """Return the recipe stretched to a number of epochs, its warm-up in proportion.

        Example:
            >>> Recipe(epochs=100, warmup_epochs=5.0).lasting(10).warmup_epochs
            0.5
        """
        warm = self.warmup_epochs * epochs / self.epochs
        return self.model_copy(update={"epochs": epochs, "warmup_epochs": warm})

    def as_document(self) -> dict[str, Any]:
        """Return all knobs as JSON takes them."""
        return self.model_dump(mode="json")


def _rate(start: float, growth: float, scale: float) -> float:
    """Return a rate at a scale; the rounding hides what floating point adds."""
    return round(min(HIGHEST_RATE, max(0.0, start + growth * log2(scale))), 6)
