"""The most memory that a step holds at any moment, counted without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mobileseg.train.memory.lean import place


def peak_bytes(step: Callable[[], None]) -> int:
    """Return the most bytes that live at a time among the tensors that a step makes.

    Those that are there before do not count; nor does what an operator needs inside itself.
    """
    watch = _Watch()
    with watch:
        step()
    return watch.most


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up storages as operators make them and as they go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._live: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        old = set[int]()
        tree_map_only(Tensor, lambda tensor: old.add(place(tensor)), (args, kwargs))
        tree_map_only(Tensor, lambda tensor: self._note(tensor, old), given)
        return given

    def _note(self, tensor: Tensor, old: set[int]) -> None:
        where = place(tensor)
        # What lies where an argument does is no new storage.
        if where in self._live or where in old:
            return
        storage = tensor.untyped_storage()
        self._live.add(where)
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, where, storage.nbytes())

    def _gone(self, where: int, count: int) -> None:
        self._live.discard(where)
        self._now -= count
