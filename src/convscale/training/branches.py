"""Find the residual branches of any network: what is added to a shortcut around it, and by whom.

The network is run once on the meta device. Every tensor becomes a node that knows the nodes it was
computed from. An addition joins a branch and its shortcut where the two come from one tensor, the
shortcut by few layers with weights and the branch by more, inside of the module that adds them. The
branch can be left out where it is what a module puts out, as it is or multiplied, or some of its
channels, and nothing else reads it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import Observer, run

_MOST_ON_A_SHORTCUT = 2  # layers with weights, such as a depthwise and a pointwise convolution
_WEIGHTED = frozenset("convolution addmm mm linear".split())
# What is zero where its first operand is, and is scaled with it.
_KEEPING = frozenset(
    "mul mul_ div div_ relu relu_ clone contiguous _to_copy native_dropout".split()
)


@dataclass(frozen=True)
class Branch:
    """A residual branch: the block that adds it, the module that puts it out, and which channels.

    `channels` is None where it is all that the module puts out.

    Example:
        >>> Branch("layer1.0", "layer1.0.bn2").channels is None
        True
    """

    block: str
    module: str
    channels: tuple[int, int] | None = None


def find_branches(module: nn.Module, inputs: tuple[int, ...]) -> list[Branch]:
    """Return the residual branches of a network, in the order in which they are added.

    Args:
        module: The network; it stays as it is.
        inputs: The shape of a batch.

    Example:
        >>> from torchvision.models import resnet18
        >>> found = find_branches(resnet18(), (2, 3, 64, 64))
        >>> len(found), found[0]
        (8, Branch(block='layer1.0', module='layer1.0.bn2', channels=None))
    """
    copied, flow = meta_copy(module), _Flow()
    run(copied, (torch.empty(inputs, device="meta"),), flow)
    found = [branch for add in flow.additions if (branch := flow.branch_of(add)) is not None]
    counts = Counter(branch.block for branch in found)
    # Where one module adds several, each is a block by itself.
    return [
        branch
        if counts[branch.block] == 1
        else Branch(branch.module, branch.module, branch.channels)
        for branch in found
    ]


@dataclass
class _Node:
    """A tensor, as it was before or after an operator changed it."""

    tensor: Tensor
    operator: str = ""
    path: str = ""
    parents: tuple[int, ...] = ()
    before: int = 0  # all nodes that it was computed from and itself, a bit each
    readers: int = 0
    modules: list[str] = field(default_factory=list)  # that put it out


class _Flow(Observer):
    """Note what every tensor of a run was computed from."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.additions: list[int] = []
        self._latest: dict[int, int] = {}
        self._weighted = 0
        self._calls: Counter[str] = Counter()

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Note a call of an operator."""
        read = [self._latest[id(t)] for t in tensors_in([args, kwargs]) if id(t) in self._latest]
        for index in read:
            self.nodes[index].readers += 1
        for tensor in tensors_in(output):
            index = self._add(tensor, func._opname, path, tuple(read))
            if func._opname in _WEIGHTED:
                self._weighted |= 1 << index
            if func._opname in ("add", "add_") and len(read) == 2:
                self.additions.append(index)

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002
        """Note the input of the network."""
        if not path:
            for tensor in tensors_in(inputs):
                self._add(tensor, "", "", ())

    def leave(
        self,
        path: str,
        module: nn.Module,  # noqa: ARG002
        inputs: tuple[Any, ...],  # noqa: ARG002
        output: Any,
    ) -> None:
        """Note what a module puts out."""
        self._calls[path] += 1
        if isinstance(output, Tensor) and id(output) in self._latest:
            self.nodes[self._latest[id(output)]].modules.append(path)

    def branch_of(self, addition: int) -> Branch | None:
        """Return the branch of an addition, None where it joins something else."""
        node = self.nodes[addition]
        one, other = node.parents
        if self._length(one, other) > self._length(other, one):
            one, other = other, one
        if not self._is_residual(one, other, node.path):
            return None
        return self._placed(other, node.path)

    def _add(self, tensor: Tensor, operator: str, path: str, parents: tuple[int, ...]) -> int:
        index = len(self.nodes)
        node = _Node(tensor, operator, path, parents, before=1 << index)
        for parent in parents:
            node.before |= self.nodes[parent].before
        self.nodes.append(node)
        self._latest[id(tensor)] = index
        return index

    def _own(self, one: int, other: int) -> int:
        """Return the nodes that one tensor comes from and another does not."""
        return self.nodes[one].before & ~self.nodes[other].before

    def _length(self, one: int, other: int) -> int:
        """Return how many layers with weights stand behind each other on a tensor's own way."""
        lengths: dict[int, int] = {}
        for index in _bits(self._own(one, other)):
            longest = max((lengths.get(each, 0) for each in self.nodes[index].parents), default=0)
            lengths[index] = longest + (self._weighted >> index & 1)
        return lengths.get(one, 0)

    def _is_residual(self, shortcut: int, branch: int, block: str) -> bool:
        """Tell whether an addition joins a branch to a shortcut around it."""
        one, other = self.nodes[shortcut].tensor, self.nodes[branch].tensor
        if one.shape != other.shape or not self.nodes[shortcut].before & self.nodes[branch].before:
            return False
        passed, length = self._length(shortcut, branch), self._length(branch, shortcut)
        if passed > _MOST_ON_A_SHORTCUT or length <= passed:
            return False
        if not passed and self._is_normalised(self._own(shortcut, branch)):
            return False  # one of the parallel branches of a layer that is merged after training
        layers = _bits(self._own(branch, shortcut) & self._weighted)
        return all(self._is_inside(self.nodes[index], block, other.shape) for index in layers)

    def _is_normalised(self, nodes: int) -> bool:
        return any("batch_norm" in self.nodes[index].operator for index in _bits(nodes))

    def _is_inside(self, layer: _Node, block: str, shape: torch.Size) -> bool:
        """Tell whether a layer of a branch is in its block.

        Where the network itself adds, a branch runs at no lower resolution than its end, so that
        it is none that joins a pyramid. What has no resolution, such as a gate for each channel,
        is inside.
        """
        if block:
            return layer.path.startswith(f"{block}.")
        sides, least = layer.tensor.shape[2:], shape[2:]
        pooled = len(sides) != len(least) or all(side == 1 for side in sides)
        return pooled or all(a >= b for a, b in zip(sides, least, strict=True))

    def _placed(self, branch: int, block: str) -> Branch | None:
        """Return the module that puts a branch out, if nothing but the addition reads it."""
        node = self.nodes[branch]
        while node.readers == 1:
            name = self._module_of(node, block)
            if name is not None:
                return Branch(block, name)
            if not node.parents:
                return None
            source = self.nodes[node.parents[0]]
            cut = _cut(node.tensor, source.tensor)
            if cut is not None:
                name = self._module_of(source, block) if self._is_cut_up(node.parents[0]) else None
                return None if name is None else Branch(block, name, cut)
            if node.operator not in _KEEPING or source.tensor.shape != node.tensor.shape:
                return None
            node = source
        return None

    def _is_cut_up(self, source: int) -> bool:
        """Tell whether all that read a tensor take some of its channels each."""
        readers = [node for node in self.nodes if source in node.parents]
        return all(_cut(node.tensor, self.nodes[source].tensor) is not None for node in readers)

    def _module_of(self, node: _Node, block: str) -> str | None:
        """Return the outermost module below a block that puts out a tensor, and runs once."""
        inside = [
            path
            for path in node.modules
            if path.startswith(f"{block}." if block else "")
            and path not in ("", block)
            and self._calls[path] == 1
        ]
        return min(inside, key=len, default=None)


def _cut(part: Tensor, whole: Tensor) -> tuple[int, int] | None:
    """Return which channels of a tensor another one shows; None if it shows none, or all."""
    alike = part.ndim == whole.ndim > 1 and part.stride() == whole.stride()
    one = part.untyped_storage()._cdata == whole.untyped_storage()._cdata
    if not (
        alike and one and part.shape[0] == whole.shape[0] and part.shape[2:] == whole.shape[2:]
    ):
        return None
    begin = int(part.storage_offset() - whole.storage_offset()) // whole.stride(1)
    end = begin + part.shape[1]
    return (begin, end) if begin >= 0 and end <= whole.shape[1] != part.shape[1] else None


def _bits(number: int) -> list[int]:
    """Return the places of the bits of a number.

    Example:
        >>> _bits(0b1010)
        [1, 3]
    """
    return [place for place in range(number.bit_length()) if number >> place & 1]
