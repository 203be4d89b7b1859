"""Planted values must stay where the real rows are: in private/*.parquet and nowhere else.

Rare values of every kind of column are planted in a table that five runs see: one passes, one is
refused, one crashes on an exception whose text quotes a cell, one is cancelled and one killed. Then
everything they wrote is searched: run folders, bundles, exports, stdout and stderr, temporary
files, Prefect's home with its database; and the arguments of all processes while they ran.

The runs see a careless umask, and every connection to another machine is stopped and written down.
"""

import base64
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pytest

from synthgen import demo, stores
from synthgen.table import to_arrow
from synthgen.uri import table_address

ROWS = 1_500
#: column -> (how many rows hold it, the value); fewer rows than any level that may be kept (k = 10)
PLANTED: dict[str, tuple[int, str]] = {
    "patient_id": (1, "P-CANARYID7391"),
    "name": (1, "Canaria Namenson-Zq7"),
    "email": (1, "canary.mail.zq7@example.org"),
    "ward": (4, "CANARY-WARD-ZQ7"),
    "diagnosis": (1, "CANARY-DIAGNOSIS-ZQ7"),
    "cost": (1, "918273.64"),
    "creatinine": (2, "46177.31"),  # longer than any number of seconds in a log
    "birth_date": (1, "1901-03-07"),
    "admitted": (1, "2031-05-19T03:47:00"),
}


#: The password of a table, which the flow has from a Secret block.
SECRET = "pw-canary-Zq9-7391"


def guarded(postgres: str) -> str:
    """Make a table that is read by a password only; return its URI."""
    with closing(stores.postgres(table_address(f"{postgres}&table=none"))) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('hba_file')")
            rules = Path(cursor.fetchone()[0])
            rules.write_text(f"local all clinic scram-sha-256\n{rules.read_text()}")
            for statement in (
                f"CREATE ROLE clinic LOGIN PASSWORD '{SECRET}'",
                "CREATE TABLE guarded AS SELECT g AS number, g % 3 AS level "
                "FROM generate_series(1, 300) g",
                "GRANT SELECT ON guarded TO clinic",
                "SELECT pg_reload_conf()",
            ):
                cursor.execute(statement)
        connection.commit()
    return postgres.replace("postgres@", "clinic@") + "&table=guarded"


@dataclass(frozen=True)
class Scene:
    folder: Path
    said: str
    told: dict[str, object]
    arguments: bytes
    cut_off: int


#: Python runs it at its start in every process of the runs.
SOCKETS_STOPPED = """
import os, sys

def stop(event, args):
    if event in ("socket.connect", "socket.sendto"):
        if not isinstance(args[1], tuple):
            return
        host = args[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "::1", "0.0.0.0") and not host.startswith("127."):
        with open(os.environ["SOCKETS_LOG"], "a") as file:
            file.write(f"{event} {host}\\n")
        raise ConnectionRefusedError("stopped by the test")

sys.addaudithook(stop)
"""


