import math
from itertools import pairwise

import numpy as np
import pytest

from synthgen.dp.tails import Counted, Ended, ended, outward

NOTHING = Counted((), np.zeros(0), 1.0)
CELLS = (*((i, i + 20) for i in range(0, 300, 20)), (300, 500), (500, 10_000))


def counted(
    beyond: object, cells: tuple[tuple[int, int], ...] = CELLS, std: float = 2.0
) -> Counted:
    """Return the counts without noise of a tail of which ``beyond(t)`` rows lie beyond t."""
    assert callable(beyond)
    return Counted(cells, np.array([float(beyond(a) - beyond(b)) for a, b in cells]), std)


def exponential(t: float) -> float:
    return 10_000 * math.exp(-t / 30)


def test_cells_widen_towards_a_bound_and_tile_the_way() -> None:
    assert outward(100, 0, 10) == [(0, 30), (30, 70), (70, 90), (90, 100)]
    assert outward(5, 5, 3) == []


def test_a_tail_ends_where_its_rows_thin_out_to_none() -> None:
    found = ended(counted(exponential), NOTHING)
    # half a row is expected beyond the median of the largest: log 2 of them
    assert found.last == pytest.approx(30 * math.log(10_000 / math.log(2)), rel=0.15)
    # the rows of the last cell keep their mean distance, 30
    start = found.cells[-1][0]
    assert (found.last + 1 - start) / (1 + found.powers[1]) == pytest.approx(30, rel=0.2)
    assert (found.first, found.powers[0]) == (0, pytest.approx(1, abs=0.1))


def test_a_heavy_tail_ends_further_out_and_an_edge_is_found() -> None:
    heavy = ended(counted(lambda t: 10_000 * (1 + t / 60) ** -2.5), NOTHING)
    assert 1_000 < heavy.last < 4_000  # the median of the largest is at 2,750
    edge = ended(counted(lambda t: 50 * max(0, 200 - t)), NOTHING)
    assert edge.last == pytest.approx(200, abs=8)
    assert edge.cells[-1] == (180, 10_000)


def test_a_lower_tail_is_an_upper_one_seen_in_the_mirror() -> None:
    upper = ended(counted(exponential), NOTHING)
    lower = ended(counted(exponential).mirrored, NOTHING)
    assert lower.first == -upper.last - 1
    assert lower.powers == upper.powers[::-1]
    assert lower.counts.tolist() == upper.counts[::-1].tolist()


def test_other_counts_of_the_same_rows_say_where_the_end_is() -> None:
    coarse = Counted(((0, 100), (100, 1_000)), np.array([1_000.0, 900.0]), 30.0)
    halves = [(100 + 10 * i, 110 + 10 * i) for i in range(90)]
    rows = np.array([100.0] * 9 + [0.0] * 81)
    found = ended(coarse, Counted(tuple(halves), rows, 10.0))
    assert found.last == pytest.approx(190, abs=12)
    assert ended(coarse, NOTHING).last > 300


def test_rows_at_the_bound_itself_or_far_from_all_others_are_reached() -> None:
    cells = ((0, 50), (50, 99), (99, 100))
    found = ended(Counted(cells, np.array([500.0, 0.0, 90.0]), 10.0), NOTHING)
    assert (found.first, found.last) == (0, 99)
    assert found.counts.tolist() == [500, 0, 90]
    lonely = counted(exponential).rows + np.eye(len(CELLS))[-1] * 40
    assert ended(Counted(CELLS, lonely, 2.0), NOTHING).last >= 500


def test_a_value_that_many_rows_hold_is_an_end() -> None:
    cells = ((0, 10), (10, 40), (40, 41), (41, 43), (43, 47), (47, 200))
    found = ended(Counted(cells, np.array([4_000.0, 16_000, 14_000, 2, -3, 4]), 5.0), NOTHING)
    assert 40 <= found.last <= 44


def test_what_may_be_noise_is_nothing() -> None:
    cells = ((0, 10), (10, 20), (20, 30), (30, 40), (40, 50))
    found = ended(Counted(cells, np.array([500.0, 25.0, 400.0, 25.0, -15.0]), 10.0), NOTHING)
    assert found.counts[:2].tolist() == [500, 0]
    assert len(found.counts) == 3
    assert found.cells[-1] == (20, 50)


def test_noise_beyond_a_single_clear_cell_takes_nothing_from_it() -> None:
    for rows in ([31.0, -25.0, -20.0], [-25.0, 31.0, -20.0], [-20.0, -25.0, 31.0]):
        found = ended(Counted(((0, 10), (10, 20), (20, 30)), np.array(rows), 10.0), NOTHING)
        assert found.cells == ((0, 30),)
        assert found.counts.tolist() == [31]
        assert 0 <= found.first <= found.last <= 29


def test_where_nothing_is_clear_the_bounds_stay() -> None:
    found = ended(Counted(((0, 5), (5, 9)), np.array([3.0, -2.0]), 10.0), NOTHING)
    assert isinstance(found, Ended)
    assert (found.first, found.last, found.cells) == (0, 8, ((0, 5), (5, 9)))


@pytest.mark.parametrize("far", [3.0, 4.5])
def test_whatever_the_noise_is_ends_lie_in_the_outermost_cells(far: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        edges = np.r_[0, rng.integers(1, 40, rng.integers(1, 12)).cumsum()].tolist()
        cells = tuple(pairwise(edges))
        rows = rng.normal(0, 20, len(cells)) + rng.choice([0, 0, 60, 500], len(cells))
        found = ended(Counted(cells, rows, 20.0), NOTHING, far=far)
        assert (found.cells[0][0], found.cells[-1][1]) == (0, edges[-1])
        assert 0 <= found.first < found.cells[0][1]
        assert found.cells[-1][0] <= found.last < edges[-1]
        assert found.first <= found.last
        assert (found.counts >= 0).all()
