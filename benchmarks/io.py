"""How fast a table of PostgreSQL is read and written, beside the fastest plain client.

    python benchmarks/io.py [--rows 1000000]

A PostgreSQL of its own (the wheel of the tests) gets a table of 15 columns: 6 whole numbers, 4
floats, 5 texts. Each figure is a process of its own, so that its memory is its own; extra memory is
what its peak lies above the process after its imports.

Result (2026-11-26, PostgreSQL 18.4 on a socket, ADBC 1.13, two cores of an idle AMD EPYC; the
best of three to five by the clock):

    1,000,000 rows                          clock   client   server  extra MB
    read   ADBC, batches                      .75      .70       .5        39
           ADBC, whole table                  .77      .73       .5       142
           synthgen source, batches           .71      .68       .5        21   .95 x
    write  ADBC ingest, one COPY             1.74     1.11       .7       194
           synthgen sink                     2.16     1.15      1.1       221   1.24 x by the clock
           rows read back (see below)        3.36     2.16      1.2       220   1.9 x

The sink hashes what it sends, the server what stands there, in parallel workers if it has cores to
spare; a server that hashes otherwise has its rows read back. The CPU seconds of both together are
1.25 to 1.5 x those of the plain client, by which of its runs one takes. Hashing in a thread of its
own was tried and brought nothing (1.27 x).

connectorx refuses sockets. Over TCP on loopback, three runs each, 0.4.6 took .92 to .98 s (two
partitions .82 to .84), ADBC .70 to .76, synthgen's source .70 to .73.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TABLE = "big"
CREATE = """CREATE TABLE big AS SELECT
    g AS i1, g % 7 AS i2, g % 100 AS i3, (g * 31) % 1000 AS i4, g % 2 AS i5, g / 3 AS i6,
    g * 0.5::float8 AS f1, sqrt(g) AS f2, random() AS f3, ln(g + 1) AS f4,
    'level ' || g % 5 AS t1, 'ward ' || g % 40 AS t2, md5((g % 1000)::text) AS t3,
    chr(65 + g % 26) AS t4, 'code-' || g % 9999 AS t5
    FROM generate_series(1, {rows}) g"""


def read_plain(uri: str) -> int:
    """Read batches with the driver alone."""
    import adbc_driver_postgresql.dbapi as client

    with client.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())


def read_source(uri: str) -> int:
    """Read batches as a run does."""
    from synthgen.sources import open_source

    with open_source(f"{uri}&table={TABLE}") as source:
        return sum(batch.num_rows for batch in source.batches())


def read_whole(uri: str) -> int:
    """Read one Arrow table with the driver alone."""
    import adbc_driver_postgresql.dbapi as client

    with client.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
        return int(cursor.fetch_arrow_table().num_rows)


def _synthetic(uri: str) -> Any:
    """Return the table as a file that a run would have left, made by a process before."""
    from synthgen.schema import TableSchema
    from synthgen.table import SyntheticFile

    folder = Path(uri.partition("host=")[2]).parent
    return SyntheticFile(TableSchema.load(folder / "big.toml"), folder / "big.parquet", "f" * 64, 1)


def prepare(uri: str) -> int:
    """Write the table as the file that is exported."""
    from synthgen.conform import conform_packed
    from synthgen.schema import Column, TableSchema
    from synthgen.sources import open_source
    from synthgen.table import write_batches

    folder = Path(uri.partition("host=")[2]).parent
    with open_source(f"{uri}&table={TABLE}") as source:
        kinds = {"i": {"kind": "numeric", "decimals": 0}, "f": {"kind": "numeric"}}
        columns = tuple(Column(name=n, **kinds.get(n[0], {"kind": "text"})) for n in source.names)
        schema = TableSchema(name=TABLE, columns=columns)
        table = conform_packed(source.batches(), schema)
    schema.save(folder / "big.toml")
    return write_batches(folder / "big.parquet", table.batches(), schema)


def write_plain(uri: str) -> int:
    """Write with the driver alone."""
    import adbc_driver_postgresql.dbapi as client
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(_synthetic(uri).path)
    with client.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS plain")
        batches = file.iter_batches(131_072)
        reader = pa.RecordBatchReader.from_batches(file.schema_arrow, batches)
        cursor.adbc_ingest("plain", reader, mode="create")
        connection.commit()
    return int(file.metadata.num_rows)


def write_sink(uri: str) -> int:
    """Do all that an export does after the gate: stage, COPY, hash, compare, swap."""
    from synthgen.sinks import open_sink

    table = _synthetic(uri)
    sink = open_sink(f"{uri}&table=exported")
    return sink.put(table, lambda *_: None, lambda w: json.dumps(w.sha256), overwrite=True).rows


def write_read_back(uri: str) -> int:
    """Do it as for a server that hashes otherwise: the rows are read back."""
    from synthgen.sinks import database

    database.SAMPLE_SQL = "0::int8"
    return write_sink(uri)


STEPS = (read_plain, read_whole, read_source, prepare, write_plain, write_sink, write_read_back)


def measure(step: str, uri: str) -> dict[str, Any]:
    """Run one step here; seconds of the wall, of CPU, and MB above what imports took."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import synthgen.sinks
    import synthgen.sources  # noqa: F401

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    rows = globals()[step](uri)
    return {
        "step": step,
        "rows": rows,
        "wall_s": round(time.perf_counter() - wall, 2),
        "client_s": round(time.process_time() - cpu, 2),
        "extra_MB": round(peak() - before),
    }


def of_server(host: str) -> float:
    """Return the CPU seconds of the server that listens in folder `host`, all backends."""
    pid = int((Path(host) / "postmaster.pid").read_text().split()[0])
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, stat[11:15]))  # its own and those of backends that have ended
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure every step some times; print the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", nargs="*", default=[step.__name__ for step in STEPS])
    parser.add_argument("--step")
    parser.add_argument("--uri")
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(measure(asked.step, asked.uri)))
        return
    sys.path.insert(0, str(ROOT / "tests"))
    import adbc_driver_postgresql.dbapi as client
    import servers

    with servers.postgres() as uri:
        with client.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(CREATE.format(rows=asked.rows))
            cursor.execute("ANALYZE")
            connection.commit()
        host = uri.partition("host=")[2]
        for step in (step for step in STEPS if step.__name__ in asked.steps):
            command = [sys.executable, __file__, "--step", step.__name__, "--uri", uri]
            runs = []
            for _ in range(1 if step is prepare else asked.repeat):
                before = of_server(host)
                done = subprocess.run(command, capture_output=True, check=True)
                time.sleep(1)  # for its backend to end
                runs.append({**json.loads(done.stdout), "server_s": of_server(host) - before})
            print(min(runs, key=lambda run: run["wall_s"]), flush=True)


if __name__ == "__main__":
    main()
