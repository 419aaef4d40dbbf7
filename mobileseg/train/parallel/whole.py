"""The loss of a whole batch, of which every process holds a share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mobileseg.train.losses import Losses, Whole
from mobileseg.train.parallel.ranks import Ranks


@dataclass(frozen=True)
class SharedLoss:
    """`Losses` of the pictures of all processes, asked with the own share's logits and masks.

    All processes get the same number; each has the gradient of its own logits, so parameters want
    the sum of all processes' gradients. A sum over pixels, as cross entropy, sends two numbers. Of
    others, as Dice and Lovász, every process gets all logits, and the result is exact as well.
    """

    loss: Losses
    ranks: Ranks

    @property
    def adds_up(self) -> bool:
        """As of the loss."""
        return self.loss.adds_up

    def counted(self, masks: Tensor) -> Tensor:
        """As of the loss, over all processes' masks."""
        return self.ranks.summed(self.loss.counted(masks))

    def __call__(self, logits: Tensor, masks: Tensor, whole: Whole | None = None) -> Tensor:
        """Return the loss; with `whole`, what these parts of all processes' shares add to it."""
        if not self.adds_up:
            return self.loss(self.ranks.joined(logits), self.ranks.joined(masks), whole)
        # Where all adds up the share of the pictures is not asked for.
        whole = whole or Whole(self.counted(masks), 1 / self.ranks.count)
        return self.ranks.summed(self.loss(logits, masks, whole))
