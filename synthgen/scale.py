"""Rows drawn, and held against their schema, by several processes, here or of a Dask cluster.

A draw is cut into chunks that depend on the seed and their number alone. A worker loads the bundle
once, draws chunk after chunk, and leaves each as a file in the run folder; what travels between
processes is a path. So the table has the same bytes whoever draws it, and a worker that dies is no
loss: its chunk is drawn again elsewhere. What rows by themselves break is counted by row groups of
the file, and counts add up, so that the judge is told the same as by one process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config import ScaleConfig
from synthgen.conform import conform
from synthgen.errors import ConfigError, boundary
from synthgen.files import sha256, staged
from synthgen.run_folder import RunFolder, counted
from synthgen.schema import TableSchema
from synthgen.sources.source import BATCH_ROWS
from synthgen.synthesizer import CHUNK_ROWS, Synthesizer
from synthgen.table import to_arrow, write_arrow

if TYPE_CHECKING:
    from distributed import Client

    from synthgen.checks.expectations import Tally

#: Seconds that a worker may take to start; a busy machine was seen to need 50.
START_TIMEOUT = "180s"
#: Dask has workers give freed memory back at once, and take it anew for each tensor: drawing then
#: takes 2.5 times as long. Workers of one's own scheduler are started without it (operations.md).
_TRIM = "MALLOC_TRIM_THRESHOLD_"


@contextmanager
def drawn_by_many(folder: RunFolder) -> Iterator[Iterator[pa.Table]]:
    """Let the workers of ``[scale]`` draw the rows of a run; yield an iterator over the chunks.

    Raises
    ------
    ConfigError
        If Dask is not installed, or the cluster does not answer.
    """
    config = folder.config
    assert config.seed is not None
    parts = folder.parts_path
    shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed
    parts.mkdir(mode=0o700)
    shared = (str(folder.bundle_path), config.rows, config.seed, config.device, str(parts))
    n_chunks = -(-config.rows // CHUNK_ROWS)
    try:
        with connected(config.scale) as client:
            digest = sha256(folder.bundle_path / "bundle.json")
            futures = client.map(
                draw_chunk, range(n_chunks), shared=shared, bundle=digest, pure=False
            )
            yield counted(_in_order(futures), config.rows, stage="generate")
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _in_order(futures: list[Any]) -> Iterator[pa.Table]:
    for future in futures:
        path = Path(future.result())
        yield pq.read_table(path, page_checksum_verification=True)
        path.unlink()
        future.release()


def draw_chunk(number: int, *, shared: tuple[str, int, int, str, str], bundle: str) -> str:
    """Draw one chunk into a file; return its path. Runs in a worker.

    Parameters
    ----------
    number : int
        Of the chunk.
    shared : tuple
        Bundle folder, rows of the whole draw, seed, device, folder of the parts.
    bundle : str
        SHA-256 of the bundle's index: a worker of a cluster outlives a run.
    """
    folder, n, seed, device, parts = shared
    with boundary("generate"):  # what a worker raises travels, and must quote no cell
        synthesizer = _loaded(folder, device, bundle)
        frame = synthesizer.sample_chunk(number, n, seed=seed)
        path = Path(parts) / f"{number:06d}.parquet"
        with staged(path, mode=0o600) as temporary:
            schema = synthesizer.schema
            write_arrow(temporary, [to_arrow(frame, schema)], schema)
        return str(path)


def counted_by_many(folder: RunFolder) -> list[Tally]:
    """Let the workers of ``[scale]`` count what rows of the synthetic table break.

    Returns
    -------
    list of Tally
        One a worker's part, for `check_file`.

    Raises
    ------
    ConfigError
        If Dask is not installed, or the cluster does not answer.
    """
    with connected(folder.config.scale) as client:
        n_groups = pq.read_metadata(folder.synthetic_path).num_row_groups
        n_parts = min(n_groups, max(1, sum(client.ncores().values())))  # type: ignore[no-untyped-call]
        parts = [list(range(part, n_groups, n_parts)) for part in range(n_parts)]
        shared = (str(folder.synthetic_path), str(folder.schema_path))
        futures = client.map(count_part, parts, shared=shared, pure=False)
        return [future.result() for future in futures]


def count_part(groups: list[int], *, shared: tuple[str, str]) -> Tally:
    """Count what the rows of some row groups break. Runs in a worker.

    Parameters
    ----------
    groups : list of int
    shared : tuple
        Paths of the table and of its schema.
    """
    from synthgen.checks.expectations import count_rows

    with boundary("validate"):  # what a worker raises travels, and must quote no cell
        path, schema = Path(shared[0]), TableSchema.load(shared[1])
        cells = replace(schema, constraints=())  # counted over all rows
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            batches = file.iter_batches(BATCH_ROWS, row_groups=groups)
            return count_rows((conform([b], cells).data for b in batches if b.num_rows), schema)


@lru_cache(maxsize=1)
def _loaded(folder: str, device: str, digest: str) -> Synthesizer:
    return Synthesizer.load(folder, device=device)


@contextmanager
def connected(scale: ScaleConfig) -> Iterator[Client]:
    """Yield a client of the named cluster, or of one on this machine that ends with the block.

    The one on this machine listens on loopback, and only to those who have its certificate, which
    is made for it: whoever can talk to a Dask worker can run code as its user.
    """
    try:
        import dask
        from distributed import Client, LocalCluster, Security
    except ImportError:
        raise ConfigError("[scale] needs Dask: pip install 'synthgen[dask]'") from None
    if scale.scheduler is not None:
        try:
            client = Client(scale.scheduler, timeout="30s")  # type: ignore[no-untyped-call]
        except OSError:
            raise ConfigError(f"no Dask scheduler answers at {scale.scheduler}") from None
        with client:
            yield client
        return
    security = Security.temporary()  # type: ignore[no-untyped-call]
    environment = "distributed.nanny.pre-spawn-environ"
    variables = {k: v for k, v in dask.config.get(environment).items() if k != _TRIM}
    with (
        dask.config.set({environment: variables}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=scale.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            dashboard_address=None,
            death_timeout=START_TIMEOUT,
        ) as cluster,
        Client(cluster, security=security) as client,  # type: ignore[no-untyped-call]
    ):
        yield client
