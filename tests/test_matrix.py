"""The whole matrix with real weights: `make verify`. Takes about half an hour on two cores."""

from __future__ import annotations

import pytest

import convscale as cs
from tests import checks
from tests.test_scaling import ALL

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "strategy", "factor"), ALL)
def test_a_scaled_network_trains_and_its_added_blocks_matter(name, strategy, factor):
    scaled = cs.scale(name, strategy=strategy, factor=factor)
    checks.check_runs_forward_and_backward(scaled.module, 64)
    added, _ = checks.changed_blocks(scaled)
    assert checks.check_added_blocks_matter(scaled, 64) == len(added)
