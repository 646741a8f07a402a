"""The times of a study as a table in the format of timm's benchmark script."""

from __future__ import annotations

from collections.abc import Sequence

from convscale.prediction.timing import Timing

_COLUMNS = ("model", "infer_img_size", "infer_samples_per_sec", "infer_step_time")


def timed_table(timings: Sequence[Timing], params: Sequence[int], *, work: str) -> str:
    """Return timings as CSV, which `calibrate --from` reads.

    Args:
        timings: The timings.
        params: The params of each network.
        work: inference or training.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> one = Timing("timm:resnet18", "resnet", workload([]), 2, 0.04, 224)
        >>> print(timed_table([one], [11_689_512], work="inference"), end="")
        model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count
        resnet18,224,50,40,2,11.69
    """
    prefix = {"inference": "infer", "training": "train"}[work]
    header = f"{','.join(_COLUMNS)},infer_batch_size,param_count".replace("infer", prefix)
    lines = [
        f"{one.network.removeprefix('timm:')},{one.resolution},{one.images_per_second:.6g},"
        f"{1e3 * one.seconds:.6g},{one.batch_size},{count / 1e6:.2f}"
        for one, count in zip(timings, params, strict=True)
    ]
    return "\n".join([header, *lines]) + "\n"
