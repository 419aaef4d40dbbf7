"""Point-wise operators that fall off the fast path at int8, by ones that stay on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobileseg.graph.ir import Node
from mobileseg.graph.ops import Activation, Add, Conv2d, Mul, Softmax
from mobileseg.graph.passes.draft import Draft, Rewrite

_ONE = np.ones((1, 1, 1, 1), np.float32)


def _hard_swish(draft: Draft, node: Node) -> Sequence[Node] | None:
    if node.op != Activation("hard_swish"):
        return None
    source, stem = node.inputs[0], node.output
    three = draft.constant(f"{stem}.three", 3 * _ONE)
    sixth = draft.constant(f"{stem}.sixth", _ONE / 6)
    return [
        Node(Add("relu6"), (source, three), f"{stem}.shifted", node.layer),
        # A sixth of these steps is the same steps at a sixth of the scale: nothing is rounded.
        Node(Mul(), (f"{stem}.shifted", sixth), f"{stem}.gate", node.layer),
        Node(Mul(), (source, f"{stem}.gate"), stem, node.layer),
    ]


hard_swish_to_mul = Rewrite(
    "hard_swish_to_mul",
    "hard swish as a sum with ReLU6 and a product",
    _hard_swish,
)
"""Before: `y = Activation(hard_swish) x`.
After:  `s = Add(activation=relu6) x 3; g = Mul s 1/6; y = Mul x g`.

At int8 LiteRT's XNNPACK makes one table of 256 entries of a chain like this.
"""


def _relu(draft: Draft, node: Node) -> Sequence[Node] | None:
    op = node.op
    if not isinstance(op, Activation) or op.function not in {"relu", "relu6"}:
        return None
    one = draft.constant(f"{node.output}.one", _ONE)
    fused = Mul("relu" if op.function == "relu" else "relu6")
    return [Node(fused, (node.inputs[0], one), node.output, node.layer)]


relu_to_mul = Rewrite("relu_to_mul", "a ReLU by itself as a product with 1 that fuses it", _relu)
"""Before: `y = Activation(relu) x`. After: `y = Mul(activation=relu) x 1`."""


def _softmax(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.graph[node.output].shape
    if not isinstance(node.op, Softmax) or shape[1] != 2:
        return None
    stem = node.output
    against = np.array([[1, -1], [-1, 1]], np.float32).reshape(2, 2, 1, 1)
    weight = draft.constant(f"{stem}.against", against)
    bias = draft.constant(f"{stem}.none", np.zeros(2, np.float32))
    margin = f"{stem}.margin"
    return [
        Node(Conv2d(), (node.inputs[0], weight, bias), margin, node.layer),
        Node(Activation("sigmoid"), (margin,), stem, node.layer),
    ]


softmax_to_sigmoid = Rewrite(
    "softmax_to_sigmoid",
    "softmax over two classes as the sigmoid of their difference",
    _softmax,
)
"""Before: `y = Softmax x`. After: `m = Conv2d x [[1, -1], [-1, 1]]; y = Activation(sigmoid) m`.

The difference goes into the weights of the convolution before, where there is one.
"""
