# SPDX-License-Identifier: Apache-2.0
"""Files that several processes write: one at a time, and together or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trt_perception.core.files import FileError

_POLL_SECONDS = 0.1


class CancelledError(Exception):
    """Somebody stopped the waiting."""


@contextlib.contextmanager
def locked(
    path: Path,
    on_wait: Callable[[], None] = lambda: None,
    cancel: threading.Event | None = None,
) -> Iterator[None]:
    """Hold a lock that other processes respect, and that ends with this process.

    Args:
        path: an empty file, made where it is missing and left.
        on_wait: called once if another process holds the lock.
        cancel: set it to wait no longer.

    Raises:
        CancelledError: by ``cancel``.
        FileError: the file cannot be made.
    """
    cancel = cancel or threading.Event()
    told = False
    while (handle := try_lock(path)) is None:
        if not told:
            on_wait()
            told = True
        if cancel.wait(_POLL_SECONDS):
            raise CancelledError
    try:
        yield
    finally:
        os.close(handle)


def try_lock(path: Path) -> int | None:
    """The open file that holds the lock, or None while another process has it.

    Raises:
        FileError: the file cannot be made, or its file system knows no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who cleans up may have deleted the file in between: a lock on that keeps nobody out.
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(handle)
        raise FileError(f"'{path}' cannot be locked: {error.strerror}") from None
    os.close(handle)
    return None


def temporary(path: Path) -> Path:
    """A name beside a file that `leftovers` knows."""
    return path.with_name(f'.{path.name}.{secrets.token_hex(8)}.tmp')


def leftovers(path: Path) -> Iterator[Path]:
    """What a process that was killed left while it wrote this file; for who holds its lock."""
    return path.parent.glob(f'.{path.name}.*.tmp')


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all, then put all in place: a full disk leaves what was there.

    Args:
        files: put in place in this order.

    Raises:
        FileError: the system refuses.
    """
    ready: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in files.items():
            ready[path] = temporary(path)
            with ready[path].open('xb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, written in ready.items():
            written.replace(path)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error.strerror}") from None
    finally:
        for written in ready.values():
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
