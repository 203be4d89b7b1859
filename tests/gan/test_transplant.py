"""Where a warm start begins: the new table's frequencies, the earlier table's dependence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthgen.config import TrainConfig
from synthgen.encode.adopt import Correspondence
from synthgen.encode.column import EncodedTable
from synthgen.errors import ConfigError
from synthgen.gan.nets import Generator
from synthgen.gan.train import fit, new_generator, plan
from synthgen.gan.transplant import Start

CPU = torch.device("cpu")
QUICK = TrainConfig(steps=30, critic_steps=6, batch_size=64, evaluate_every=5)


class PulledPlugError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def start(encoded: EncodedTable, trained: Generator) -> Start:
    """The trained generator, for rows of the very same layout."""
    layout = encoded.layout
    tokens = tuple((t, np.eye(size)) for t, size in enumerate(layout.sizes))
    return Start(trained, layout, Correspondence(tokens, tuple(range(len(layout.offset_parents)))))


@pytest.fixture(scope="module")
def begun(encoded: EncodedTable, start: Start) -> Generator:
    """A new generator right after the transplant."""
    sizes = plan(QUICK, encoded.layout, len(encoded), start=start.generator)
    new = new_generator(encoded.layout, QUICK, sizes).eval()
    start.give(new, encoded.layout)
    return new


@torch.no_grad()
def test_nothing_known_answers_the_new_frequencies(begun: Generator, encoded: EncodedTable) -> None:
    skeleton, layout = begun.skeleton, encoded.layout
    table = skeleton.tokens.table()
    hidden = skeleton.trunk(table[skeleton.tokens.n_known :].sum(dim=0, keepdim=True))
    for t, prior in enumerate(layout.priors):
        answer = skeleton.token_logits(hidden, t, torch.zeros(1, len(layout.sizes)).long())
        np.testing.assert_allclose(torch.softmax(answer, 1)[0], prior, atol=1e-5)


@torch.no_grad()
def test_what_depends_on_what_is_the_earlier_one(
    begun: Generator, trained: Generator, tokens: torch.Tensor
) -> None:
    """Only the bias is new: hidden states, heads and offsets are those of the earlier generator."""
    row = tokens[:2]
    skeletons, details = zip(*((g.skeleton, g.detail) for g in (begun, trained)), strict=True)
    answers = [s.trunk(s.tokens(row)) @ s.head().T for s in skeletons]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)
    latent = torch.randn(2, details[0].d_latent, generator=torch.Generator().manual_seed(0))
    n = details[0].head.out_features
    latent[:, n:] = 0  # noise of its own, which is not taken over
    torch.testing.assert_close(*(d(row, latent) for d in details), rtol=1e-3, atol=1e-4)


def test_the_earlier_generator_is_not_touched(
    encoded: EncodedTable, start: Start, trained: Generator
) -> None:
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    fit(encoded, QUICK, seed=0, device=CPU, start=start)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_interrupted_warm_start_ends_with_the_same_bytes(
    encoded: EncodedTable, start: Start, tmp_path: Path
) -> None:
    whole = fit(encoded, QUICK, seed=0, device=CPU, start=start)

    def pull(record: dict[str, float | int | str]) -> None:
        if record["step"] == 15:
            raise PulledPlugError

    path = tmp_path / "checkpoint"
    with pytest.raises(PulledPlugError):
        fit(encoded, QUICK, seed=0, device=CPU, start=start, log=pull, checkpoint=path)
    notes: list[str] = []
    resumed = fit(
        encoded,
        QUICK,
        seed=0,
        device=CPU,
        start=start,
        checkpoint=path,
        log=lambda r: notes.append(str(r.get("note", ""))),
    )
    assert any("goes on from step 10" in note for note in notes)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_start_is_not_gone_on_from(
    encoded: EncodedTable, start: Start, begun: Generator, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    fit(encoded, QUICK, seed=0, device=CPU, start=start, checkpoint=path)
    notes: list[str] = []
    other = Start(begun, start.layout, start.by)
    fit(
        encoded,
        QUICK,
        seed=0,
        device=CPU,
        start=other,
        checkpoint=path,
        log=lambda r: notes.append(str(r.get("note", ""))),
    )
    assert any("training starts anew" in note for note in notes)


def test_other_sizes_are_refused(encoded: EncodedTable, start: Start) -> None:
    config = TrainConfig(width=64, depth=1)
    with pytest.raises(ConfigError, match=r"train\.width = 64, the bundle's is 32"):
        fit(encoded, config, seed=0, device=CPU, start=start)
