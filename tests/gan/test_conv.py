"""Convolutions along a row: shapes, what sees what, and the whole way through a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthgen.config import RunConfig, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.gan.calibrate import calibrate, memory
from synthgen.gan.conv import ConvBlock, Places, Pyramid
from synthgen.gan.nets import Critic, Form, SmoothTable, TokenSequence, smooth_basis
from synthgen.synthesizer import Synthesizer
from synthgen.table import Split

CONV: dict[str, Any] = {"architecture": "conv", "harmonics": 2}


def test_a_new_block_is_the_identity() -> None:
    x = torch.randn(5, 7, 16)
    assert torch.equal(ConvBlock(16)(x), x)


def test_a_block_sees_two_neighbours_on_either_side() -> None:
    torch.manual_seed(0)
    block, x = ConvBlock(4), torch.randn(1, 9, 4)
    with torch.no_grad():
        block.outer.weight.normal_()
        changed = x.clone()
        changed[0, 4, 0] += 1
        moved = (block(changed) - block(x)).abs().sum(dim=2)[0] > 0
    assert moved.nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 4, 5, 31])
def test_a_pyramid_takes_any_length(n_tokens: int) -> None:
    assert Pyramid(n_tokens, 8, 16)(torch.randn(3, n_tokens, 8)).shape == (3, 16)


def test_numbers_stand_beside_their_tokens() -> None:
    places = Places(np.array([2, 0]), n_tokens=4, channels=3)
    # Two offsets, two features of each: the second offset's features alone are not zero.
    row = places(torch.tensor([[0.0, 5.0, 0.0, 7.0]]))
    assert row.shape == (1, 4, 3)
    assert not row[0, 1:].any()
    torch.testing.assert_close(row[0, 0], 5 * places.weight[1, 0] + 7 * places.weight[1, 1])


def test_a_sequence_by_hand(layout: Layout, tokens: torch.Tensor) -> None:
    rows = TokenSequence(layout, 4)
    table, row = rows.table(), tokens[:1]
    known = torch.tensor([[True, False, True, False, False]])
    x = rows(row, known)
    assert x.shape == (1, 5, 4)
    torch.testing.assert_close(x[0, 2], table[int(layout.starts[2] + row[0, 2])])
    torch.testing.assert_close(x[0, 1], table[layout.width + 1])
    # Row by row, from nothing: the same as at once.
    shown = rows.blank(1, table)
    for token in (0, 2):
        shown = rows.show(shown, table, token, table[layout.starts[token] + row[:, token]])
    torch.testing.assert_close(shown, x)


def test_without_harmonics_every_level_is_its_own(layout: Layout) -> None:
    assert smooth_basis(layout, harmonics=0).shape == (layout.width, 0)
    assert smooth_basis(layout, harmonics=2).shape[1] < smooth_basis(layout).shape[1]
    table = SmoothTable(layout, 4, std=1.0, harmonics=0)
    torch.testing.assert_close(table(), table.own)


def test_the_critic_looks_at_offsets_through_convolutions(
    layout: Layout, encoded: EncodedTable, tokens: torch.Tensor
) -> None:
    critic = Critic(layout, 16, TrainConfig.model_validate(CONV))
    rows, real = tokens[:50], torch.from_numpy(encoded.offsets[:50])
    condition = critic.given(rows)
    assert condition[0].shape == (50, 5, 8)
    exact = condition[2] == 0
    before = critic(real, condition)
    assert before.shape == (50,)
    changed = torch.where(exact, 1 - 0.9 * torch.rand(real.shape), real)
    torch.testing.assert_close(critic(changed, condition), before)
    assert not torch.allclose(critic(torch.where(exact, real, 1 - real), condition), before)


def test_a_bundle_of_convolutions(demo_halves: Split, tmp_path: Path) -> None:
    train = {"steps": 10, "critic_steps": 5, "width": 32, "depth": 1, "row_adversary": 0.1, **CONV}
    config = RunConfig.build({"train": train})
    fitted = Synthesizer.fit(demo_halves.train, config=config, seed=0, device="cpu")
    fitted.save(tmp_path / "bundle")
    loaded = Synthesizer.load(tmp_path / "bundle", device="cpu")
    form = Form.of(loaded.config.train)
    assert (form.architecture, form.harmonics) == ("conv", 2)
    assert isinstance(loaded.generator.skeleton.tokens, TokenSequence)
    assert loaded.fingerprint == fitted.fingerprint
    where = ["cost >= 3000"]
    a, b = (s.sample(20, seed=1, where=where).data for s in (fitted, loaded))
    assert a.equals(b)
    assert (a["cost"] >= 3_000).all()


def test_a_plan_of_convolutions(layout: Layout) -> None:
    config = TrainConfig.model_validate({**CONV, "width": 64, "row_adversary": 1.0})
    cost, generator = calibrate(layout, 500, config, torch.device("cpu"))
    assert cost.parameters == sum(p.numel() for p in generator.parameters())
    assert cost.spent.cpu > 0
    # Five tokens of eight channels are fewer numbers than 64, those of the narrowest are more.
    for width, more in ((64, False), (16, True)):
        sizes = replace(cost.sizes, width=width)
        conv, mlp = (memory(layout, 500, sizes, 0, Form(a)) for a in ("conv", "mlp"))
        assert (conv > mlp) is more
