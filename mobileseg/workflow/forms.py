"""Which exact form of its operators a file gets: by price, on the devices that it is for.

A device's word counts only where it was measured: where its profile assumes a kernel that the two
forms differ in, the operator stays as it is, and the verdict says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import shipped
from mobileseg.graph.ir import DType, Graph, Tensor, hollow
from mobileseg.graph.passes import (
    FINISH,
    FOR_TFLITE,
    REWRITES,
    SETTLE,
    Pass,
    Rewrite,
    merge_twins,
    run_passes,
)
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile, load_profile
from mobileseg.latency.table import Pricing
from mobileseg.workflow.device import device

# Instructions counted on Arm stand beside the published latencies: they judge forms, nothing else.
ARM_COUNTS = "arm_counts"
# Who decides where nobody is named: all that was measured in the runtime that we ship for.
MEASURED = ("host", ARM_COUNTS)
_BY_NAME = {rewrite.name: rewrite for rewrite in REWRITES}
_WORDS = ("auto", "all", "none")
# Of the price: what saves less than a hundredth of a percent is not worth another operator.
_LEAST = 1e-4


@dataclass(frozen=True)
class Forms:
    """What is asked of a file's operators.

    int8: what the file computes with. rewrite: "auto" by price, "all", "none", or rewrites by name
    with commas between, wherever they apply. devices: whose prices decide; by default `MEASURED`.
    """

    int8: bool = True
    rewrite: str = "auto"
    devices: tuple[str, ...] = ()

    def label(self) -> str:
        """Return what is not the default, in a word for file names."""
        if self.rewrite == "none":
            return "plain"
        if self.rewrite == "auto":
            return "_".join(self.devices and ("for", *(_stem(name) for name in self.devices)))
        return "rewritten" if self.rewrite == "all" else "_".join(self.names())

    def names(self) -> list[str]:
        """Return the rewrites that are named; none where a word stands for them."""
        if self.rewrite in _WORDS:
            return []
        return [name.strip() for name in self.rewrite.split(",")]

    def require(self) -> None:
        """Raise MobilesegError for a device that there is not, or a rewrite that may not be."""
        self.judges()
        self.wanted()

    def wanted(self) -> list[Rewrite]:
        """Return the rewrites to try, in the order in which they apply."""
        if self.rewrite in _WORDS:
            return [each for each in REWRITES if each.at_int8 or not self.int8]
        names = self.names()
        for name in names:
            if name not in _BY_NAME:
                raise unknown("--rewrite", "rewrite", name, (*_WORDS, *_BY_NAME))
            if self.int8 and not _BY_NAME[name].at_int8:
                raise MobilesegError(
                    f"--rewrite: {name} is for float files, at int8 it would round once more; "
                    "leave it out"
                )
        return [each for each in REWRITES if each.name in names]

    def judges(self) -> list[DeviceProfile]:
        """Return the profiles that decide; none where the rewrites are given."""
        if self.rewrite != "auto":
            return []
        return [judge(name) for name in self.devices or MEASURED]


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".toml")


FOR_INT8, FOR_FLOAT = Forms(int8=True), Forms(int8=False)


@dataclass(frozen=True)
class Verdict:
    """A rewrite at layers of one shape. change_percent: of the network's price, by device."""

    rewrite: str
    says: str
    layers: tuple[str, ...]
    taken: bool
    why: str
    change_percent: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The rewrites that are taken, by name, and at which nodes' outputs; and why."""

    taken: tuple[tuple[str, tuple[str, ...]], ...]
    verdicts: tuple[Verdict, ...]
    settle: bool = True

    def __call__(self, graph: Graph) -> Graph:
        """Return the graph in the chosen form, as TFLite says it."""
        return run_passes(graph, self.passes())

    def passes(self) -> tuple[Pass, ...]:
        """Return all that makes the graph so, in order; each has a name and says what it does."""
        rewrites = [_BY_NAME[name].at(sites) for name, sites in self.taken]
        return (*rewrites, *(SETTLE if self.settle else ()), *FOR_TFLITE, *FINISH)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Plain data for JSON."""
        return [asdict(verdict) for verdict in self.verdicts]


# Nothing rewritten, and nothing said of it.
UNCHANGED = Choice((), (), settle=False)


def judge(name: str) -> DeviceProfile:
    """Return a device's profile, or the instruction counts."""
    if name == ARM_COUNTS:
        return load_profile(shipped("assets", "latency") / f"{ARM_COUNTS}.toml")
    return device(name)


