"""The whole state of a training as one safetensors file, written to a temporary name.

One file, with the JSON in its metadata, because two files cannot be renamed in one moment: a
kill between them would pair new weights with an old step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.train.optim import Average, state_tensors
from mobileseg.train.parallel.ranks import Ranks


@dataclass
class State:
    """How far a training is. All randomness follows from (seed, epoch, step)."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the running epoch
    loss_sum: float = 0.0  # over those steps
    epoch_seconds: float = 0.0  # spent on those steps
    seconds: float = 0.0  # since the start, over all resumptions
    skipped: int = 0  # steps of the running epoch whose gradient did not fit in float16
    scaler: dict[str, float | int] = field(default_factory=dict)  # what scales a float16 loss
    history: list[dict[str, float | int | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """Where the state is kept, what it consists of, and which training it belongs to.

    `identity` is what the result depends on, as plain JSON: a checkpoint with another one is
    refused.
    """

    path: Path
    module: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    identity: dict[str, object]

    def save(self, state: State) -> None:
        """Write the state; a kill leaves the old or the new file, never half of one."""
        facts = {"identity": self.identity, "state": asdict(state)}
        write_atomic(self.path, save(self._saved(), metadata={"mobileseg": json.dumps(facts)}))

    def load(self) -> State | None:
        """Put the saved tensors back and return the state; None if nothing was saved."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["mobileseg"])
                self._check(facts["identity"])
                saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise MobilesegError(
                f"{self.path}: not a checkpoint of mobileseg ({error}); train with --restart"
            ) from error
        self._restore(saved)
        return State(**facts["state"])

    def spread(self, state: State | None, ranks: Ranks) -> State:
        """Put the first process's tensors into every process, and return its state."""
        said = json.dumps(asdict(state)).encode() if state is not None else None
        device = next(self.module.parameters()).device
        facts = json.loads(ranks.told(said, device))
        tensors = save(self._saved()) if ranks.first else None
        saved = load(ranks.told(tensors, device))
        if not ranks.first:
            self._restore(saved)
        return State(**facts)

    def _saved(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"module.{k}": v for k, v in state_tensors(self.module).items()}
        if self.average:
            tensors |= {f"average.{k}": v for k, v in state_tensors(self.average.module).items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def _restore(self, saved: dict[str, Tensor]) -> None:
        moments = {k: saved.pop(k) for k in list(saved) if k.startswith("optimizer.")}
        ours = self._tensors()
        if wrong := sorted(ours.keys() ^ saved.keys()):
            raise self._other_network(wrong)
        if wrong := sorted(k for k in ours if ours[k].shape != saved[k].shape):
            raise self._other_network(wrong)
        for name, tensor in ours.items():
            tensor.copy_(saved[name])
        parameters = dict(self.module.named_parameters())
        for name, value in moments.items():
            _, key, owner = name.split(".", 2)
            parameter = parameters[owner]
            # same memory layout as without the interruption, so the same kernels run
            like = value if key == "step" else torch.empty_like(parameter)
            self.optimizer.state[parameter][key] = like.copy_(value)

    def _other_network(self, names: list[str]) -> MobilesegError:
        return MobilesegError(
            f"{self.path}: belongs to another network ({names[0]} and {len(names) - 1} more "
            "tensors differ); train with --restart"
        )

    def _check(self, identity: dict[str, object]) -> None:
        keys = sorted(identity.keys() | self.identity.keys())
        changed = [
            f"{key} was {identity.get(key)!r}, is {self.identity.get(key)!r}"
            for key in keys
            if identity.get(key) != self.identity.get(key)
        ]
        if changed:
            raise MobilesegError(
                f"{self.path}: cannot resume, the training has changed: {'; '.join(changed)}; "
                "undo the change or train with --restart"
            )
