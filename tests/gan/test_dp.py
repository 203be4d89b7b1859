"""The clipped gradient: against one row at a time, against neighbours, and at its edges."""

import numpy as np
import pytest
import torch
from torch import Tensor

from synthgen.dp.noise import Noise
from synthgen.encode.column import Layout
from synthgen.gan import dp
from synthgen.gan.condition import unknown_mean
from synthgen.gan.nets import Skeleton

SIZES = (3, 4, 9)


def layout() -> Layout:
    return Layout(
        sizes=np.array(SIZES),
        n_coarse=3,
        parents=np.zeros(0, np.int64),
        priors=tuple(np.full(n, 1 / n) for n in SIZES),
        fine_priors=(),
        positions=(np.full(3, np.nan), np.full(4, np.nan), np.linspace(0, 1, 9)),
        offset_parents=np.zeros(0, np.int64),
        offset_fines=np.zeros(0, np.int64),
        tails=(),
        cells=(),
    )


def skeleton(scale: float = 1.0, seed: int = 0) -> Skeleton:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Skeleton(layout(), 8, 2)
        for p in net.parameters():
            p.data = torch.randn_like(p) * scale
    return net


def batch(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    tokens = np.column_stack([rng.integers(0, s, n) for s in SIZES]).reshape(n, 3)
    known = np.zeros((n, 3), bool)
    known[np.arange(n), rng.integers(0, 3, n)] = rng.random(n) < 0.7
    return torch.from_numpy(tokens).long(), torch.from_numpy(known)


def gradient(net: Skeleton, tokens: Tensor, known: Tensor) -> Tensor:
    """Return the gradient of one row by the plain objective, flat."""
    loss = unknown_mean(net.cross_entropies(tokens, known), known).sum()
    found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for p, g in zip(net.parameters(), found, strict=True)
        ]
    )


@pytest.mark.parametrize("n", [1, 7])
def test_norms_equal_those_of_one_row_at_a_time(n: int) -> None:
    net, (tokens, known) = skeleton(), batch(n)
    losses, norms = dp.losses_and_norms(net, tokens, known)
    rows = [gradient(net, tokens[i : i + 1], known[i : i + 1]) for i in range(n)]
    assert norms.tolist() == pytest.approx([float(r.norm()) for r in rows], rel=1e-4)
    assert losses.tolist() == pytest.approx(
        unknown_mean(net.cross_entropies(tokens, known), known).tolist(), rel=1e-5
    )


def test_the_sum_equals_that_of_clipped_rows() -> None:
    net, (tokens, known) = skeleton(), batch(7)
    got = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 0.5)])
    rows = [gradient(net, tokens[i : i + 1], known[i : i + 1]) for i in range(7)]
    norm = 0.5 * (1 - dp.ROUNDING)
    expected = torch.stack([r * min(1, norm / float(r.norm())) for r in rows]).sum(dim=0)
    assert torch.allclose(got, expected, atol=1e-5)


def test_an_empty_batch_is_a_sum_of_zeros() -> None:
    tokens, known = batch(0)
    found = dp.clipped_sum(skeleton(), tokens, known, 1.0)
    assert all(float(g.abs().sum()) == 0 for g in found)


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 10.0, 100.0])
def test_leaving_out_a_row_changes_the_sum_by_the_norm_at_most(scale: float) -> None:
    for seed in range(15):
        net, (tokens, known) = skeleton(scale, seed), batch(6, seed)
        whole = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 1.0)])
        for i in range(6):
            rest = torch.arange(6) != i
            part = torch.cat(
                [g.flatten() for g in dp.clipped_sum(net, tokens[rest], known[rest], 1.0)]
            )
            assert float((whole - part).double().norm()) <= 1  # not 1.0001: the noise is for 1


def spoil(net: Skeleton, value: float) -> tuple[Tensor, Tensor]:
    """Return rows of which the first alone meets an embedding that is `value`."""
    tokens, known = batch(4)
    tokens[:, 0] = torch.tensor([0, 1, 1, 1])
    known[:] = torch.tensor([True, False, False])
    with torch.no_grad():
        net.tokens.table.own[0] = value  # level 0 of token 0
    return tokens, known


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_row_that_is_not_finite_adds_nothing(value: float) -> None:
    net = skeleton()
    tokens, known = spoil(net, value)
    found = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 1.0)])
    rest = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens[1:], known[1:], 1.0)])
    assert torch.isfinite(found).all()
    assert float((found - rest).norm()) <= 1
    alone = dp.clipped_sum(net, tokens[:1], known[:1], 1.0)
    assert all(bool(torch.isfinite(g).all()) for g in alone)


def test_at_the_edge_of_the_norm_nothing_but_the_room_for_rounding_is_cut() -> None:
    net, (tokens, known) = skeleton(), batch(1)
    plain = gradient(net, tokens, known)
    for norm, expected in ((2.0, 1.0), (1.0, 1 - dp.ROUNDING), (0.5, 0.5 * (1 - dp.ROUNDING))):
        got = torch.cat(
            [g.flatten() for g in dp.clipped_sum(net, tokens, known, norm * float(plain.norm()))]
        )
        assert float(got.norm() / plain.norm()) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_of_zeros_stays_one() -> None:
    net, (tokens, known) = skeleton(scale=0.0), batch(3)
    found = dp.clipped_sum(net, tokens, torch.ones_like(known) & ~known.new_tensor([1, 0, 0]), 1.0)
    assert all(bool(torch.isfinite(g).all()) for g in found)


def test_equal_settings_give_other_weights() -> None:
    steps = dp.Steps(2, 0.5, 1.0, 1.0, 5.0)
    tokens, _ = batch(10)
    a, b = (dp.train_privately(skeleton(), tokens, steps, Noise()) for _ in range(2))
    assert not torch.equal(a.bias, b.bias)


def test_each_step_adds_noise_of_its_scale() -> None:
    """No row takes part: what is left of a step is noise over the expected batch."""

    class Quiet(Noise):
        def poisson(self, n: int, rate: float) -> np.ndarray:
            return np.zeros(0, np.int64)

        def normal(self, std: float, size: int) -> np.ndarray:
            scales.append(std)
            return super().normal(std, size)

    scales: list[float] = []
    net = skeleton()
    dp.train_privately(net, batch(10)[0], dp.Steps(3, 0.5, 2.0, 0.25, 5.0), Quiet())
    assert set(scales) == {0.5}
    assert len(scales) == 3 * len(list(net.parameters()))
