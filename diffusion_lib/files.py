"""Files read with their checksum and written whole: the only reader and the only writer of their kind."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


class FileError(Exception):
    """A file is missing, damaged or not the one that was expected; the message names it."""


def read_checked(path: Path, sha256: str, error: type[FileError] = FileError) -> bytes:
    """Return a file's content. Raises: OSError; `error` unless its SHA-256 is the one given."""
    return checked(path, path.read_bytes(), sha256, error)


def checked(source: str | Path, content: bytes, sha256: str, error: type[FileError] = FileError) -> bytes:
    """Return the content that came from `source`, a path or an address; `error` unless its SHA-256 is the one given."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise error(f"{source}: expected SHA-256 {sha256}, found {found}: altered or damaged")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name, then move it into place: a reader sees the old file or the new one, whole.

    The other name is drawn anew each time and ends in `.part`, so that two processes may write the same file. Only a
    process that is killed leaves its part behind: see `remove_parts`. Raises: OSError, which names the file, with the
    old one in its place.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            for piece in pieces(content):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # a full disk needs the space


def remove_parts(path: Path) -> None:
    """Remove what killed writers of this file left behind: only where nobody else is writing it. Raises: OSError."""
    for part in path.parent.glob(f"{path.name}.????????.part"):
        part.unlink(missing_ok=True)


def pieces(content: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    """Return `content` in pieces of at most `size` bytes."""
    return (content[i : i + size] for i in range(0, len(content), size))
