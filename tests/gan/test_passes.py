"""Drawing asks the same network as training does, by a shorter way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthgen.encode.column import Layout
from synthgen.gan.nets import Skeleton
from synthgen.gan.passes import Folded, Recomputed, SideBySide
from synthgen.gan.sample import BLOCK, Prefixes, for_rows
from synthgen.gan.together import Absent


def trained(layout: Layout, depth: int) -> Skeleton:
    """Return a skeleton none of whose weights is zero, as new ones are."""
    torch.manual_seed(depth)
    skeleton = Skeleton(layout, width=16, depth=depth).eval()
    with torch.no_grad():
        for parameter in skeleton.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return skeleton


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_folded_and_recomputed_passes_agree(
    layout: Layout, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthgen.gan.nets.product_dtype", lambda device: torch.float32)
    monkeypatch.setattr("synthgen.gan.passes.product_dtype", lambda device: torch.float32)
    skeleton = trained(layout, depth)
    short, long = Folded(skeleton), Recomputed(skeleton)
    tokens = torch.zeros(64, len(layout.sizes), dtype=torch.int64)
    states = short.start(64), long.start(64)
    for token, size in enumerate(layout.sizes.tolist()):
        a, b = (
            net.logits(net.hidden(state), token, tokens)
            for net, state in zip((short, long), states, strict=True)
        )
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)
        tokens[:, token] = torch.randint(0, size, (64,))
        states = (
            short.show(states[0], token, tokens[:, token]),
            long.show(states[1], token, tokens[:, token]),
        )


def test_rows_share_a_pass_as_long_as_they_are_equal() -> None:
    prefixes = Prefixes(torch.device("cpu"))
    some, of = prefixes.distinct()
    assert isinstance(some, torch.Tensor)
    assert len(some) == 1
    halves = torch.arange(BLOCK) % 2
    prefixes.append(halves, 2)
    some, of = prefixes.distinct()
    assert halves[some].tolist() == [0, 1]
    assert torch.equal(halves[some][of], halves)
    prefixes.append(torch.arange(BLOCK) // 2 % 3, 3)
    some, of = prefixes.distinct()
    assert len(some) == 6
    prefixes.append(torch.arange(BLOCK), BLOCK)
    assert prefixes.distinct() == (slice(None), slice(None))


def test_copied_rows_have_the_prefixes_of_their_originals() -> None:
    prefixes = Prefixes(torch.device("cpu"))
    levels = torch.arange(BLOCK) % 4
    prefixes.append(levels, 4)
    rows = torch.tensor([1, 2] * (BLOCK // 2))
    prefixes.take(rows)
    some, of = prefixes.distinct()
    assert levels[rows][some].tolist() == [1, 2]
    assert torch.equal(levels[rows][some][of], levels[rows])


@torch.no_grad()
def test_blocks_side_by_side_are_asked_what_each_alone_is(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthgen.gan.passes.product_dtype", lambda device: torch.float32)
    skeleton = trained(layout, depth=2)
    sizes, coarse = layout.sizes.tolist(), layout.n_coarse
    rules = {0: torch.randn(sizes[0]), coarse: torch.randn(layout.fine_priors[0].shape)}
    partners = {1: {0: torch.randn(sizes[0], sizes[1])}, 2: {1: torch.randn(sizes[1], sizes[2])}}
    tied = np.zeros((coarse, coarse), bool)
    tied[0, 2] = tied[2, 0] = True
    alone = Folded(skeleton)
    absent = Absent(tied, torch.device("cpu"))
    beside = SideBySide(alone, rules, partners, absent)
    tokens = torch.zeros(3, 8, len(sizes), dtype=torch.int64)
    states, state = [alone.start(8) for _ in range(3)], beside.start(24)
    orders = torch.tensor(
        [[*range(len(sizes))], [*reversed(range(coarse)), *range(coarse, len(sizes))]]
    )
    for place in range(len(sizes)):
        asked = orders[[0, 1, 0], place]
        shown = orders[[0, 1, 0]].argsort(dim=1) < place
        logits = beside.logits(beside.hidden(state), asked, tokens, shown, fine=place >= coarse)
        chosen = torch.stack([torch.randint(0, sizes[t], (8,)) for t in asked.tolist()])
        for block, token in enumerate(asked.tolist()):
            expected = alone.logits(alone.hidden(states[block]), token, tokens[block])
            if token in rules:
                expected = expected + for_rows(rules[token], token, tokens[block], layout)
            for other, by_level in partners.get(token, {}).items():
                if shown[block, other]:
                    expected = expected + by_level[tokens[block, :, other]]
            if token < coarse:
                expected = absent.weigh(expected, token, tokens[block], shown[block])
            torch.testing.assert_close(logits[block, :, : sizes[token]], expected)
            assert logits[block, :, sizes[token] :].isneginf().all()
            states[block] = alone.show(states[block], token, chosen[block])
            tokens[block, :, token] = chosen[block]
        state = beside.show(state, asked, chosen)
