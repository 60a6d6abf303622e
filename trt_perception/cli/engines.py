# SPDX-License-Identifier: Apache-2.0
"""``trt-perception engines``: what is in the folder of engines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trt_perception.build.engine.cache import Entry

_DESCRIPTION = """\
List, show and prune the engines that trt-perception build has made.

  trt-perception engines list
  trt-perception engines show 3f2a                 the manifest of the engine whose name begins so
  trt-perception engines prune                     delete what is broken or of another TensorRT
  trt-perception engines adopt yolov8n.engine      an engine made elsewhere: vouch for it

An engine is code that runs on the GPU: adopt only one whose origin you know.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the command line what this command takes."""
    parser = commands.add_parser(
        'engines',
        help='list, show and prune the engines that were built',
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument('--cache', type=Path, metavar='DIR', help='folder of the engines')

    listing = actions.add_parser('list', parents=[shared], help='all engines, one a line')
    listing.add_argument('--json', action='store_true', help='as JSON')
    listing.set_defaults(run=_list)

    show = actions.add_parser('show', parents=[shared], help='the manifest of one')
    show.add_argument('engine', help='the beginning of its name, or a file')
    show.set_defaults(run=_show)

    prune = actions.add_parser('prune', parents=[shared], help='delete engines of no use')
    prune.add_argument('--all', action='store_true', help='also those that could be used')
    prune.add_argument('--dry-run', action='store_true', help='only say what would go')
    prune.set_defaults(run=_prune)

    adopt = actions.add_parser(
        'adopt', help='write a manifest for a plan or Ultralytics engine made elsewhere'
    )
    adopt.add_argument('engine', type=Path, help='the file')
    adopt.set_defaults(run=_adopt)


def _list(arguments: argparse.Namespace) -> int:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from trt_perception.build.engine.cache import EngineCache

    cache = EngineCache(arguments.cache)
    entries = list(cache.entries())
    if arguments.json:
        report = [
            {
                'engine': str(entry.path),
                'fault': entry.fault,
                'manifest': entry.manifest and json.loads(entry.manifest.to_json()),
            }
            for entry in entries
        ]
        print(json.dumps(report, indent=2))
        return 0
    table = Table('name', 'model', 'precision', 'device', 'TensorRT', 'MB', 'built', box=SIMPLE)
    for entry in entries:
        m = entry.manifest
        if m is not None and not entry.fault:
            table.add_row(
                entry.path.stem[:8],
                Path(str(m.model.get('path', ''))).name,
                m.precision,
                m.device,
                m.library,
                f'{m.bytes / 1e6:.1f}',
                m.built,
            )
    console = Console(markup=False, emoji=False, highlight=False)
    if table.rows:
        console.print(table)
    for entry in entries:
        if entry.fault:
            console.print(f'{entry.path.stem[:8]}: {entry.fault}', soft_wrap=True)
    total = sum(entry.manifest.bytes for entry in entries if entry.manifest) / 1e6
    console.print(f'{len(entries)} engines, {total:.1f} MB, in {cache.folder}')
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from trt_perception.build.engine.cache import EngineCache, check
    from trt_perception.runtime.engine import EngineError

    if Path(arguments.engine).is_file():
        found = [check(Path(arguments.engine))]
    else:
        cache = EngineCache(arguments.cache)
        found = [e for e in cache.entries() if e.path.stem.startswith(arguments.engine)]
        if not found:
            raise EngineError(
                f"no engine's name begins with '{arguments.engine}' in {cache.folder}; see"
                ' trt-perception engines list'
            )
        if len(found) > 1:
            names = ', '.join(entry.path.stem for entry in found)
            raise EngineError(f"'{arguments.engine}' may be {names}; give more of its name")
    entry = found[0]
    if entry.fault or entry.manifest is None:
        raise EngineError(f'{entry.fault}; build it again')
    print(entry.manifest.to_json(), end='')
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from trt_perception.build.engine.cache import EngineCache
    from trt_perception.runtime.engine import EngineError
    from trt_perception.runtime.tensorrt.library import library

    cache = EngineCache(arguments.cache)
    try:
        here = str(library())
    except EngineError:
        here = ''  # nothing is of another TensorRT where there is none

    def reason(entry: Entry) -> str:
        if entry.fault or entry.manifest is None:
            return entry.fault
        if here and entry.manifest.library != here:
            return f'made with {entry.manifest.library}, and this is {here}'
        return 'all are to go' if arguments.all else ''

    doomed = [(entry.path, why) for entry in cache.entries() if (why := reason(entry))]
    doomed += [(path, 'left by a build that was killed') for path in cache.orphans()]
    for path, why in doomed:
        if arguments.dry_run or cache.remove(path):
            print(f'{"would delete" if arguments.dry_run else "deleted"} {path.stem}: {why}')
        else:
            print(f'kept {path.stem}: somebody builds it')
    if not doomed:
        print(f'nothing to delete in {cache.folder}')
    return 0


def _adopt(arguments: argparse.Namespace) -> int:
    import hashlib

    from trt_perception.build.engine.cache import check
    from trt_perception.core.files import write_atomically
    from trt_perception.runtime.engine import EngineError
    from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path
    from trt_perception.runtime.tensorrt.plan import made_by, read_engine, split_header

    content = read_engine(arguments.engine)
    if not check(arguments.engine).fault:
        raise EngineError(f"engine '{arguments.engine}' has its manifest already")
    plan, _ = split_header(content, arguments.engine)
    digest = hashlib.sha256(content).hexdigest()
    manifest = Manifest(sha256=digest, bytes=len(content), library=made_by(plan))
    path = manifest_path(arguments.engine)
    write_atomically(path, manifest.to_json())
    print(f'{path}: {manifest.library}, sha256 {digest}')
    return 0
