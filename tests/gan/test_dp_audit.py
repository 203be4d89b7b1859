"""A white-box audit: the strongest adversary against the accountant's own pair of distributions.

The adversary knows the weights, every row, every mask and every coin but the noise, and asks
whether one row, the canary, was there. What the accountant allows is a trade-off between true and
false positives (`accountant.power`), so the area under the adversary's curve has a bound. Epsilon
estimates from thresholds would miss most of the broken variants below at these numbers of trials.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from synthgen.dp.accountant import Mechanism, power
from synthgen.dp.noise import Noise
from synthgen.encode.column import Layout
from synthgen.gan import dp
from synthgen.gan.condition import unknown_mean
from synthgen.gan.nets import Skeleton

SIZES, ROWS = (3, 4, 9), 24
CLAIMED = 1.2
TRIALS = 200
#: Standard errors: a correct step fails once in 30,000 runs.
Z = 4.0


def problem() -> tuple[Skeleton, Tensor, Tensor]:
    """Return weights, 24 rows and masks; every gradient is longer than the norm of 1."""
    layout = Layout(
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
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Skeleton(layout, 8, 2)
        for p in net.parameters():
            p.data = torch.randn_like(p)
    tokens = torch.from_numpy(np.column_stack([rng.integers(0, s, ROWS) for s in SIZES]))
    return net, tokens, torch.zeros(ROWS, 3, dtype=torch.bool)


def gradients(net: Skeleton, tokens: Tensor, known: Tensor) -> list[Tensor]:
    """Return the gradients of the rows one by one, a (B, P) matrix a parameter."""
    rows = []
    for i in range(len(tokens)):
        loss = net.cross_entropies(tokens[i : i + 1], known[i : i + 1])
        mean = unknown_mean(loss, known[i : i + 1]).sum()
        found = torch.autograd.grad(mean, list(net.parameters()), allow_unused=True)
        pairs = zip(net.parameters(), found, strict=True)
        rows.append([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def area(with_it: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    """Return the area under the curve and its standard error (Hanley & McNeil 1982)."""
    auc = float(stats.mannwhitneyu(with_it, without).statistic) / len(with_it) / len(without)
    a, b = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    n, m = len(with_it), len(without)
    variance = (auc * (1 - auc) + (n - 1) * (a - auc**2) + (m - 1) * (b - auc**2)) / (n * m)
    return auc, max(variance, 0.25 / (n * m)) ** 0.5


@cache
def allowed(*mechanisms: Mechanism) -> float:
    """Return the area under the curve of true positives that the accountant allows."""
    grid = np.linspace(0, 1, 2_001)
    return float(np.trapezoid(power(mechanisms, grid), grid))


# --- one step with every row ----------------------------------------------------------------------

Step = Callable[[slice], Tensor]


def audit(step: Step, exact: Step, trials: int = TRIALS) -> tuple[float, float]:
    """Audit a noised `step` of which `exact` is the sum before noise; both take the rows' slice."""
    direction = exact(slice(0, None)) - exact(slice(1, None))
    direction = direction / direction.norm()
    seen = [
        np.array([float(step(slice(first, None)) @ direction) for _ in range(trials)])
        for first in (0, 1)
    ]
    return area(*seen)


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([p.flatten() for p in parts]).double()


ONE_STEP = Mechanism("step", "sampled-gaussian", CLAIMED, 1)


def test_what_is_allowed_is_what_a_person_can_work_out() -> None:
    # N(0, 1.2) against N(1, 1.2): Phi(1 / 1.2 / sqrt 2) = .7222
    assert allowed(ONE_STEP) == pytest.approx(0.7222, abs=0.002)


def test_a_correct_step_shows_no_more_than_is_allowed() -> None:
    net, tokens, known = problem()
    steps, noise = dp.Steps(1, 0.5, CLAIMED, 1.0, 1.0), Noise()
    auc, error = audit(
        lambda rows: flat(dp.noised_mean(net, tokens[rows], known[rows], steps, noise)),
        lambda rows: flat(dp.clipped_sum(net, tokens[rows], known[rows], 1.0)),
    )
    assert auc - Z * error <= allowed(ONE_STEP)
    assert auc > 0.6  # and the audit has the power to find what is there


