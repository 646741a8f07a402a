"""The backend ONNX Runtime: a network exported once and run by its processor provider."""

from __future__ import annotations

import importlib.util
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convscale.errors import InputError
from convscale.runtime.running import Runner, format_dtype
from convscale.runtime.setting import Setting

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Outputs agree if no element is further off than this share of the largest.
_TOLERANCE = 1e-3


class OnnxRuntime:
    """Run networks by ONNX Runtime, on the processor, in float32.

    Example:
        >>> isinstance(OnnxRuntime(), object)
        True
    """

    def check(self, setting: Setting) -> None:
        """Refuse where a package is missing."""
        del setting  # what it cannot do, it refuses by itself
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"The backend onnxruntime needs {', '.join(missing)}. "
                "Install it by pip install 'convscale[onnx]', or use the backend pytorch."
            )

    def prepare(self, module: nn.Module, images: torch.Tensor, setting: Setting) -> Runner:
        """Export the module, and compare what it puts out with what PyTorch's does.

        Raises:
            InputError: If it is not in float32, cannot be exported, or computes something else.
        """
        if images.dtype is not torch.float32:
            raise InputError(
                f"The backend onnxruntime runs float32; the network is in "
                f"{format_dtype(images.dtype)}."
            )
        with tempfile.TemporaryDirectory() as folder:
            session = _session(_exported(module, images, Path(folder)), setting.threads or 1)
        feed = {session.get_inputs()[0].name: images.numpy()}
        _compare(session.run(None, feed), module, images)
        return Runner(
            {"forward": lambda: session.run(None, feed)},
            dtype="float32",
            versions={name: metadata.version(name) for name in _PACKAGES},
        )


def _exported(module: nn.Module, images: torch.Tensor, folder: Path) -> Path:
    path = folder / "network.onnx"
    try:
        torch.onnx.export(module, (images,), path, dynamo=True, verbose=False)
    except Exception as error:
        said = str(error).strip().splitlines()
        raise InputError(
            f"PyTorch cannot export the network to ONNX: {said[0] if said else error!r} "
            "Use the backend pytorch."
        ) from error
    return path


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _compare(found: list[Any], module: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in _flat(module(images))]
    if len(found) != len(expected):
        raise InputError(
            f"ONNX Runtime puts out {len(found)} tensors, PyTorch {len(expected)}. "
            "Use the backend pytorch."
        )
    for ours, theirs in zip(found, expected, strict=True):
        off = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
        scale = max(float(np.abs(theirs).max()), float(np.finfo(np.float32).tiny))
        if not off <= _TOLERANCE * scale:
            raise InputError(
                f"What ONNX Runtime computes lies {off / scale:.2g} of the largest output off "
                "what PyTorch does. Use the backend pytorch."
            )


def _flat(output: Any) -> list[torch.Tensor]:
    """Return the tensors of an output in the order in which the exporter names them."""
    if isinstance(output, torch.Tensor):
        return [output]
    entries = output.values() if isinstance(output, dict) else output
    return [tensor for entry in entries for tensor in _flat(entry)]
