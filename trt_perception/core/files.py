# SPDX-License-Identifier: Apache-2.0
"""Files that matter: written whole or not at all, and known by their content."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from trt_perception.core.errors import PerceptionError


class FileError(PerceptionError):
    """A file that cannot be written or read."""


def user_path(path: str | Path) -> Path:
    """A path as a user writes it, with ``~`` for a home folder.

    Raises:
        FileError: nobody of that name has one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FileError(f"'{path}' is in nobody's home folder; write the whole path") from None


def cache_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """A folder of this package in the user's cache.

    Raises:
        FileError: the user has no home folder, and none is named for the cache.
    """
    cache = environment.get('XDG_CACHE_HOME', '')
    base = Path(cache) if os.path.isabs(cache) else user_path('~/.cache')
    return base / 'trt_perception' / name


def is_file(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        FileError: the system does not tell, as where a folder may not be read.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise FileError(f"'{path}' cannot be looked at: {error.strerror}") from None


def check_writable(path: Path) -> None:
    """See that `write_atomically` will be able to write here, before the work that it is for.

    Raises:
        FileError: it will not.
    """
    folder = path.parent
    if path.is_dir():
        raise FileError(f"'{path}' is a folder; give the name of a file")
    if not folder.is_dir():
        raise FileError(f"'{path}': there is no folder '{folder}'; create it first")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise FileError(f"'{path}' cannot be written: no permission")


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that nobody, and no power cut, ever sees a part of it.

    Args:
        path: replaced if it exists; a link stays one. Pipes and devices are written to as they are.
        data: text is written as UTF-8.

    Raises:
        FileError: the system refuses.
    """
    content = data.encode() if isinstance(data, str) else data
    target = Path(os.path.realpath(path))
    try:
        if _is_special(target):
            target.write_bytes(content)
            return
        temporary = target.with_name(f'.{secrets.token_hex(8)}.tmp')
        try:
            with temporary.open('xb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error.strerror}") from None


class Watched:
    """A file that is read now, and what becomes of it afterwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._identity()

    @property
    def change(self) -> str:
        """What has become of it: ``replaced``, ``gone``, or '' as long as it is the same."""
        present = self._identity()
        if present == self._known:
            return ''
        return 'gone' if present is None else 'replaced'

    def _identity(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    """Digest of a file's content, in hexadecimal.

    Raises:
        FileError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _is_special(path: Path) -> bool:
    # Renaming over /dev/null would take it away from the whole system.
    return path.exists() and not path.is_file()