class Arguments:
    """Collects the arguments of all processes of the machine, several times a second."""

    def __init__(self) -> None:
        self.seen = set[bytes]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._collect)

    def _collect(self) -> None:
        while not self._done.wait(0.3):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(file.read_bytes())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Scene:
    folder = tmp_path_factory.mktemp("canary")
    frame = to_arrow(demo.demo_frame(ROWS, seed=5).data, demo.SCHEMA).to_pandas().astype("str")
    frame = frame.replace({"nan": "", "NaT": "", "None": "", "True": "yes", "False": "no"})
    for place, (name, (rows, value)) in enumerate(PLANTED.items()):
        frame.loc[range(40 * place, 40 * place + rows), name] = value
    frame.to_csv(folder / "in.csv", index=False)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SYNTHGEN_"))}
    for name in ("prefect", "tmp", "site"):
        (folder / name).mkdir(mode=0o700)
    (folder / "site" / "sitecustomize.py").write_text(SOCKETS_STOPPED)
    environment = {
        **kept,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "XDG_DATA_HOME": str(folder / "data-home"),  # the audit log is searched as well
        "TMPDIR": str(folder / "tmp"),
        "GUARDED_URI": guarded(postgres),
        "SOCKETS_LOG": str(folder / "sockets.log"),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(Path(__file__).parent.parent)]),
    }
    command = [sys.executable, Path(__file__).with_name("canary_flows.py"), folder]
    options: dict[str, Any] = {
        "input": SECRET, "capture_output": True, "text": True,
        "env": environment, "timeout": 500, "umask": 0,
    }  # fmt: skip
    with Arguments() as arguments:
        done = subprocess.run(command, check=False, **options)
        cut = subprocess.run([*command, "cut"], check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    said = "".join([done.stdout, done.stderr, cut.stdout, cut.stderr])
    told = json.loads(done.stdout.splitlines()[-1])
    return Scene(folder, said, told, b"\n".join(arguments.seen), cut.returncode)


def forms(value: str) -> list[bytes]:
    """`value` as it is, with a thousands separator if a number, and in base64 at each alignment."""
    raw = value.encode()
    spelled = [raw]
    if value.replace(".", "").isdigit():
        spelled.append(f"{float(value):,.2f}".encode())
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        spelled.append(encoded[4 if shift else 0 :].rstrip(b"=")[:-1])
    return spelled


def found(value: str, content: bytes) -> bool:
    return any(form in content for form in forms(value))


def content_of(path: Path) -> bytes:
    """What a reader of `path` can see: tables and databases unpacked, all else as it is."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv(index=False).encode()
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump()).encode()
    return path.read_bytes()


def files_of(scene: Scene) -> list[Path]:
    """Everything written; what waits beside a database is read with it, and gone afterwards."""
    files = [p for p in scene.folder.rglob("*") if p.is_file()]
    return [p for p in files if not p.name.endswith((".db-wal", ".db-shm"))]


@pytest.mark.slow
class TestCanaries:
    def test_the_three_runs_ended_as_meant(self, scene: Scene) -> None:
        assert scene.told["passed"] is True
        assert scene.told["refused"] is True
        assert "stage 'train' failed with" in str(scene.told["crashed"])
        assert scene.told["missing"] == "FAILED"
        assert scene.cut_off == -signal.SIGKILL
        for run in ("cancelled", "killed"):
            assert (scene.folder / run / "private" / "train.parquet").is_file()
            assert not (scene.folder / f"{run}.csv").exists()

    @pytest.mark.survives(
        "Supply chain", "a run with all its telemetry stopped at the socket: nothing tried to leave"
    )
    def test_nothing_called_another_machine(self, scene: Scene) -> None:
        """Neither data nor telemetry: of Prefect, Great Expectations or anything else."""
        assert scene.told["outside"] is True
        attempts = (scene.folder / "sockets.log").read_text().splitlines()
        assert set(attempts) <= {"socket.getaddrinfo 192.0.2.1", "socket.connect 192.0.2.1"}

    @pytest.mark.survives(
        "Leaks", "core dumps, and files of a run under a careless umask: none for others"
    )
    def test_no_process_leaves_its_memory_behind(self, scene: Scene) -> None:
        assert scene.told["core"] == 0

    def test_a_password_from_a_block_opens_the_table_and_is_nowhere(self, scene: Scene) -> None:
        assert scene.told["guarded"] is True
        assert "no password supplied" in str(scene.told["without"])
        assert scene.told["shown"] is False, "in the environment or arguments that ps shows"
        assert not found(SECRET, scene.said.encode() + scene.arguments)
        assert not [str(p) for p in files_of(scene) if found(SECRET, content_of(p))]
        assert b"clinic-password" in content_of(scene.folder / "prefect" / "prefect.db")

    def test_the_search_would_find_them(self, scene: Scene) -> None:
        content = (scene.folder / "in.csv").read_bytes()
        for value in ("CANARY-WARD-ZQ7", "918273.64"):
            assert found(value, content)
            for shift in range(3):
                assert found(value, base64.b64encode(b"x" * shift + value.encode() + b"tail"))
        assert found("CANARY-WARD-ZQ7", content_of(scene.folder / "passed/private/train.parquet"))
        assert b"Refused" in content_of(scene.folder / "prefect" / "prefect.db")

    @pytest.mark.survives(
        "Leaks",
        "planted cells after success, refusal, crash, cancellation and a kill: found nowhere",
    )
    @pytest.mark.parametrize("name", PLANTED)
    def test_no_canary_leaves_the_private_tables(self, scene: Scene, name: str) -> None:
        value = PLANTED[name][1]
        assert not found(value, scene.said.encode()), "stdout or stderr"
        assert not found(value, scene.arguments), "arguments of a process"
        allowed = {"in.csv", "train.parquet", "holdout.parquet"}
        searched = [p for p in files_of(scene) if p.name not in allowed]
        hits = [str(p.relative_to(scene.folder)) for p in searched if found(value, content_of(p))]
        assert not hits
        places = {p.name for p in searched}
        assert {"report.html", "generator.safetensors", "passed.csv", "prefect.db"} <= places

    @pytest.mark.survives(
        "Leaks", "core dumps, and files of a run under a careless umask: none for others"
    )
    def test_every_file_of_a_run_is_for_its_owner_only(self, scene: Scene) -> None:
        for run in ("passed", "refused", "crashed", "cancelled", "killed"):
            for path in (scene.folder / run).rglob("*"):
                assert path.stat().st_mode & 0o077 == 0, path
