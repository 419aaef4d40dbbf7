"""LiteRT's int8 inverse square root, step by step: five rounds of Newton's method in integers.

Source: tensorflow/lite/kernels/elementwise.cc, RsqrtEvalQuantized; kernels/internal/common.h,
GetInvSqrtQuantizedMultiplierExp and MultiplyByQuantizedMultiplier; gemmlowp's fixedpoint.h.
"""

from __future__ import annotations

import math

_MOST = 2**31 - 1
# Bits that keep 1 / root an integer.
_SHIFT = 20
_ROUNDS = 5
# Numbers with three bits before the point: 1, 1.5; and the half of root 2 with none.
_ONE, _HALF_THREE, _HALF_ROOT = 1 << 28, (1 << 28) + (1 << 27), 1518500250


def inverse_roots(in_scale: float, out_scale: float, out_zero: int) -> list[int]:
    """Return the output's step for each input from 0 to 255 steps above its zero point."""
    factor, exponent = _as_multiplier(1.0 / (math.sqrt(in_scale) * out_scale))
    found = [127]
    for value in range(1, 256):
        root, shift = _inverse_root(value)
        data = _times(1, root, _SHIFT - shift)
        found.append(min(max(_times(data, factor, exponent - _SHIFT) + out_zero, -128), 127))
    return found


def _as_multiplier(real: float) -> tuple[int, int]:
    """Return an integer with 31 bits behind the point, and the power of two beside it."""
    mantissa, exponent = math.frexp(real)
    raw = math.floor(mantissa * 2**31 + 0.5)
    return (raw // 2, exponent + 1) if raw == 2**31 else (raw, exponent)


def _inverse_root(value: int) -> tuple[int, int]:
    """Return 1 / root with 31 bits behind the point, to be shifted right by so much."""
    if value == 1:
        return _MOST, 0
    pairs = (31 - value.bit_length()) // 2 - 1
    shift = 11 - pairs
    given = (value << 2 * pairs) >> 1
    half, x = _halved(given, 1), _ONE
    for _ in range(_ROUNDS):
        cube = _saturated(_high(_high(x, x), x) << 6)
        x = _saturated((_high(_HALF_THREE, x) - _high(half, cube)) << 3)
    return _high(x, _HALF_ROOT), shift


def _times(x: int, factor: int, exponent: int) -> int:
    return _halved(_high(x << max(exponent, 0), factor), max(-exponent, 0))


def _high(a: int, b: int) -> int:
    """Return the rounded upper half of the doubled product."""
    product = a * b
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    # Towards zero, as C divides.
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def _halved(x: int, times: int) -> int:
    """Return x over a power of two, halves away from zero."""
    whole, rest = x >> times, x & ((1 << times) - 1)
    return whole + (rest > ((1 << times) - 1 >> 1) + (x < 0))


def _saturated(x: int) -> int:
    return min(max(x, -_MOST - 1), _MOST)
