# SPDX-License-Identifier: Apache-2.0
"""What a replay is compared with as it is made."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trt_perception.cli.comparing import CHANGED, LIMITS

if TYPE_CHECKING:
    from trt_perception.build.report.comparison import ComparisonPage
    from trt_perception.replay.result import ReplayResult


class Baseline:
    """The earlier replay, or the labels, that ``--baseline`` names, if it does."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """See that it is there, before the work that is compared with it.

        Raises:
            PerceptionError: it is not, or the options do not fit together.
        """
        from trt_perception.cli.comparing import check_labels
        from trt_perception.core import PerceptionError
        from trt_perception.replay.labels import Labels
        from trt_perception.replay.result import check_replaceable, open_result

        self._arguments = arguments
        self._path: Path | None = arguments.baseline
        self._update: bool = arguments.update_baseline
        limits = [
            f'--max-{name}' for name in LIMITS if getattr(arguments, f'max_{name}') is not None
        ]
        if self._path is None:
            if self._update or limits:
                option = '--update-baseline' if self._update else limits[0]
                raise PerceptionError(f'{option} needs a --baseline')
        elif self._path.is_file():
            if self._update:
                raise PerceptionError(
                    f"labels '{self._path}' are no replay; --update-baseline would overwrite them"
                )
            Labels(self._path)
            check_labels(self._path, arguments)
        elif self._path.resolve() == arguments.output.resolve():
            raise PerceptionError(
                f"the baseline '{self._path}' is where the results go; give another --output"
            )
        elif self._path.exists() or not self._update:
            if self._update:
                check_replaceable(self._path)
            try:
                open_result(self._path).rows()
            except PerceptionError as error:
                raise PerceptionError(
                    f'{error}; with --update-baseline this replay becomes the baseline'
                    if not self._path.exists()
                    else str(error)
                ) from None

    def compare(self, result: ReplayResult) -> ComparisonPage | None:
        """Compare and write the page and JSON; None if there is nothing to compare with.

        Raises:
            PerceptionError: the two have nothing in common.
        """
        from trt_perception.cli.comparing import compared, to_dict
        from trt_perception.core.files import write_atomically
        from trt_perception.replay.result import COMPARISON, COMPARISON_PAGE

        if self._path is None or not self._path.exists():
            return None
        page = compared(self._path, result, self._arguments.output.resolve().name, self._arguments)
        write_atomically(result.path / COMPARISON_PAGE, page.to_html())
        write_atomically(result.path / COMPARISON, json.dumps(to_dict(page), indent=2) + '\n')
        return page

    def update(self, output: Path) -> None:
        """Let the results be the baseline, if that is asked for.

        Raises:
            PerceptionError: they cannot be written there.
        """
        from trt_perception.core import PerceptionError
        from trt_perception.replay.result import BAG, FRAMES, SUMMARY, check_replaceable

        if self._path is None or not self._update:
            return
        check_replaceable(self._path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._path.parent, prefix=f'.{self._path.name}-') as folder:
                new, old = Path(folder, 'new'), Path(folder, 'old')
                new.mkdir()
                for name in (BAG, FRAMES, SUMMARY):
                    shutil.copyfile(output / name, new / name)
                if self._path.exists():
                    self._path.rename(old)
                new.rename(self._path)
        except OSError as error:
            raise PerceptionError(
                f"baseline '{self._path}' cannot be written: {error.strerror}"
            ) from None

    def print(self, page: ComparisonPage | None) -> None:
        """Tell what changed, and whether the baseline is another one now."""
        from trt_perception.cli.comparing import print_comparison
        from trt_perception.replay.result import COMPARISON_PAGE

        if page is not None:
            print_comparison(page)
            print(f'written: {self._arguments.output / COMPARISON_PAGE}')
        if self._update:
            print(f'the baseline is now this replay: {self._path}')

    def code(self, page: ComparisonPage | None) -> int:
        """The exit code."""
        from trt_perception.cli.comparing import passed

        return 0 if page is None or self._update or passed(page) else CHANGED
