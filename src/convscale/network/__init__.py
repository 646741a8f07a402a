"""Networks: found by name, run once, and understood by what the run shows."""

from convscale.network.sources.naming import NetworkLike, resolve_base, split_scaled
from convscale.network.sources.network import Network
from convscale.network.tracing.trace import Trace, trace_module

__all__ = ["Network", "NetworkLike", "Trace", "resolve_base", "split_scaled", "trace_module"]