def choose(graph: Graph, forms: Forms) -> Choice:
    """Return what to rewrite in a float graph as the network has it.

    Raises MobilesegError for a rewrite or a device that there is not, and for a rewrite that is
    named and applies nowhere.
    """
    if forms.rewrite == "none":
        return UNCHANGED
    wanted = forms.wanted()
    judges = forms.judges()
    graph = _weightless(graph)
    taken, verdicts = [], []
    for rewrite in wanted:
        sites = rewrite.sites(graph)
        if not sites:
            continue
        before = _priced(graph, judges, forms)
        mine = [_judged(graph, rewrite, group, forms, before) for group in _alike(graph, sites)]
        chosen = tuple(name for verdict, group in mine if verdict.taken for name in group)
        verdicts += [verdict for verdict, _ in mine]
        if chosen:
            taken.append((rewrite.name, chosen))
            graph = rewrite(graph, chosen)
    idle = set(forms.names()) - {name for name, _ in taken}
    if idle:
        raise MobilesegError(
            f"--rewrite: {', '.join(sorted(idle))} applies nowhere in this network; leave it out"
        )
    return Choice(tuple(taken), tuple(verdicts))


def _alike(graph: Graph, sites: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sites in groups whose nodes and neighbours are of one kind and size."""
    groups: dict[object, list[str]] = {}
    for name in sites:
        node = graph.producers[name]
        makers = [graph.producers.get(each) for each in node.inputs]
        signature = (
            node.op,
            graph.shapes(node),
            tuple(maker.op for maker in makers if maker is not None),
            tuple(reader.op for reader in graph.consumers[name]),
        )
        groups.setdefault(signature, []).append(name)
    return [tuple(names) for names in groups.values()]


def _judged(
    graph: Graph,
    rewrite: Rewrite,
    sites: tuple[str, ...],
    forms: Forms,
    before: Sequence[Pricing],
) -> tuple[Verdict, tuple[str, ...]]:
    layers = tuple(graph.producers[name].layer for name in sites)
    blank = Verdict(rewrite.name, rewrite.says, layers, True, "asked for", {})
    if forms.rewrite != "auto":
        return blank, sites
    after = _priced(rewrite(graph, sites), [each.profile for each in before], forms)
    pairs = list(zip(before, after, strict=True))
    ratios = {old.profile.name: new.ms / old.ms for old, new in pairs}
    unknowns = [
        f"{old.profile.name} has no data for {', '.join(kernels)}"
        for old, new in pairs
        if (kernels := _unmeasured(old, new))
    ]
    pays = sum(map(log, ratios.values())) < -_LEAST
    why = "; ".join(unknowns) or ("pays" if pays else "does not pay")
    verdict = replace(
        blank,
        taken=pays and not unknowns,
        why=why,
        change_percent={name: 100 * (ratio - 1) for name, ratio in ratios.items()},
    )
    return verdict, sites


def _priced(graph: Graph, judges: Sequence[DeviceProfile], forms: Forms) -> list[Pricing]:
    made = run_passes(graph, (*SETTLE, *FOR_TFLITE, merge_twins))
    made = _typed_int8(made) if forms.int8 else made
    return [price(made, profile) for profile in judges]


def _unmeasured(before: Pricing, after: Pricing) -> list[str]:
    """Return the kernels that two prices differ in and that the profile assumes."""
    old, new = (Counter((r.kernel, round(r.ms, 9)) for r in each.rows) for each in (before, after))
    differing = {kernel for kernel, _ in (old - new) + (new - old)}
    rows = (*before.rows, *after.rows)
    return sorted({row.kernel for row in rows if row.ms and row.basis == "assumed"} & differing)


def _weightless(graph: Graph) -> Graph:
    """Return the graph without its large weights: prices do not ask for them."""
    return graph.with_tensors(
        replace(tensor, data=hollow(tensor.shape))
        for tensor in graph.tensors.values()
        if tensor.data is not None and tensor.data.ndim == 4 and tensor.data.size > 64
    )


def _typed_int8(graph: Graph) -> Graph:
    """Return the graph with int8's types and nothing else of it: what a price depends on."""

    def typed(tensor: Tensor) -> Tensor:
        is_bias = tensor.data is not None and len(tensor.shape) == 1
        dtype: DType = "int32" if is_bias or tensor.dtype == "int32" else "int8"
        return replace(tensor, dtype=dtype)

    return graph.with_tensors(typed(tensor) for tensor in graph.tensors.values())