def clipped(rows: Tensor, norm: float = 1.0) -> Tensor:
    return rows * (norm / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


def correct(parts: list[Tensor]) -> Tensor:
    return clipped(torch.cat(parts, dim=1)).sum(dim=0)


def clipped_per_layer(parts: list[Tensor]) -> Tensor:
    return torch.cat([clipped(part).sum(dim=0) for part in parts])


def clipped_mean(parts: list[Tensor]) -> Tensor:
    return ROWS * clipped(torch.cat(parts, dim=1).mean(dim=0, keepdim=True))[0]


def unclipped_part(parts: list[Tensor]) -> Tensor:
    return torch.cat([clipped(torch.cat(parts[1:], dim=1)).sum(dim=0), parts[0].sum(dim=0)])


def unclipped(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=1).sum(dim=0)


BROKEN: dict[str, tuple[Callable[[list[Tensor]], Tensor], float]] = {
    "half of the noise": (correct, CLAIMED / 2),
    "noise over the root of the batch": (correct, CLAIMED / ROWS**0.5),
    "a norm for each layer": (clipped_per_layer, CLAIMED),
    "the mean is clipped, not the rows": (clipped_mean, CLAIMED),
    "a part is not clipped": (unclipped_part, CLAIMED),
    "nothing is clipped": (unclipped, CLAIMED),
}


def noised(rule: Callable[[list[Tensor]], Tensor], std: float) -> tuple[Step, Step]:
    """Return a step that sums by `rule`, and its exact sum, where the canary outweighs the rest."""
    parts, noise = gradients(*problem()), Noise()
    weight = torch.full((ROWS, 1), 1e3)
    weight[0] = 1e5
    parts = [part * weight for part in parts]
    sums = {first: rule([p[first:] for p in parts]).double() for first in (0, 1)}

    def exact(rows: slice) -> Tensor:
        return sums[rows.start]

    def step(rows: slice) -> Tensor:
        return exact(rows) + torch.from_numpy(noise.normal(std, len(sums[0])))

    return step, exact


def test_the_same_step_made_of_single_rows_passes() -> None:
    auc, error = audit(*noised(correct, CLAIMED))
    assert auc - Z * error <= allowed(ONE_STEP)


@pytest.mark.parametrize("variant", BROKEN)
def test_broken_steps_are_caught(variant: str) -> None:
    auc, error = audit(*noised(*BROKEN[variant]))
    assert auc - Z * error > allowed(ONE_STEP)


# --- several steps of a sample --------------------------------------------------------------------

RATE, STEPS, SPREAD = 0.1, 8, 0.8
SAMPLED = Mechanism("steps", "sampled-gaussian", SPREAD, STEPS, RATE)
Sampler = Callable[[Noise], bool]


def takes_part(noise: Noise) -> bool:
    """Return whether row 0 of 24 is in a Poisson sample."""
    return 0 in noise.poisson(ROWS, RATE)


def takes_part_if_rare(noise: Noise) -> bool:
    """CTGAN's training-by-sampling: the canary's category is rare, so its rows are drawn more."""
    return 0 in noise.poisson(ROWS, 4 * RATE)


def sampled(sampler: Sampler, std: float, trials: int = 2_000) -> tuple[float, float]:
    """Audit `STEPS` steps by the likelihood ratio of what is left along the canary's gradient."""
    noise = Noise()

    def score(seen: np.ndarray) -> np.ndarray:
        ratio = 1 - RATE + RATE * np.exp((seen - 0.5) / SPREAD**2)
        return np.log(ratio).sum(axis=1)

    takes = np.array([[sampler(noise) for _ in range(STEPS)] for _ in range(trials)])
    draws = noise.normal(std, 2 * trials * STEPS).reshape(2, trials, STEPS)
    return area(score(takes + draws[0]), score(draws[1]))


def test_sampled_steps_show_no_more_than_is_allowed() -> None:
    auc, error = sampled(takes_part, SPREAD)
    assert auc - Z * error <= allowed(SAMPLED)
    assert auc > 0.55


@pytest.mark.parametrize(
    ("sampler", "std"),
    [(takes_part_if_rare, SPREAD), (takes_part, SPREAD / 2)],
    ids=["training by sampling", "half of the noise"],
)
def test_broken_samples_are_caught(sampler: Sampler, std: float) -> None:
    auc, error = sampled(sampler, std)
    assert auc - Z * error > allowed(SAMPLED)
