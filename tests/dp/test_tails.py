import math

import numpy as np
import pytest

from synthgen.dp.tails import EULER, ended, outward


def test_cells_widen_towards_a_bound_and_tile_the_way() -> None:
    assert outward(100, 0, 10) == [(0, 30), (30, 70), (70, 90), (90, 100)]
    assert outward(5, 5, 3) == []


def test_a_tail_ends_where_its_rows_thin_out_to_none() -> None:
    # 400, 200, 100 rows in 10 positions each halve every 10: rate log 3 / 10 from the last two
    cells = [(0, 10), (10, 20), (20, 30), (30, 1_000)]
    found = ended(cells, np.array([400.0, 200.0, 100.0, 3.0]), std=20.0)
    assert found.cells == ((0, 10), (10, 20), (20, 1_000))
    assert found.counts.tolist() == [400, 200, 100]
    rate = math.log(3) / 10
    width = math.ceil((math.log(100) + EULER) / rate)
    assert found.last == 20 + width - 1 == 67
    assert found.powers[1] == pytest.approx(width * rate - 1)
    assert (found.first, found.powers[0]) == (0, 1.0)  # more rows at the bound than beside it


def test_a_lower_tail_is_an_upper_one_seen_in_the_mirror() -> None:
    cells = [(0, 70), (70, 80), (80, 90), (90, 100)]
    noisy = np.array([1.0, 100, 200, 400])
    found, mirrored = (
        ended(cells, noisy, std=20.0),
        ended([(-b, -a) for a, b in reversed(cells)], noisy[::-1], std=20.0),
    )
    assert found.first < 60
    assert found.first == -mirrored.last - 1
    assert found.powers == mirrored.powers[::-1]


def test_an_exact_value_at_the_bound_stays_the_end() -> None:
    cells = [(0, 50), (50, 99), (99, 100)]
    found = ended(cells, np.array([500.0, 0.0, 90.0]), std=10.0)
    assert (found.first, found.last, found.powers) == (0, 99, (1.0, 1.0))
    assert found.counts.tolist() == [500, 0, 90]


def test_what_may_be_noise_is_nothing_but_beside_the_clear() -> None:
    cells = [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]
    found = ended(cells, np.array([500.0, 25.0, 40.0, 25.0, 15.0]), std=10.0)
    assert found.counts.tolist() == [500, 0, 40, 25]
    assert found.cells[-1] == (30, 50)


def test_where_nothing_is_clear_the_bounds_stay() -> None:
    found = ended([(0, 5), (5, 9)], np.array([3.0, -2.0]), std=10.0)
    assert (found.first, found.last, found.cells) == (0, 8, ((0, 5), (5, 9)))
