"""Drawing rows: a row is its seed and its number, frequencies are true, restrictions are exact."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from synthgen.config import EncodeConfig, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.encode.table import TableEncoder
from synthgen.errors import DataError
from synthgen.gan import sample
from synthgen.gan.given import Completer
from synthgen.gan.sample import (
    BLOCK,
    CHUNK,
    Drawer,
    Restriction,
    Tails,
    draw_levels,
    visiting_groups,
)
from synthgen.gan.together import Absent, Left
from synthgen.gan.train import Generator, fit
from synthgen.schema import Column, TableSchema

FREE = Restriction()


def draw(
    generator: Generator,
    layout: Layout,
    *,
    block: int = 0,
    seed: int = 0,
    restriction: Restriction = FREE,
    steps: int | None = None,
) -> EncodedTable:
    drawer = Drawer(generator, layout, seed=seed, restriction=restriction, steps=steps)
    return drawer.draw(range(block, block + 1))


@pytest.fixture(params=[(), ("cpu",)], ids=["one by one", "side by side"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw blocks as CPUs do, and as GPUs do."""
    monkeypatch.setattr(sample, "PARALLEL", request.param)


either = pytest.mark.usefixtures("either_way")


def shares(tokens: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(tokens, minlength=size) / len(tokens)


def tvd(a: np.ndarray, b: np.ndarray) -> float:
    return float(0.5 * np.abs(a - b).sum())


# --- order


@pytest.mark.parametrize("steps", [None, 1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("first", [(), (2,), (3, 0)])
def test_groups_hold_every_token_once_and_coarse_before_fine(
    layout: Layout, first: tuple[int, ...], steps: int | None
) -> None:
    groups = visiting_groups(layout, first, steps, torch.Generator().manual_seed(0))
    assert sorted(t for g in groups for t in g) == list(range(len(layout.sizes)))
    assert [g[0] for g in groups[: len(first)]] == list(first)
    is_fine = [{t >= layout.n_coarse for t in g} for g in groups]
    assert all(len(kinds) == 1 for kinds in is_fine)
    order = [kinds.pop() for kinds in is_fine]
    assert order == sorted(order)


def test_one_pass_a_token_by_default(layout: Layout) -> None:
    groups = visiting_groups(layout, (), None, torch.Generator().manual_seed(0))
    assert [len(g) for g in groups] == [1] * len(layout.sizes)


def test_the_order_is_random(layout: Layout) -> None:
    orders = {
        str(visiting_groups(layout, (), None, torch.Generator().manual_seed(s))) for s in range(20)
    }
    assert len(orders) > 5


# --- seeds


@either
def test_equal_seeds_equal_rows(trained: Generator, layout: Layout) -> None:
    one, two = draw(trained, layout), draw(trained, layout)
    np.testing.assert_array_equal(one.tokens, two.tokens)
    np.testing.assert_array_equal(one.offsets, two.offsets)


@either
@pytest.mark.parametrize("other", [{"seed": 1}, {"block": 1}])
def test_another_seed_or_block_other_rows(
    trained: Generator, layout: Layout, other: dict[str, int]
) -> None:
    assert (draw(trained, layout).tokens != draw(trained, layout, **other).tokens).any()


@either
def test_the_global_random_state_is_left_alone(trained: Generator, layout: Layout) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = draw(trained, layout)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    np.testing.assert_array_equal(one.tokens, draw(trained, layout).tokens)


@either
def test_a_block_is_the_same_in_whatever_company(trained: Generator, layout: Layout) -> None:
    drawer = Drawer(trained, layout, seed=0, restriction=FREE)
    many = drawer.draw(range(CHUNK)).tokens.reshape(CHUNK, BLOCK, -1)
    np.testing.assert_array_equal(many[5], draw(trained, layout, block=5).tokens)
    np.testing.assert_array_equal(many[5:9].reshape(4 * BLOCK, -1), drawer.draw(range(5, 9)).tokens)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_fewer_passes_draw_valid_rows(trained: Generator, layout: Layout, steps: int) -> None:
    table = draw(trained, layout, steps=steps)
    assert len(table) == BLOCK
    assert table.offsets.min() >= 0


# --- frequencies


@pytest.fixture(scope="module")
def untrained(layout: Layout) -> Generator:
    torch.manual_seed(0)
    return Generator(layout, width=16, depth=1, latent=4, detail=False).eval()


@either
def test_a_new_generator_draws_the_true_marginals(untrained: Generator, layout: Layout) -> None:
    tokens = np.concatenate([draw(untrained, layout, block=b).tokens for b in range(20)])
    assert len(tokens) > 10_000
    for t, prior in enumerate(layout.priors):
        found = np.bincount(tokens[:, t], minlength=len(prior))[prior > 0]
        assert stats.chisquare(found, prior[prior > 0] * len(tokens)).pvalue > 1e-4
    for j, prior in enumerate(layout.fine_priors):
        parents = tokens[:, layout.parents[j]]
        level = int(np.bincount(parents).argmax())
        found = shares(tokens[parents == level, layout.n_coarse + j], prior.shape[1])
        assert tvd(found, prior[level]) < 0.1


@either
def test_levels_that_never_occur_are_never_drawn(trained: Generator, layout: Layout) -> None:
    tokens = np.concatenate([draw(trained, layout, block=b).tokens for b in range(20)])
    n_never = 0
    for t, prior in enumerate(layout.priors):
        n_never += int((prior == 0).sum())
        assert not np.isin(tokens[:, t], np.flatnonzero(prior == 0)).any()
    assert n_never > 0
    for j, prior in enumerate(layout.fine_priors):
        drawn = prior[tokens[:, layout.parents[j]], tokens[:, layout.n_coarse + j]]
        assert (drawn > 0).all()


# --- restrictions


def only(size: int, *levels: int) -> np.ndarray:
    weights = np.full(size, -np.inf)
    weights[list(levels)] = 0
    return weights


@pytest.mark.parametrize("token", [0, 1, 2, 3])
def test_a_restriction_holds_on_every_row(trained: Generator, layout: Layout, token: int) -> None:
    size = int(layout.sizes[token])
    for level in np.flatnonzero(layout.priors[token])[:3]:
        restriction = Restriction({token: only(size, int(level))}, (token,))
        assert (draw(trained, layout, restriction=restriction).tokens[:, token] == level).all()


def test_a_share_of_a_level_weighs(untrained: Generator, layout: Layout) -> None:
    # Level a has .6 of the rows and half of it is admitted, b has .3: so .3 against .3.
    weights = only(int(layout.sizes[0]), 1, 2)
    weights[1] = np.log(0.5)
    table = draw(untrained, layout, restriction=Restriction({0: weights}, (0,)))
    expected = layout.priors[0][1] * 0.5 / (layout.priors[0][1] * 0.5 + layout.priors[0][2])
    assert (table.tokens[:, 0] == 1).mean() == pytest.approx(expected, abs=0.04)


@either
def test_a_fine_token_obeys_its_parents_rule(trained: Generator, layout: Layout) -> None:
    fine = layout.n_coarse
    prior = layout.fine_priors[0]
    rule = np.where(np.arange(prior.shape[1]) == 0, 0.0, -np.inf)[None].repeat(len(prior), 0)
    table = draw(trained, layout, restriction=Restriction({fine: rule}))
    assert (table.tokens[:, fine] == 0).all()


def test_what_nothing_satisfies_is_an_error(trained: Generator, layout: Layout) -> None:
    nothing = np.full(int(layout.sizes[0]), -np.inf)
    with pytest.raises(DataError, match="no row can satisfy"):
        draw(trained, layout, restriction=Restriction({0: nothing}, (0,)))


# --- a dependence that is known


@pytest.fixture(scope="module")
def copier(copies: EncodedTable) -> Generator:
    config = TrainConfig(steps=300, width=32, depth=1, batch_size=128, learning_rate=5e-3)
    return fit(copies, config, seed=0, device=torch.device("cpu"))


def joint(table: np.ndarray) -> np.ndarray:
    """Return the shares of the eight rows of (N, 3) yes or no; the last column turns fastest."""
    return shares(table.astype(int) @ np.array([4, 2, 1]), 8)


def drawn(copier: Generator, layout: Layout, rule: Restriction) -> np.ndarray:
    # Tokens are missing, False, True, rare.
    blocks = [draw(copier, layout, block=b, restriction=rule).tokens for b in range(5)]
    return np.concatenate(blocks) == 2


def test_a_dependence_is_learnt(
    copier: Generator, copies: EncodedTable, copies_frame: pd.DataFrame
) -> None:
    found = joint(drawn(copier, copies.layout, FREE))
    assert tvd(found, joint(copies_frame.to_numpy(bool))) < 0.05


def test_two_restrictions_give_the_conditional_joint(
    copier: Generator, copies: EncodedTable
) -> None:
    # Admitted are rows with c, of those with a only a fifth; b is free.
    fifth = only(4, 1, 2)
    fifth[2] = np.log(0.2)
    weights = np.array([0, 1, 0, 1, 0, 0.2, 0, 0.2])
    expected = joint(drawn(copier, copies.layout, FREE)) * weights
    expected /= expected.sum()
    both = Restriction({0: fifth, 2: only(4, 2)}, (0, 2))
    assert tvd(joint(drawn(copier, copies.layout, both)), expected) < 0.05
    # c makes a likelier, so a without regard to c would be far off.
    assert expected[4:].sum() > 0.2 * 0.3 / (0.2 * 0.3 + 0.7) + 0.05


@either
def test_levels_that_do_not_go_together_are_not_drawn(trained: Generator, layout: Layout) -> None:
    # The first level of either goes with the first of the other alone, whichever is drawn first.
    together = np.full((layout.sizes[0], layout.sizes[1]), 0.0)
    together[1, 2:] = together[2:, 1] = -np.inf
    asked = Restriction(pairs={(0, 1): together})
    free, table = (
        np.concatenate([draw(trained, layout, block=b, restriction=r).tokens for b in range(6)])
        for r in (FREE, asked)
    )
    assert ((free[:, 0] == 1) != (free[:, 1] == 1)).any()
    assert ((table[:, 0] == 1) == (table[:, 1] == 1)).all()
    completer = Completer(trained, layout, asked)
    known = np.zeros(free.shape, bool)
    known[:, 0] = np.arange(len(free)) % 2
    full = completer.complete(free, known, seed=0).tokens
    assert ((full[:, 0] == 1) == (full[:, 1] == 1)).all()
    assert (full[1::2, 0] == free[1::2, 0]).all()


# --- evenly spread draws


def test_draws_of_one_distribution_have_its_frequencies_almost_exactly() -> None:
    # Stratified: of 512 rows with the same logits, every level gets its share but for one row.
    shares_wanted = np.array([0.5, 0.3, 0.2])
    logits = torch.tensor(shares_wanted).log().float().repeat(BLOCK, 1)
    drawn = draw_levels(logits, torch.Generator().manual_seed(1))
    counts = np.bincount(drawn.numpy(), minlength=3)
    assert np.abs(counts - BLOCK * shares_wanted).max() <= 1


def test_numbers_leave_their_group_some_level() -> None:
    # a group of two levels and two numbers: of each number either level belongs to one group alone
    own = torch.where(torch.eye(2) > 0, 0.0, float("-inf")).numpy()
    pairs = Restriction(pairs={(0, 1): own, (0, 2): own}).partners(torch.device("cpu"))
    left = Left(pairs, {}, BLOCK)
    chosen = torch.arange(BLOCK) % 2
    assert (left.weights(1) == 0).all()
    left.show(1, chosen)
    for token in (2, 0):  # the other number, before the group is drawn, and the group itself
        assert torch.equal((left.weights(token) == 0).int().argmax(dim=1), chosen)
    left.take(torch.ones(BLOCK, dtype=torch.int64))
    assert (left.weights(0)[:, 1] == 0).all()


@either
def test_what_is_missing_together_is(trained: Generator, layout: Layout) -> None:
    # the first is missing where the second is, and nowhere else; the third wherever they are
    tied = np.zeros((layout.n_coarse, layout.n_coarse), bool)
    tied[0, 1] = tied[1, 0] = tied[0, 2] = tied[1, 2] = True
    rules = {t: np.zeros(layout.sizes[t]) for t in range(3)}  # all may be missing
    rules[0][0] = rules[1][0] = 29.0
    asked = Restriction(rules, absent=tied)
    drawn = [draw(trained, layout, block=b, restriction=asked).tokens for b in range(4)]
    gone = np.concatenate(drawn)[:, :3] == 0
    assert gone.mean(axis=0).min() > 0.05
    assert (gone[:, 0] == gone[:, 1]).all()
    assert (gone[:, 2] >= gone[:, 0]).all()
    assert (gone[:, 2] > gone[:, 0]).any()
    known = np.zeros((512, len(layout.sizes)), bool)
    known[:, 0] = True
    full = Completer(trained, layout, asked).complete(drawn[0], known, seed=0).tokens
    assert ((full[:, 0] == 0) == (full[:, 1] == 0)).all()


def test_what_contradicts_itself_is_drawn_as_it_comes() -> None:
    tied = np.array([[False, True, False], [False, False, True], [False, False, False]])
    absent = Absent(tied, torch.device("cpu"))
    tokens = torch.tensor([[0, 0, 1]])  # the second is missing by the first, and not by the third
    logits = torch.tensor([[1.0, 2.0, -1e9]])
    shown = torch.tensor([True, False, True])
    weighed = absent.weigh(logits, 1, tokens, shown)
    torch.testing.assert_close(weighed.softmax(dim=1), logits.softmax(dim=1))


def test_what_its_rule_forbids_is_not_left_to_a_group() -> None:
    own = torch.where(torch.eye(2) > 0, 0.0, float("-inf")).numpy()
    pairs = Restriction(pairs={(0, 1): own}).partners(torch.device("cpu"))
    left = Left(pairs, {0: torch.tensor([0.0, -1e9])}, 4)
    assert (left.weights(1)[:, 0] == 0).all()
    assert (left.weights(1)[:, 1] < 0).all()


def test_a_level_without_mass_is_not_drawn() -> None:
    logits = torch.tensor([-1e9, 0.0, -1e9, 0.0, -1e9]).repeat(BLOCK, 1)
    assert set(draw_levels(logits, torch.Generator().manual_seed(1)).tolist()) == {1, 3}


def test_tails_visit_every_stratum_once_whatever_the_blocks() -> None:
    column = Column(name="x", kind="numeric", decimals=6)
    values = pd.DataFrame({"x": np.random.default_rng(0).normal(size=2_000)})
    schema = TableSchema(name="t", columns=(column,))
    layout = TableEncoder.fit(values, schema, EncodeConfig(), seed=0).layout
    level, fine, n_strata = layout.tails[0][-1]
    tokens = np.zeros((n_strata, len(layout.sizes)), np.int32)
    tokens[:, layout.offset_parents[0]] = level
    if layout.offset_fines[0] >= 0:
        tokens[:, layout.offset_fines[0]] = fine

    def offsets(*sizes: int) -> np.ndarray:
        tails, out = Tails(layout, seed=3, chunk=0), []
        for size in sizes:
            block = EncodedTable(tokens[:size], np.zeros((size, 1), np.float32), layout)
            tails.spread(block)
            out.append(block.offsets[:, 0])
        return np.concatenate(out)

    whole = offsets(n_strata)
    np.testing.assert_array_equal(np.sort(whole * n_strata).astype(int), np.arange(n_strata))
    np.testing.assert_array_equal(offsets(n_strata // 3, n_strata - n_strata // 3), whole)
    # what is drawn again and again is still not the same few values
    assert len(np.unique(offsets(n_strata, n_strata))) == 2 * n_strata
