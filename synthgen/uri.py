"""What a URI names: a path, a table of a database, an object of a store; never a secret.

Passwords and keys come from the environment or from files that it names (``PGPASSWORD``,
``PGPASSFILE``, ``PGSERVICEFILE``, ``AWS_ACCESS_KEY_ID``): a URI is written into configurations,
logs and manifests. One that holds a secret is refused, and no message repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from synthgen.errors import ConfigError
from synthgen.files import read_text

SCHEMES = ("file", "postgresql", "sqlite", "s3")
#: What a PostgreSQL URI may say besides ``table`` and ``query``: libpq's names, none a secret.
LIBPQ = frozenset({
    "host", "hostaddr", "port", "dbname", "user", "service", "passfile", "sslmode", "sslcert",
    "sslkey", "sslrootcert", "sslcrl", "sslnegotiation", "channel_binding", "gssencmode",
    "krbsrvname", "connect_timeout", "application_name", "options", "target_session_attrs",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
})  # fmt: skip
_REMEDY = {
    "postgresql": "set PGPASSWORD, or PGPASSFILE or PGSERVICEFILE to a file with mode 0600",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
}
MAX_QUERY_BYTES = 2**20


def scheme(uri: str) -> str:
    """Return what kind of place `uri` names; a plain path is a ``file``.

    Raises
    ------
    ConfigError
        If the scheme is unknown, or the URI holds a secret.

    >>> scheme("data/patients.csv"), scheme("s3://bucket/patients/")
    ('file', 's3')
    """
    found, separator, _ = uri.partition("://")
    if not separator:
        return "file"
    refuse_secrets(uri)
    if found == "postgres":  # libpq knows both
        return "postgresql"
    if found not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES)
        raise ConfigError(f"scheme '{found}://' is unknown; use a path, {known}")
    return found


def refuse_secrets(uri: str) -> None:
    """Raise ConfigError, without repeating it, if `uri` holds a password or a key.

    >>> refuse_secrets("postgresql://me:hunter2@host/db")
    Traceback (most recent call last):
    synthgen.errors.ConfigError: a postgresql:// URI holds a password...
    """
    found, separator, rest = uri.partition("://")
    if not separator or found == "file":
        return
    place, _, query = rest.partition("?")
    user, at, _ = place.rpartition("@")
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    secret = {n for n in names if "password" in n or "secret" in n or "token" in n or "access" in n}
    if (at and (":" in user or found == "s3")) or secret:
        remedy = _REMEDY.get(found, "name it in the environment")
        raise ConfigError(
            f"a {found}:// URI holds a password or key, and URIs are written down; "
            f"leave it out and {remedy}"
        )


def local_path(uri: str) -> Path:
    """Return the path that a path or ``file://`` URI names; ConfigError for every other scheme.

    >>> local_path("file:///data/new%20patients.csv").as_posix()
    '/data/new patients.csv'
    """
    if scheme(uri) != "file":
        raise ConfigError(f"a path or file:// is needed here, not {scheme(uri)}://")
    return Path(uri) if "://" not in uri else Path(unquote(uri[7:].removeprefix("localhost")))


def absolute(uri: str) -> str:
    """Return `uri` so that it means the same in every working directory.

    >>> absolute("s3://bucket/patients.csv")
    's3://bucket/patients.csv'
    """
    kind = scheme(uri)
    if kind == "file":
        return str(local_path(uri).absolute()) + "/" * uri.endswith("/")
    return uri if kind == "s3" else table_address(uri).uri


@dataclass(frozen=True)
class TableAddress:
    """A table, or the answer to a query, in a database.

    Attributes
    ----------
    uri : str
        As given, paths in it absolute.
    connection : str
        What the client is given: a libpq URI without password, or the path of a SQLite file.
    table : str
        Name, for PostgreSQL with a schema before a dot or without; empty if there is a query.
    query : Path, optional
        File with one SELECT.
    """

    uri: str
    connection: str
    table: str
    query: Path | None = None

    def quoted(self, table: str | None = None) -> str:
        """Return `table` (by default its own) as SQL names it.

        >>> table_address("sqlite:///a.db?table=my.t").quoted()
        '"my"."t"'
        """
        return ".".join(map(quote_name, (table or self.table).split(".", 1)))

    def select(self) -> str:
        """Return the SQL that reads it; ConfigError if the query file cannot be read."""
        if self.query is None:
            return f"SELECT * FROM {self.quoted()}"
        try:
            whole = read_text(self.query, MAX_QUERY_BYTES)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read query {self.query}: {type(error).__name__}") from None
        if whole is None:
            raise ConfigError(f"query {self.query} is larger than {MAX_QUERY_BYTES:,} bytes")
        text = whole.strip().rstrip(";").strip()
        if not text:
            raise ConfigError(f"query {self.query} is empty; write one SELECT into it")
        return text


def quote_name(name: str) -> str:
    """Return a name of SQL in quotes.

    >>> quote_name('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def table_address(uri: str) -> TableAddress:
    """Take a database's URI apart.

    ``postgresql://[user@]host[:port]/database?table=[schema.]name`` or
    ``sqlite:///path?table=name`` (four slashes before an absolute path); with ``query=file.sql``
    instead of ``table`` what one SELECT answers.

    Raises
    ------
    ConfigError
        Naming the part that is wrong or missing.
    """
    kind = scheme(uri)
    place, _, query = uri.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    table, file = options.pop("table", ""), options.pop("query", "")
    if bool(table) == bool(file) or "\x00" in table:
        raise ConfigError(f"a {kind}:// URI names one table (?table=NAME) or query (?query=FILE)")
    path = Path(file).absolute() if file else None
    asked = {"table": table} if table else {"query": str(path)}
    if kind == "sqlite":
        return _sqlite_address(place, options, asked, table, path)
    unknown = sorted(set(options) - LIBPQ)
    if unknown:
        known = ", ".join(["table", "query", *sorted(LIBPQ)])
        raise ConfigError(
            f"{len(unknown)} parameters of a postgresql:// URI are unknown; use {known}"
        )
    try:
        _ = urlsplit(place).port
    except ValueError:
        raise ConfigError(
            "a postgresql:// URI has no whole number as its port; if that was a password, "
            f"leave it out and {_REMEDY['postgresql']}"
        ) from None
    place = "postgresql" + place[place.index("://") :]
    connection = f"{place}?{urlencode(options, quote_via=quote)}" if options else place
    return TableAddress(
        f"{place}?{urlencode({**options, **asked}, quote_via=quote, safe='/')}",
        connection,
        table,
        path,
    )


def _sqlite_address(
    place: str, options: dict[str, str], asked: dict[str, str], table: str, query: Path | None
) -> TableAddress:
    _, _, rest = place.partition("://")
    if options or not rest.startswith("/") or len(rest) < 2:
        raise ConfigError(
            "a SQLite table is named sqlite:///file.db?table=NAME, or sqlite:////folder/file.db "
            "with an absolute path"
        )
    path = Path(unquote(rest[1:])).absolute()
    text = urlencode(asked, quote_via=quote, safe="/")
    return TableAddress(f"sqlite:///{quote(str(path))}?{text}", str(path), table, query)
