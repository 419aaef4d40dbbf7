"""Zeros stay zeros, equals stay equal, and what is folded computes what it did."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.nets.module import build
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.compress.cluster import STARTS, Clusters, k_means
from mobileseg.train.compress.config import Cluster, Sparse
from mobileseg.train.compress.layers import fold_norms
from mobileseg.train.compress.sparse import Masks
from tests.slim.test_inherit import NETS, run, trained


def net(name: str = "v2.1.5") -> nn.Module:
    spec = NETS[name]
    module = build(spec)
    module.load_state_dict(trained(spec, 1))
    return module


def zeros(weight: Tensor) -> float:
    return float((weight == 0).float().mean())


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.rand(2, 3, 32, 64, generator=Generator().manual_seed(seed)) - 0.5
    optimizer.zero_grad()
    module.train()
    out = module(x)
    (out - x[:, :1]).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "config",
    [
        Sparse(share=0.8, every=1),
        Sparse(share=0.8, every=1, layers="alike"),
        Sparse(pattern="2:4", every=2),
    ],
)
def test_masks_grow_as_a_cubic_and_stay(config: Sparse) -> None:
    module, steps = net(), 12
    masks = Masks(module, config, steps)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    before = {name: weight.detach().clone() for name, weight in masks.weights.items()}
    gone: dict[str, Tensor] = {}
    shares = []
    for done in range(1, steps + 1):
        step(module, optimizer, done)
        masks.after_step(done)
        shares.append(zeros(torch.cat([weight.flatten() for weight in masks.weights.values()])))
        for name, weight in masks.weights.items():
            now = weight == 0
            assert bool((gone.get(name, now) <= now).all()), "a zero came back"
            gone[name] = now
    assert shares == sorted(shares)
    assert shares[3] > 0.6 * config.final
    assert shares[-1] == pytest.approx(config.final, abs=1e-3)
    for name, weight in masks.weights.items():
        if config.layers == "alike" or config.of:
            assert zeros(weight) == pytest.approx(config.final, abs=1 / weight.numel())
        assert not torch.equal(weight, before[name])
        assert bool((weight.grad[weight == 0] == 0).all())  # type: ignore[index]


def test_small_layers_keep_more_than_large_ones() -> None:
    module = net()
    masks = Masks(module, Sparse(share=0.9, every=1, end=0.5), 2)
    before = {name: weight.detach().clone() for name, weight in masks.weights.items()}
    masks.after_step(1)
    # Lee et al., equation 5, as it is written: every weight beside those of its layer.
    worth = {}
    for name, weight in before.items():
        square = weight.flatten().double().square()
        worth[name] = torch.stack([value / square[square >= value].sum() for value in square])
    bar = torch.cat(list(worth.values())).sort().values[round(0.9 * sum(map(len, worth.values())))]
    for name, weight in masks.weights.items():
        assert torch.equal((weight != 0).flatten(), worth[name] >= bar)
    small, large = (zeros(masks.weights[name]) for name in ("conv1.conv", "deconv1.deconv"))
    assert small < 0.8
    assert large > 0.9


def test_n_of_m_leaves_the_largest_neighbours() -> None:
    module = net()
    masks = Masks(module, Sparse(pattern="1:4", every=1, end=0.5), 2)
    before = {name: weight.detach().abs() for name, weight in masks.weights.items()}
    masks.after_step(1)
    for name, weight in masks.weights.items():
        axis = 0 if name.startswith("deconv") else 1
        fours = before[name].movedim(axis, -1).unflatten(-1, (-1, 4))
        kept = (weight != 0).movedim(axis, -1).unflatten(-1, (-1, 4))
        assert bool((kept.sum(-1) == 1).all())
        assert torch.equal(fours[kept], fours.amax(-1).flatten())


def test_masks_go_on_where_a_training_broke_off() -> None:
    config, steps = Sparse(share=0.7, every=3), 9

    def train(first: int, last: int, module: nn.Module) -> dict[str, Tensor]:
        masks = Masks(module, config, steps)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
        for done in range(first, last + 1):
            step(module, optimizer, done)
            masks.after_step(done)
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}

    whole = train(1, 9, net())
    module = net()
    state = train(1, 4, module)
    fresh = net()
    fresh.load_state_dict(state)
    resumed = train(5, 9, fresh)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_depthwise_layers_and_the_classifier_stay_whole() -> None:
    masks = Masks(net(), Sparse(share=0.5, keep=("conv5_*",)), 10)
    assert {"conv1.conv", "conv2_1.pw", "deconv1.deconv"} <= masks.weights.keys()
    assert not any(name.endswith(".dw") or "conv5" in name for name in masks.weights)
    with pytest.raises(MobilesegError, match="no layer is left"):
        Masks(net(), Sparse(share=0.5, keep=("*",)), 10)
    with pytest.raises(MobilesegError, match=r"keep: .*'x'"):
        Masks(net(), Sparse(share=0.5, keep=("x",)), 10)


def test_layers_that_a_pattern_does_not_fit_are_named() -> None:
    masks = Masks(net(), Sparse(pattern="2:4", every=1, end=0.5), 2)
    assert masks.misfits == {"conv1.conv": 3}
    assert masks.note() == (
        f"sparse: pattern = '2:4' leaves 1 of {len(masks.weights) + 1} layers whole, whose inputs "
        "do not divide by 4: conv1.conv (3)"
    )
    masks.after_step(2)
    assert zeros(net().conv1.conv.weight) == 0  # type: ignore[union-attr,arg-type]
    assert not Masks(net(), Sparse(share=0.5), 2).note()
    kept = Sparse(pattern="2:4", keep=("conv1",))
    assert not Masks(net(), kept, 2).note()
    with pytest.raises(MobilesegError, match=r"'1:64' leaves .* by 64: conv1\.conv"):
        Masks(net(), Sparse(pattern="1:64"), 2)


@pytest.mark.parametrize("name", ["v2.1.4", "v2.1.6", "crossed"])
def test_folded_norms_change_nothing(name: str) -> None:
    spec, module = NETS[name], net(name)
    before = run(spec, module.state_dict())
    left = fold_norms(module)
    torch.testing.assert_close(run(spec, module.state_dict()), before, rtol=1e-4, atol=1e-5)
    assert bool(left) == (name != "v2.1.6")  # CReLU
    module.train()
    x = torch.rand(1, 3, *spec.image_size, generator=Generator().manual_seed(3)) - 0.5
    assert torch.equal(module(x), module.eval()(x))


@pytest.mark.parametrize("start", STARTS)
def test_k_means_is_a_fixed_point_and_finds_what_is_there(start: str) -> None:
    draws = Generator().manual_seed(0)
    there = torch.tensor([-3.0, -1.0, 0.5, 4.0], dtype=torch.float64)
    noise = torch.randn(4, 500, generator=draws, dtype=torch.float64) * 0.01
    found = k_means((there[:, None] + noise).flatten(), 4, STARTS[start], draws)
    assert torch.allclose(found, there, atol=0.01)
    values = torch.randn(3000, generator=draws, dtype=torch.float64)
    centres = k_means(values, 16, STARTS[start], draws)
    assert len(centres) <= 16
    nearest = (values[:, None] - centres).abs().argmin(1)
    for number, centre in enumerate(centres):
        if (nearest == number).any():
            assert float(values[nearest == number].mean() - centre) == pytest.approx(0, abs=5e-3)


@pytest.mark.parametrize("init", STARTS)
def test_equal_weights_stay_equal_and_learn(init: str) -> None:
    module = net()
    clusters = Clusters(module, Cluster(clusters=8, init=init), 0)  # type: ignore[arg-type]
    first = {name: weight.detach().clone() for name, weight in clusters.weights.items()}
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    for done in range(1, 6):
        step(module, optimizer, done)
        clusters.after_step(done)
    assert "conv2_1.pw" in clusters.weights
    # Clustered, the filters of a depthwise layer would lose what tells them apart.
    assert "conv2_1.dw" not in clusters.weights
    for name, weight in clusters.weights.items():
        assert len(weight.unique()) <= 8
        assert not torch.equal(weight, first[name])
        for value in first[name].unique():
            assert len(weight[first[name] == value].unique()) == 1


def test_clusters_keep_zeros() -> None:
    module = net()
    masks = Masks(module, Sparse(share=0.6, every=1, end=0.5), 2)
    masks.after_step(2)
    gone = {name: weight == 0 for name, weight in masks.weights.items()}
    Clusters(module, Cluster(clusters=5), 0)
    for name, weight in masks.weights.items():
        assert bool((weight[gone[name]] == 0).all())
        assert len(weight.unique()) <= 5


@pytest.mark.parametrize(
    "wrong",
    [{}, {"share": 0.5, "pattern": "2:4"}, {"pattern": "4:2"}, {"pattern": "x"}],
)
def test_a_sparse_wish_is_one_wish(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"pattern|share"):
        Sparse(**wrong)  # type: ignore[arg-type]


def test_other_networks_can_too() -> None:
    for name in ("portrait_squeeze", "lraspp_mobilenet_v3_small"):
        module = build(zoo_net(name, (64, 64), 2, "test"))
        Masks(module, Sparse(share=0.5, every=1, end=0.5), 2).after_step(2)
        Clusters(module, Cluster(), 0)
        assert bool(torch.isfinite(module(torch.zeros(1, 3, 64, 64))).all())
