"""The GAN family as a whole: every preset and switch trains, what is unsound is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synthgen.config import PRESETS, RunConfig, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.errors import ConfigError, TrainingError
from synthgen.gan.losses import LOSSES
from synthgen.gan.nets import Critic, Detail, Form, MinibatchDiscrimination
from synthgen.gan.objective import critic_objective
from synthgen.gan.regularizers import REGULARIZERS
from synthgen.gan.train import fit, fit_detail, plan

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "steps": 1,
    "critic_steps": 5,
    "width": 16,
    "depth": 1,
    "batch_size": 32,
}
SWITCHES: list[dict[str, Any]] = [
    {"preset": "wgan-gp", "pac": 8},
    {"preset": "wgan-gp", "critic_norm": "layer"},
    {"clip_grad": 0.1},
    {"preset": "wgan-gp", "unroll": 2},
    {"preset": "ns-gan", "critic_norm": "batch"},
    {"preset": "ns-gan", "minibatch_discrimination": 4, "pac": 2},
    {"preset": "hinge-sn", "minibatch_discrimination": 4, "unroll": 1},
    {"loss": "hinge", "regularizer": "none"},
    {"architecture": "conv"},
    {"preset": "hinge-sn", "architecture": "conv", "pac": 2},
    {"row_adversary": 0.5, "matching": 10.0, "harmonics": 0},
]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def batch(encoded: EncodedTable) -> Batch:
    """Eight rows: tokens, real and fake offsets, coefficients."""
    noise = torch.Generator().manual_seed(0)
    tokens = torch.from_numpy(encoded.tokens[:8]).long()
    real = torch.from_numpy(encoded.offsets[:8])
    return tokens, real, torch.rand(real.shape, generator=noise), torch.rand(8, 1, generator=noise)


def prepared(layout: Layout, config: TrainConfig) -> Critic:
    torch.manual_seed(0)
    loss, regularizer = config.adversary
    assert loss in LOSSES
    return REGULARIZERS[regularizer](config).prepare(Critic(layout, 16, config))


def objective(critic: Critic, config: TrainConfig, batch: Batch) -> Tensor:
    loss, regularizer = config.adversary
    return critic_objective(critic, LOSSES[loss], REGULARIZERS[regularizer](config), *batch)


# --- one objective, per example


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize(
    "settings", [*({"preset": p} for p in PRESETS), {"architecture": "conv"}], ids=str
)
def test_plain_gradient_is_the_mean_of_the_examples(
    layout: Layout, batch: Batch, settings: dict[str, Any]
) -> None:
    config = TrainConfig.model_validate(settings)
    # In training mode spectral norm changes its estimate each time it is asked.
    critic = prepared(layout, config).eval()
    weights = dict(critic.named_parameters())
    values = objective(critic, config, batch)
    assert values.shape == (8,)
    plain = torch.autograd.grad(values.mean(), list(weights.values()))

    class One(torch.nn.Module):
        """The objective as a module, so that `functional_call` can put weights into the critic."""

        def __init__(self) -> None:
            super().__init__()
            self.critic = critic

        def forward(self, *example: Tensor) -> Tensor:
            rows = tuple(x[None] for x in example)
            return objective(self.critic, config, rows)[0]  # type: ignore[arg-type]

    def value(weights: dict[str, Tensor], *example: Tensor) -> Tensor:
        named = {f"critic.{name}": weight for name, weight in weights.items()}
        out: Tensor = torch.func.functional_call(One(), named, example)
        return out

    frozen = {name: weight.detach() for name, weight in weights.items()}
    each = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0, 0, 0))(frozen, *batch)
    for (name, examples), mean in zip(each.items(), plain, strict=True):
        assert examples.shape == (8, *mean.shape), name
        torch.testing.assert_close(examples.mean(dim=0), mean, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("regularizer", ["gradient-penalty", "one-sided-penalty"])
def test_the_penalty_moves_every_layer(layout: Layout, batch: Batch, regularizer: str) -> None:
    config = TrainConfig.model_validate({"regularizer": regularizer})
    critic = prepared(layout, config)
    tokens, real, fake, eps = batch
    with torch.no_grad():
        critic.scorer.score.weight *= 30  # a slope above one: the one-sided penalty is not zero
    condition = critic.given(tokens)
    penalty = REGULARIZERS[regularizer](config).penalty(
        lambda x: critic(x, condition), real, fake, eps
    )
    penalty.mean().backward()  # type: ignore[no-untyped-call]
    for layer in (critic.numbers, *critic.scorer.hidden, critic.scorer.score):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().max() > 0


# --- constraints hold after steps


def steps(critic: Critic, config: TrainConfig, batch: Batch, n: int = 10) -> None:
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)  # as in training
    for _ in range(n):
        optimizer.zero_grad()
        objective(critic, config, batch).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        REGULARIZERS[config.adversary[1]](config).project(critic)


def test_clipped_weights_stay_inside(layout: Layout, batch: Batch) -> None:
    config = TrainConfig(preset="wgan-clip", weight_clip=0.02)
    critic = prepared(layout, config)
    steps(critic, config, batch)
    largest = [weight.abs().max().item() for weight in critic.parameters() if weight.numel()]
    assert max(largest) == pytest.approx(0.02)


def test_the_largest_singular_value_stays_one(layout: Layout, batch: Batch) -> None:
    config = TrainConfig(preset="hinge-sn")
    critic = prepared(layout, config)
    steps(critic, config, batch)
    for layer in (critic.numbers, *critic.scorer.hidden, critic.scorer.score):
        largest = torch.linalg.matrix_norm(layer.weight, ord=2).item()
        assert largest == pytest.approx(1, rel=0.05)


# --- packs and batches


def test_rows_of_a_pack_share_one_score(layout: Layout, batch: Batch) -> None:
    critic = prepared(layout, TrainConfig(critic_steps=1, pac=4))
    tokens, real, _, _ = batch
    condition = critic.given(tokens)
    scores = critic(critic.pack(real), condition)
    assert scores.shape == (2,)
    free = torch.nonzero(condition[2] > 0)
    row, column = free[0].tolist()
    changed = real.clone()
    changed[row, column] = 1 - changed[row, column]
    moved = critic(critic.pack(changed), condition) != scores
    assert moved.tolist() == [row < 4, row >= 4]


def test_closeness_by_hand() -> None:
    # One kernel of one dimension at 0, 0 and log 2: mean of exp(-distance) to the other two.
    layer = MinibatchDiscrimination(1, kernels=1, d_kernel=1)
    with torch.no_grad():
        layer.project.weight.fill_(1.0)
    near = layer(torch.tensor([[0.0], [0.0], [math.log(2)]]))
    torch.testing.assert_close(near, torch.tensor([[0.75], [0.75], [0.5]]))


def test_too_few_rows_for_a_pack(encoded: EncodedTable) -> None:
    few = EncodedTable(encoded.tokens[:12], encoded.offsets[:12], encoded.layout)
    config = TrainConfig(steps=1, critic_steps=1, width=16, depth=1, pac=8)
    with pytest.raises(TrainingError, match="16 rows at least"):
        fit(few, config, seed=0, device=CPU)


# --- all of them train


@pytest.mark.parametrize("changes", [*({"preset": p} for p in PRESETS), *SWITCHES], ids=str)
def test_every_preset_and_switch_trains(encoded: EncodedTable, changes: dict[str, Any]) -> None:
    few = EncodedTable(encoded.tokens[:300], encoded.offsets[:300], encoded.layout)
    config = TrainConfig.model_validate({**TINY, **changes})
    records: list[dict[str, Any]] = []
    detail = fit(few, config, seed=0, device=CPU, log=records.append).detail
    assert detail is not None
    assert records[-1]["phase"] == "detail"
    assert records[-1]["step"] == 5
    assert math.isfinite(records[-1]["critic_loss"])
    tokens = torch.from_numpy(few.tokens).long()
    offsets = detail(tokens, torch.randn(len(tokens), detail.d_latent))
    assert 0 <= offsets.min() <= offsets.max() <= 1
    assert detail.head.weight.abs().max() > 0


def test_a_gradient_is_cut(layout: Layout, encoded: EncodedTable) -> None:
    # Adam forgives any scale but that of its epsilon: a tiny bound all but stops both networks.
    few = EncodedTable(encoded.tokens[:300], encoded.offsets[:300], encoded.layout)
    moved = []
    for clip_grad in (0.0, 1e-12):
        config = TrainConfig.model_validate({**TINY, "clip_grad": clip_grad})
        generator = fit(few, config, seed=0, device=CPU)
        assert generator.detail is not None
        heads = (generator.detail.head.weight, generator.skeleton.head())
        moved.append([head.abs().max().item() for head in heads])
    for cut, free in zip(moved[1], moved[0], strict=True):
        assert cut < 0.01 * free


# --- it learns: two clusters on a diagonal, given tokens that say nothing


def one_cell() -> Layout:
    one, cell = np.ones(1), (np.zeros((1, 1)), np.ones((1, 1)))
    return Layout(
        sizes=np.array([1, 1]),
        n_coarse=2,
        parents=np.zeros(0, np.int64),
        priors=(one, one),
        fine_priors=(),
        positions=(np.full(1, np.nan), np.full(1, np.nan)),
        offset_parents=np.array([0, 1]),
        offset_fines=np.array([-1, -1]),
        tails=([], []),
        cells=(cell, cell),
    )


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Return ``2 E|a - b| - E|a - a'| - E|b - b'|`` of (N, 2) points (Szekely & Rizzo 2013)."""
    between, within = torch.cdist(a, b).mean(), torch.cdist(a, a).mean() + torch.cdist(b, b).mean()
    return float(2 * between - within)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "architecture"),
    [
        ("wgan-gp", "mlp"),
        ("wgan-gp-one-sided", "mlp"),
        ("ns-gan", "mlp"),
        ("hinge-sn", "mlp"),
        ("wgan-gp", "conv"),
    ],
)
def test_two_clusters_are_learnt(preset: str, architecture: str) -> None:
    noise, layout, n = torch.Generator().manual_seed(0), one_cell(), 1_000
    side = torch.randint(2, (n, 1), generator=noise).float()
    scatter = 0.05 * torch.randn(n, 2, generator=noise)
    real = (0.25 + 0.5 * side + scatter).clamp(0, 1)
    tokens = torch.zeros(n, 2, dtype=torch.int64)
    settings = {"preset": preset, "architecture": architecture}
    config = TrainConfig.model_validate(
        {**settings, "critic_steps": 200, "batch_size": 128, "ema": 0.95}
    )
    torch.manual_seed(0)
    fitted = fit_detail(
        Detail(layout, 64, 8, Form.of(config)),
        Critic(layout, 64, config),
        tokens,
        real,
        config,
        plan(config, layout, n),
        noise,
        math.inf,
        lambda record: None,
    )
    with torch.no_grad():
        fake = fitted(tokens, torch.randn(n, fitted.d_latent, generator=noise))
    uniform = energy_distance(torch.rand(n, 2, generator=noise), real)
    assert energy_distance(fake, real) < 0.7 * uniform
    assert torch.corrcoef(fake.T)[0, 1] > 0.8


