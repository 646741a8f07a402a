"""Networks: found by name, run once, and understood by what the run shows."""

from convscale.network.naming import resolve_base, split_scaled
from convscale.network.sources import Network
from convscale.network.trace import Trace, trace_module

__all__ = ["Network", "Trace", "resolve_base", "split_scaled", "trace_module"]
