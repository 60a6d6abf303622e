# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from trt_perception.core.files import FileError, check_writable, sha256, write_atomically


def test_new_and_replaced(tmp_path):
    path = tmp_path / 'report.json'
    write_atomically(path, 'Grün\n')
    assert path.read_bytes() == 'Grün\n'.encode()
    write_atomically(path, b'\x00\xff')
    assert path.read_bytes() == b'\x00\xff'
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_that_of_any_new_file(tmp_path):
    write_atomically(tmp_path / 'a', '')
    (tmp_path / 'b').write_text('')
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'b').stat().st_mode


def test_the_longest_name(tmp_path):
    write_atomically(tmp_path / ('n' * 255), 'x')
    assert (tmp_path / ('n' * 255)).read_text() == 'x'


def test_a_reader_never_sees_a_part(tmp_path):
    path = tmp_path / 'report.json'
    whole = [letter * 1_000_000 for letter in 'ab']
    write_atomically(path, whole[0])
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        write_atomically(path, whole[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(whole)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'folder').mkdir()
    real, link = tmp_path / 'folder' / 'real', tmp_path / 'link'
    link.symlink_to(real)
    write_atomically(link, 'x')
    assert link.is_symlink()
    assert real.read_text() == 'x'


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    check_writable(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, 'x')
    reader.join()
    assert read == ['x']
    assert pipe.is_fifo()


def test_what_cannot_be_written_is_named_before_and_after(tmp_path):
    (tmp_path / 'file').write_text('')
    for path, words in (
        (tmp_path, 'is a folder'),
        (tmp_path / 'no' / 'x', f"no folder '{tmp_path / 'no'}'"),
        (tmp_path / 'file' / 'x', f"no folder '{tmp_path / 'file'}'"),
    ):
        with pytest.raises(FileError) as caught:
            check_writable(path)
        assert words in str(caught.value)
        with pytest.raises(FileError, match='cannot be written'):
            write_atomically(path, 'x')
    assert [p.name for p in tmp_path.iterdir()] == ['file']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_without_permission_is_named_before(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match='no permission'):
        check_writable(tmp_path / 'x')
    tmp_path.chmod(0o700)


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / 'report.json'
    write_atomically(path, 'old')
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, '\ud800')
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_sha256(tmp_path):
    path: Path = tmp_path / 'x'
    path.write_bytes(b'abc')
    assert sha256(path).startswith('ba7816bf8f01cfea414140de5dae2223')  # of the standard
    path.write_bytes(b'a' * 1_000_000)
    assert sha256(path).startswith('cdc76e5c9914fb9281a1c7e284d73e67')
    with pytest.raises(FileError, match='absent'):
        sha256(tmp_path / 'absent')