# --- what is unsound is refused, all at once

UNSOUND: list[tuple[dict[str, Any], str]] = [
    ({"regularizer": "none"}, "Lipschitz"),
    ({"gradient_penalty": 0.0}, "greater than 0"),
    ({"preset": "wgan-clip", "gradient_penalty": 5.0}, "gradient_penalty has no meaning"),
    ({"preset": "wgan-gp", "weight_clip": 0.1}, "weight_clip has no meaning"),
    ({"critic_steps": 9, "critic_norm": "batch"}, "critic_norm = batch mixes rows"),
    ({"preset": "wgan-gp", "minibatch_discrimination": 8}, "minibatch_discrimination mixes rows"),
    ({"preset": "hinge-sn", "critic_norm": "layer"}, "spectral-norm is lost"),
    (
        {"row_adversary": 1, "loss": "wasserstein", "regularizer": "spectral-norm"},
        "row_adversary draws tokens",
    ),
    ({"preset": "gan", "pac": 8, "batch_size": 20}, "multiple of pac"),
    ({"preset": "gan", "pac": 8, "batch_size": 8}, "multiple of pac"),
    ({"pac": 8, "unroll": 2}, "pac, unroll would do nothing"),
    ({"critic_steps": 0, "preset": "gan", "unroll": 2}, "unroll would do nothing"),
]


@pytest.mark.parametrize(("train", "reason"), UNSOUND, ids=str)
def test_what_is_unsound_is_refused(train: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        RunConfig.build({"train": train})
    assert "has 1 problem\n" in str(caught.value)


def test_every_reason_is_listed() -> None:
    train = {"critic_norm": "batch", "minibatch_discrimination": 8, "pac": 8, "batch_size": 20}
    train["preset"] = "wgan-gp"
    with pytest.raises(ConfigError) as caught:
        RunConfig.build({"rows": 0, "train": train | {"weight_clip": 0.1}})
    text = str(caught.value)
    assert "has 5 problems" in text
    assert text.count("\n  - train: ") == 4


@pytest.mark.parametrize("train", [{"preset": p} for p in PRESETS] + SWITCHES, ids=str)
def test_what_is_sound_survives_toml(train: dict[str, Any]) -> None:
    config = RunConfig.build({"train": train})
    assert RunConfig.from_toml(config.to_toml()) == config
