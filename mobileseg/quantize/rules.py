"""What int8 asks of each operator: where its output's scale comes from.

Source: TFLite 8-bit quantization specification (tensor ranges and shared scales per operator).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Node

# "own": from the calibrated range. "shared": the inputs' and the output's scale are one, for the
# kernel copies or compares steps. "unit": 1/256 from -128, for values in [0, 1]. "index": none.
Rule: TypeAlias = Literal["own", "shared", "unit", "index"]


# What LiteRT 2.3 has no int16 kernel for (or, of a PReLU, a wrong one), and what to do about it.
_KEEP = "keep it in float (--keep-float {layer})"
NO_INT16: dict[type[ops.Op], str] = {
    ops.DepthToSpace: f"leave out --rewrite, or {_KEEP}",
    ops.PRelu: _KEEP,
    ops.ArgMax: "leave out --output argmax",
}


def require_int16(node: Node) -> None:
    """Raise MobilesegError for an operator that cannot read int16 steps."""
    mend = NO_INT16.get(type(node.op))
    if node.op == ops.Activation("hard_swish"):
        mend = f"leave out --rewrite, or {_KEEP}"
    if mend is not None:
        kind = getattr(node.op, "function", node.op.kind)
        raise MobilesegError(
            f"{node.layer}: LiteRT has no int16 kernel for {kind}; "
            f"{mend.format(layer=node.layer)}, or leave out --activations int16"
        )


def rule(node: Node) -> Rule:
    """Return the rule of the node's output."""
    op = node.op
    if isinstance(op, ops.Activation) and op.function == "sigmoid":
        return "unit"
    return RULES[type(op)]


# A Dequantize makes reals, which need no rule.
RULES: dict[type[ops.Op], Rule] = {
    ops.Conv2d: "own",
    ops.ConvTranspose2d: "own",
    ops.Activation: "own",
    ops.LeakyRelu: "own",
    ops.PRelu: "own",
    ops.Neg: "own",
    ops.Add: "own",
    ops.Mul: "own",
    ops.Concat: "shared",
    ops.Pad: "shared",
    ops.Crop: "shared",
    ops.DepthToSpace: "shared",
    ops.Pool: "shared",
    ops.GlobalMean: "own",
    ops.Resize: "shared",
    ops.Softmax: "unit",
    ops.ArgMax: "index",
    ops.Quantize: "own",
}
