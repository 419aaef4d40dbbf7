"""Recorded output of benchmark_model, in the forms that its builds print.

Sources: (old) MobileNetV1 on emulated RISC-V, TensorFlow 2.8, from a public guide to
meta-tensorflow-lite; (new) the head of an EfficientDet profile of 2024 on x86-64, from public
notes on LiteRT; (csv) output of a build with a [start] column, from a public parser's own test;
the CSV form without it as tensorflow/core/util/stats_calculator.cc writes it. Shortened, numbers
as recorded.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.latency.benchmark_model import parse_profile, read_profile

OLD = """STARTING!
Num threads: [4]
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, \
Inference (avg): 2.95034e+06
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  \
[mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t            0.000\t    1.356\t    1.356\t100.000%\t100.000%\t     \
0.000\t        1\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  \
[mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     \
0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0
\t       DEPTHWISE_CONV_2D\t           61.033\t   53.628\t   49.870\t  1.691%\t  3.757%\t     \
0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6]:1
\t                 SOFTMAX\t         2950.011\t    0.230\t    0.233\t  0.008%\t100.000%\t     \
0.000\t        1\t[MobilenetV1/Predictions/Reshape_1]:30

============================== Top by Computation Time ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  \
[mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t          898.426\t  263.724\t  277.374\t  9.403%\t  9.403%\t     \
0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_5_pointwise/Relu6]:10
"""

HEAD = (
    "                                     [node type]          [first]        [avg ms]            "
    "[%]          [cdf%]          [mem KB]        [times called]  [Name]\n"
)
NEW = (
    "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
    "============================== Run Order ==============================\n"
    + HEAD
    + """                                        QUANTIZE            0.199           0.203         \
1.328%          1.328%             0.000                1       [tfl.quantize]:0
                   Convolution (NHWC, QC8) IGEMM            0.398           0.407         2.658%   \
       3.986%             0.000                1       Delegate/Convolution (NHWC, QC8) IGEMM:0
"""
)
SHARED = (
    NEW
    + """                  Convolution (NHWC, QC8) DWConv            0.428           0.051         \
4.317%          8.304%             0.000               13       \
Delegate/Convolution (NHWC, QC8) DWConv:1
"""
)

CSV = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 0, 0.11, 0.0930388, 44.8994%, 44.8994%, 0, 1, [sequential_11/conv2d_33/Conv2D]:0
ELU, 0.0931277, 0.034, 0.0300884, 14.5203%, 59.4197%, 0, 1, [sequential_11/conv2d_33/Elu]:1
ELU, 0.203215, 0.001, 0.000868238, 0.419001%, 98.2914%, 0, 1, [sequential_11/conv2d_35/Elu]:7

============================== Top by Computation Time ==============================
"""
CSV_NEW = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, first, avg_ms, %, cdf%, mem KB, times called, name
Convolution (NHWC, F32) IGEMM, 0.398, 0.407, 2.658%, 3.986%, 0, 1, \
Delegate/Convolution (NHWC, F32) IGEMM:0
"""


def test_the_regular_form_with_a_start_column() -> None:
    events = parse_profile(OLD, "here")
    assert [(each.kind, each.ms) for each in events] == [
        ("CONV_2D", 60.957),
        ("DEPTHWISE_CONV_2D", 49.870),
        ("SOFTMAX", 0.233),
    ]
    assert events[0].name == "[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0"


def test_the_regular_form_without_it() -> None:
    events = parse_profile(NEW, "here")
    assert [(each.kind, each.ms) for each in events] == [
        ("QUANTIZE", 0.203),
        ("Convolution (NHWC, QC8) IGEMM", 0.407),
    ]
    assert events[1].name == "Delegate/Convolution (NHWC, QC8) IGEMM:0"


@pytest.mark.parametrize(
    ("text", "kinds", "ms"),
    [
        (CSV, ["CONV_2D", "ELU", "ELU"], 0.0930388),
        (CSV_NEW, ["Convolution (NHWC, F32) IGEMM"], 0.407),
        (CSV.replace("Operator-wise Profiling Info for Regular Benchmark Runs:\n", ""), None, None),
        (CSV.replace("\n", "\r\n"), ["CONV_2D", "ELU", "ELU"], 0.0930388),
    ],
)
def test_the_csv_forms(text: str, kinds: list[str] | None, ms: float | None) -> None:
    events = parse_profile(text, "here")
    assert kinds is None or [each.kind for each in events] == kinds
    assert ms is None or events[0].ms == ms


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no 'Run Order' table"),
        ("count=50 first=1", "enable_op_profiling=true"),
        (OLD.replace("[node type]", "[what]"), "is no header"),
        (CSV.replace("0.0300884", "soon"), "line 5: is no operator: 'ELU"),
        (SHARED, "stands for 13 operators at once"),
    ],
)
def test_what_is_no_profile_is_one_clear_error(text: str, said: str) -> None:
    with pytest.raises(MobilesegError, match=said):
        parse_profile(text, "here")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match=r"gone\.csv: cannot be read"):
        read_profile(tmp_path / "gone.csv")


def test_the_tools_own_mean_is_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    path.write_text(OLD, encoding="utf-8")
    found = read_profile(path)
    assert (found.median_ms, found.threads, found.runs) == (2950.34, 4, 50)
    path.write_text(CSV, encoding="utf-8")
    found = read_profile(path)
    assert found.median_ms == pytest.approx(0.0930388 + 0.0300884 + 0.000868238)
    assert (found.threads, found.runs) == (None, None)
