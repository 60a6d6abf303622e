# SPDX-License-Identifier: Apache-2.0
"""The folder of engines: each under the hash of all that it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trt_perception.build.engine import store
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.core.files import cache_folder, sha256, user_path
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path, read_manifest

#: Names the folder, where no option does.
VARIABLE = 'TRT_PERCEPTION_ENGINES'


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The environment's folder, else one in the user's cache."""
    if named := environment.get(VARIABLE):
        return user_path(named)
    return cache_folder('engines', environment)


def key_of(made_from: dict[str, Any]) -> str:
    """The name of an engine: a hash of all that it is made from."""
    text = json.dumps(made_from, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Entry(NamedTuple):
    """An engine in the cache; what is wrong with it, or ''."""

    path: Path
    manifest: Manifest | None
    fault: str


class EngineCache:
    """Engines and their manifests in a folder that several processes share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: str) -> Path:
        """Where the engine of this key is, or would be."""
        return self.folder / f'{key}.engine'

    def lock_path(self, path: Path) -> Path:
        """What to lock while an engine of this folder is written."""
        return self.folder / f'.{path.name}.lock'

    def look_up(self, key: str) -> Entry:
        """The engine of this key; without manifest and fault where there is none."""
        path = self.path(key)
        if not path.exists() and not manifest_path(path).exists():
            return Entry(path, None, '')
        return check(path, key)

    def write(self, key: str, plan: bytes, manifest: Manifest) -> Path:
        """Put an engine in place, with its manifest. For who holds its lock.

        Raises:
            FileError: the disk is full, say; what was there stays.
        """
        path = self.path(key)
        store.write_together({path: plan, manifest_path(path): manifest.to_json().encode()})
        return path

    def refresh(self, entry: Entry, spec: ModelSpec | None) -> Manifest:
        """Let the manifest tell what the YAML and the labels beside the model say by now."""
        assert entry.manifest is not None
        if entry.manifest.spec == spec:
            return entry.manifest
        manifest = dataclasses.replace(entry.manifest, spec=spec)
        store.write_together({manifest_path(entry.path): manifest.to_json().encode()})
        return manifest

    def tidy(self, path: Path) -> None:
        """Delete what killed builds of this engine left. For who holds its lock."""
        for half_written in (path, manifest_path(path)):
            for left in store.leftovers(half_written):
                left.unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All engines, in the order of their names, with what is wrong with each."""
        for path in sorted(self.folder.glob('*.engine')):
            yield check(path, path.stem)

    def remove(self, path: Path) -> bool:
        """Delete an engine and all that belongs to it; False while somebody builds it."""
        lock = self.lock_path(path)
        handle = store.try_lock(lock)
        if handle is None:
            return False
        try:
            self.tidy(path)
            for part in (path, manifest_path(path), lock):
                part.unlink(missing_ok=True)
        finally:
            os.close(handle)
        return True

    def orphans(self) -> Iterator[Path]:
        """Engines that are not there, but of which a lock or half a file is."""
        names = {f.name[1:].partition('.engine')[0] for f in self.folder.glob('.*.engine*')} | {
            f.name.partition('.engine')[0] for f in self.folder.glob('*.engine.json')
        }
        for name in sorted(names):
            if not self.path(name).exists():
                yield self.path(name)

    def timings_path(self, library: str, gpu: str) -> Path:
        """The timing cache that all builds of a release for a GPU share."""
        return self.folder / 'timings' / f'{key_of({"library": library, "gpu": gpu})}.timings'


def check(path: Path, key: str = '') -> Entry:
    """See that an engine is the one that its manifest tells of, and of this key."""
    try:
        manifest = read_manifest(path)
        if key and manifest.key != key:
            return Entry(path, manifest, f"engine '{path}' was made from something else")
        if not path.is_file():
            raise EngineError(f"engine '{path}' is gone, only its manifest is left")
        if sha256(path) != manifest.sha256:
            return Entry(path, manifest, f"engine '{path}' is not what its manifest tells of")
    except PerceptionError as error:
        return Entry(path, None, str(error))
    return Entry(path, manifest, '')
