"""What the whole suite shares."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in several processes


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the garbage collector leave alone what is imported and collected: it stays to the end.

    Going through it again and again took a third of the time of collecting, and a tenth of that
    of the tests; and what tests make is gone through less often than is usual.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep recorded workloads in a folder of this run: what a user has in the cache stays."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch:
        if "CONVSCALE_CACHE" not in os.environ:
            patch.setenv("CONVSCALE_CACHE", str(shared / "recorded"))
        yield
