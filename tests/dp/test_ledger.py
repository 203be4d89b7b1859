import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen.dp.accountant import Mechanism
from synthgen.dp.ledger import Ledger
from synthgen.errors import ConfigError
from synthgen.files import sha256

COUNTS = [Mechanism("counts", "discrete-gaussian", 10.0, 1)]  # epsilon .40 at delta 1e-6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_text("a\n1\n")
    return path


def known(ledger: Ledger, path: Path) -> tuple[str, str]:
    return ledger.source(str(path.resolve()), sha256(path))


def test_spending_adds_up_and_stops_at_the_cap(tmp_path: Path, data: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    source = known(ledger, data)
    totals = [ledger.spend(source, COUNTS, delta=1e-6, cap=1.0, run=str(i)) for i in range(4)]
    assert totals == sorted(totals)
    assert totals[-1] < 4 * totals[0]  # composed, not added up
    spent = ledger.spent(source)
    assert spent == pytest.approx(totals[-1])
    with pytest.raises(ConfigError, match="privacy budget: epsilon"):
        ledger.spend(source, COUNTS, delta=1e-6, cap=spent, run="one too many")
    assert ledger.spent(source) == spent


def test_a_copy_and_a_changed_file_in_its_place_are_the_same_source(
    tmp_path: Path, data: Path
) -> None:
    ledger = Ledger(tmp_path / "state")
    ledger.spend(known(ledger, data), COUNTS, delta=1e-6, cap=1.0, run="one")
    copy, other = tmp_path / "copy.csv", tmp_path / "other.csv"
    copy.write_bytes(data.read_bytes())
    other.write_text("b\n2\n")
    data.write_text("a\n1\n2\n")
    assert ledger.spent(known(ledger, copy)) > 0
    assert ledger.spent(known(ledger, data)) > 0
    assert ledger.spent(known(ledger, other)) == 0


def test_the_ledger_names_no_file_and_is_the_users_alone(tmp_path: Path, data: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    ledger.spend(known(ledger, data), COUNTS, delta=1e-6, cap=1.0, run="one")
    for name in ("ledger.jsonl", "ledger.key"):
        assert (tmp_path / "state" / name).stat().st_mode & 0o777 == 0o600
    assert "patients" not in (tmp_path / "state" / "ledger.jsonl").read_text()


def test_a_damaged_ledger_refuses(tmp_path: Path, data: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    source = known(ledger, data)
    (tmp_path / "state" / "ledger.jsonl").write_text('{"source": [')
    with pytest.raises(ConfigError, match="is damaged"):
        ledger.spend(source, COUNTS, delta=1e-6, cap=1.0, run="one")


@pytest.mark.parametrize("entry", ['{"source": ["a"]}', "[]", '{"source": 3, "mechanisms": []}'])
def test_an_entry_that_does_not_say_what_was_spent_refuses(
    tmp_path: Path, data: Path, entry: str
) -> None:
    ledger = Ledger(tmp_path / "state")
    source = known(ledger, data)
    (tmp_path / "state" / "ledger.jsonl").write_text(entry + "\n")
    with pytest.raises(ConfigError, match="is damaged"):
        ledger.spent(source)


@pytest.mark.parametrize("left", [None, b"", b"short"])
def test_without_its_key_the_ledger_forgets_nothing_but_refuses(
    tmp_path: Path, data: Path, left: bytes | None
) -> None:
    ledger = Ledger(tmp_path / "state")
    ledger.spend(known(ledger, data), COUNTS, delta=1e-6, cap=1.0, run="one")
    key = tmp_path / "state" / "ledger.key"
    key.unlink()
    if left is not None:
        key.write_bytes(left)
    with pytest.raises(ConfigError, match="the key of the privacy ledger"):
        known(ledger, data)


def test_the_cap_holds_over_thirty_nights(tmp_path: Path, data: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    nightly = [Mechanism("counts", "discrete-gaussian", 30.0, 1)]
    refused = 0
    for night in range(30):
        data.write_text(f"a\n{night}\n")  # other rows in the same place
        try:
            ledger.spend(known(ledger, data), nightly, delta=1e-6, cap=0.5, run=str(night))
        except ConfigError:
            refused += 1
    assert 10 < refused < 30
    assert ledger.spent(known(ledger, data)) <= 0.5
    assert len((tmp_path / "state" / "ledger.jsonl").read_text().splitlines()) == 30 - refused


def test_killed_after_the_charge_the_budget_is_spent(tmp_path: Path, data: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from synthgen.dp.accountant import Mechanism; from synthgen.dp.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "counts = [Mechanism('counts', 'discrete-gaussian', 10.0, 1)]\n"
        "source = ledger.source(sys.argv[2], 'bytes')\n"
        "ledger.spend(source, counts, delta=1e-6, cap=1.0, run='one')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    state = tmp_path / "state"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, state, data], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    entry = json.loads((state / "ledger.jsonl").read_text())
    assert entry["run"] == "one"
    ledger = Ledger(state)
    assert ledger.spent(known(ledger, data)) > 0.3
