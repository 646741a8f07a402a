"""What is measured of a network, and for how long: values without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from convscale.errors import InputError, near_names
from convscale.quantities import check_count, check_positive

BatchSize = int | Literal["max"]

MODES = ("inference", "training")
DTYPES = ("float32", "bfloat16", "float16")
OPTIMIZERS = ("sgd", "adamw")
BACKENDS = ("pytorch", "onnxruntime")
MAX: Literal["max"] = "max"

# The median's interval is held against this share of the median.
PRECISION = 0.02
# No more repeats than this are kept, however short the pass.
MOST_REPEATS = 10_000


class SettingOptions(TypedDict, total=False):
    """The fields of `Setting` as keywords.

    Example:
        >>> options: SettingOptions = {"mode": "training", "threads": 2}
        >>> Setting(**options).threads
        2
    """

    mode: str
    batch_size: BatchSize
    device: str
    dtype: str | None
    channels_last: bool
    compile: bool
    threads: int | None
    backend: str
    optimizer: str


@dataclass(frozen=True)
class Setting:
    """How a network is run while it is timed.

    Args:
        mode: inference (one forward pass), or training (forward, backward, optimizer).
        batch_size: Images in one pass, or "max": as many as fit into memory.
        device: cpu, cuda, cuda:1 or mps; a torch.device is taken by its name.
        dtype: float32, bfloat16 or float16, the latter two under autocast with the weights as
            they are; None keeps the network's own. A torch.dtype is taken by its name.
        channels_last: Whether weights and input are laid out with the channels last.
        compile: Whether the network is compiled by `torch.compile`.
        threads: Threads of the processor; None is one, which repeats best.
        backend: pytorch or onnxruntime.
        optimizer: sgd (with momentum) or adamw, for training.

    Raises:
        InputError: If a value is none of these, or two of them do not go together.

    Example:
        >>> Setting(mode="training", batch_size=8).mode
        'training'
        >>> Setting(mode="test")
        Traceback (most recent call last):
        convscale.errors.InputError: Unknown mode 'test'. Use inference or training.
    """

    mode: str = "inference"
    batch_size: BatchSize = 1
    device: str = "cpu"
    dtype: str | None = None
    channels_last: bool = False
    compile: bool = False
    threads: int | None = None
    backend: str = "pytorch"
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))
        if self.dtype is not None:
            object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        _one_of(self.mode, MODES, what="mode")
        if self.batch_size != MAX:
            _check_batch(self.batch_size)
        if self.dtype is not None:
            _one_of(self.dtype, DTYPES, what="dtype")
        if self.threads is not None:
            check_count(self.threads, what="number of threads")
        _one_of(self.backend, BACKENDS, what="backend")
        _one_of(self.optimizer, OPTIMIZERS, what="optimizer")
        if self.backend == "onnxruntime":
            self._check_onnxruntime()

    def _check_onnxruntime(self) -> None:
        """Refuse what the backend onnxruntime does not do."""
        kind = self.device.partition(":")[0]
        asked = {
            f"mode {self.mode}": self.mode != "inference",
            f"dtype {self.dtype}": self.dtype not in (None, "float32"),
            "torch.compile": self.compile,
            "channels-last": self.channels_last,
            "batch size max": self.batch_size == MAX,
            f"device {self.device}": kind != "cpu" and kind in ("cuda", "mps"),
        }
        wrong = [name for name, given in asked.items() if given]
        if wrong:
            raise InputError(
                f"The backend onnxruntime cannot do {' and '.join(wrong)}: it runs inference in "
                "float32 on the cpu. Use the backend pytorch."
            )


def _check_batch(value: int) -> None:
    if isinstance(value, str):
        raise InputError(f"The batch size is {value!r}; write an integer of at least 1, or max.")
    check_count(value, what="batch size")


def _one_of(value: str, known: tuple[str, ...], *, what: str) -> None:
    if value not in known:
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        near = near_names(value, known, limit=1) if isinstance(value, str) else ""
        raise InputError(f"Unknown {what} {value!r}. Use {listed}.{near}")


@dataclass(frozen=True)
class Limits:
    """When repeating ends: at a number of repeats, at a precision, or at the end of the time.

    rounds is the number of repeats of each network, None where the precision decides;
    precision is the share of the median by which the ends of its 95 % interval may lie off,
    None where the number of rounds decides. counted is what the caller calls a round.

    Raises:
        InputError: If a value cannot be used.

    Example:
        >>> Limits().precision, Limits(rounds=5).precision
        (0.02, None)
        >>> Limits(time_limit_s=0.5)
        Traceback (most recent call last):
        convscale.errors.InputError: The time limit is 0.5 s; it must be at least 1 s.
    """

    rounds: int | None = None
    precision: float | None = None
    time_limit_s: float = 30.0
    counted: str = "rounds"

    def __post_init__(self) -> None:
        if self.rounds is not None:
            check_count(self.rounds, what=f"number of {self.counted}")
        if self.precision is not None:
            given = check_positive(self.precision, what="precision")
            if given >= 1:
                raise InputError(
                    f"The precision is {given:g}; it must be below 1: 0.02 is two per cent."
                )
        elif self.rounds is None:
            object.__setattr__(self, "precision", PRECISION)
        if check_positive(self.time_limit_s, what="time limit") < 1:
            raise InputError(f"The time limit is {self.time_limit_s:g} s; it must be at least 1 s.")

    @property
    def most(self) -> int:
        """The most repeats of a network."""
        return MOST_REPEATS if self.rounds is None else self.rounds
