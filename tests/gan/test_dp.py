"""The clipped gradient: against one row at a time, against neighbours, and at its edges."""

import numpy as np
import pytest
import torch
from scipy import stats
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
    loss = unknown_mean(net.losses(tokens, known, fine=False), known).sum()
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
        unknown_mean(net.losses(tokens, known, fine=False), known).tolist(), rel=1e-5
    )


def test_the_sum_equals_that_of_clipped_rows() -> None:
    net, (tokens, known) = skeleton(), batch(7)
    got = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 0.5)])
    rows = [gradient(net, tokens[i : i + 1], known[i : i + 1]) for i in range(7)]
    expected = torch.stack([r * min(1, 0.5 / float(r.norm())) for r in rows]).sum(dim=0)
    assert torch.allclose(got, expected, atol=1e-5)


def test_an_empty_batch_is_a_sum_of_zeros() -> None:
    tokens, known = batch(0)
    found = dp.clipped_sum(skeleton(), tokens, known, 1.0)
    assert all(float(g.abs().sum()) == 0 for g in found)


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 10.0])
def test_leaving_out_a_row_changes_the_sum_by_the_norm_at_most(scale: float) -> None:
    for seed in range(15):
        net, (tokens, known) = skeleton(scale, seed), batch(6, seed)
        whole = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 1.0)])
        for i in range(6):
            rest = torch.arange(6) != i
            part = torch.cat(
                [g.flatten() for g in dp.clipped_sum(net, tokens[rest], known[rest], 1.0)]
            )
            assert float((whole - part).norm()) <= 1 + 1e-4


def test_a_row_that_is_not_finite_adds_nothing() -> None:
    net, (tokens, known) = skeleton(), batch(4)
    tokens[:, 0] = torch.tensor([0, 1, 1, 1])
    known[:] = torch.tensor([True, False, False])
    with torch.no_grad():
        net.tokens.table.own[0] = float("nan")  # level 0 of token 0: the first row only
    found = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens, known, 1.0)])
    rest = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens[1:], known[1:], 1.0)])
    assert torch.isfinite(found).all()
    assert torch.allclose(found, rest)


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


# --- a white-box audit: the strongest adversary, against the accountant's own trade-off -----------


def audit(steps: dp.Steps, trials: int = 300) -> float:
    """Return the AUC of telling steps with a canary row from steps without it.

    The adversary knows the weights, all other rows and every coin but the noise. What is left of a
    step, without the others' clipped sum, along the canary's gradient is the optimal statistic.
    """
    net, (tokens, known) = skeleton(scale=0.5), batch(24)
    noise, direction = Noise(), gradient(net, tokens[:1], known[:1])
    direction = direction / direction.norm()
    others = torch.cat([g.flatten() for g in dp.clipped_sum(net, tokens[1:], known[1:], 1.0)])

    def statistic(first: int) -> float:
        mean = dp.noised_mean(net, tokens[first:], known[first:], steps, noise)
        released = torch.cat([g.flatten() for g in mean]) * 24
        return float((released - others) @ direction)

    seen = {first: [statistic(first) for _ in range(trials)] for first in (0, 1)}
    return float(stats.mannwhitneyu(seen[0], seen[1]).statistic) / trials**2


def bound_auc(noise_multiplier: float) -> float:
    """AUC of the dominating pair of one step with all rows: N(0, s) against N(1, s)."""
    return float(stats.norm.cdf(1 / noise_multiplier / 2**0.5))


CLAIMED = 1.2
#: Four standard errors of an AUC from 300 trials a side.
MARGIN = 0.09


def test_the_audit_finds_no_more_than_the_accountant_allows() -> None:
    found = audit(dp.Steps(1, 0.5, CLAIMED, 1.0, 24.0))
    assert found <= bound_auc(CLAIMED) + MARGIN
    assert found > 0.6  # and it has the power to find what is there: .72 at best


@pytest.mark.parametrize(
    "broken",
    [
        dp.Steps(1, 0.5, CLAIMED / 2.5, 1.0, 24.0),  # less noise than claimed
        dp.Steps(1, 0.5, CLAIMED / 24**0.5, 1.0, 24.0),  # noise over the root of the batch
        dp.Steps(1, 0.5, CLAIMED / 100, 100.0, 24.0),  # clipped at 100, noise for 1
    ],
    ids=["noise", "root", "unclipped"],
)
def test_the_audit_catches_broken_steps(broken: dp.Steps) -> None:
    assert audit(broken) > bound_auc(CLAIMED) + MARGIN
