# SPDX-License-Identifier: Apache-2.0
"""Replays for tests, and what can be said of one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trt_perception.replay.result import ReplayResult, SeenFrame

#: Classes that are named in a line.
_SHOWN = 6


class Replay:
    """What a detector found in a bag.

    Attributes:
        folder: of the results, as ``trt-perception replay`` leaves it.
        summary: what stands in ``replay.json``.
    """

    def __init__(self, result: ReplayResult) -> None:
        self.folder = result.path
        self.summary = result.summary
        self._result = result

    @property
    def images(self) -> int:
        """How many were looked at."""
        return int(self.summary['frames'])

    @cached_property
    def classes(self) -> Counter[str]:
        """How often each class was found, the most frequent first."""
        found: Counter[str] = Counter()
        for camera in self.summary['cameras'].values():
            found.update(camera['detections'])
        return Counter(dict(found.most_common()))

    def frames(self, topic: str = '') -> Iterator[SeenFrame]:
        """Each image that was looked at, with its detections, in the order of the bag.

        Args:
            topic: of the images; all of them without.
        """
        for seen in self._result.frames():
            if topic in ('', seen.topic):
                yield seen

    def count(self, name: str = '', topic: str = '') -> int:
        """How many detections there are of a class, in all images together.

        Args:
            name: of the class; all classes without.
            topic: of the images; all cameras without.

        Raises:
            ValueError: the model has no such class, or the replay no such topic.
        """
        self._check(name, topic)
        return sum(
            number
            for of, camera in self.summary['cameras'].items()
            for found, number in camera['detections'].items()
            if topic in ('', of) and name in ('', found)
        )

    def images_with(self, name: str = '', topic: str = '') -> int:
        """How many images show at least one of a class; the rest as for `count`."""
        self._check(name, topic)
        number = self._result.class_names.index(name) if name else None
        return sum(
            bool(len(seen.detections) if number is None else number in seen.detections.class_ids)
            for seen in self.frames(topic)
        )

    def latency_ms(self, percentile: float = 95, stage: str = 'total', topic: str = '') -> float:
        """The milliseconds that so many of 100 images stay below.

        Args:
            stage: ``image`` (decoding), ``preprocess``, ``infer``, ``decode``, or ``total``, from
                an image to its detections without the waiting for others.
            topic: of the images; all cameras without.
        """
        import numpy as np

        return float(np.percentile(self._times(stage, topic), percentile))

    def assert_count(
        self, name: str, at_least: int | None = None, at_most: int | None = None, topic: str = ''
    ) -> None:
        """See that there are not fewer and not more detections of a class.

        Raises:
            AssertionError: there are.
        """
        __tracebackhide__ = True
        number = self.count(name, topic)
        if at_least is not None and number < at_least:
            raise AssertionError(f'{number} {name} found, and {at_least} expected: {self!r}')
        if at_most is not None and number > at_most:
            raise AssertionError(f'{number} {name} found, and {at_most} at most: {self!r}')

    def assert_latency(
        self,
        p50_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
        max_ms: float | None = None,
        *,
        stage: str = 'total',
        topic: str = '',
    ) -> None:
        """See that images take no longer than this.

        It is the machine that runs the test whose time is measured.

        Args:
            stage, topic: as of `latency_ms`.

        Raises:
            AssertionError: they do.
        """
        __tracebackhide__ = True
        budgets = {50: p50_ms, 95: p95_ms, 99: p99_ms, 100: max_ms}
        broken = [
            (percentile, budget, took)
            for percentile, budget in budgets.items()
            if budget is not None and (took := self.latency_ms(percentile, stage, topic)) > budget
        ]
        if broken:
            raise AssertionError(self._too_slow(broken, stage, topic))

    def assert_whole(self) -> None:
        """See that all images of the bag could be read and used.

        Raises:
            AssertionError: some could not.
        """
        __tracebackhide__ = True
        problems = list(self.summary['damage'])
        for topic, camera in self.summary['cameras'].items():
            for kind, number in camera['frames']['rejected'].items():
                problems.append(f'{topic}: {number} images: {camera["rejected_because"][kind]}')
        if problems:
            raise AssertionError('; '.join(problems))

    def __repr__(self) -> str:
        shown = [f'{name} {number}' for name, number in self.classes.most_common(_SHOWN)]
        more = ['...'] if len(self.classes) > _SHOWN else []
        found = ', '.join([*shown, *more]) or 'nothing found'
        return (
            f'<replay of {Path(self.summary["bag"]["path"]).name}: {self.images} images; {found}>'
        )

    def _check(self, name: str, topic: str) -> None:
        classes, cameras = self._result.class_names, self._result.cameras
        if name and name not in classes and name not in self.classes:
            from trt_perception.ros.parameters import did_you_mean

            there, more = ', '.join(classes[:20]), ', ...' if len(classes) > 20 else ''
            raise ValueError(
                f'the model has no class {name!r}{did_you_mean(name, classes)} (it has'
                f' {there}{more})'
            )
        if topic and topic not in cameras:
            raise ValueError(f'there is no topic {topic!r}, but {", ".join(cameras)}')

    def _times(self, stage: str, topic: str) -> NDArray[Any]:
        self._check('', topic)
        rows = self._result.rows()
        if topic:
            rows = rows[rows['camera'] == self._result.cameras.index(topic)]
        return rows[stage]

    def _too_slow(self, broken: Sequence[tuple[int, float, float]], stage: str, topic: str) -> str:
        names = {50: 'half of all images', 100: 'the slowest image'}
        times = self._times(stage, topic)
        lines = []
        for percentile, budget, took in broken:
            who = names.get(percentile, f'{percentile} of 100 images')
            lines.append(
                f'{stage}: {who} within {took:.1f} ms, budget {budget:g} ms;'
                f' {(times > budget).sum()} of {len(times)} take longer'
            )
        spread = ', '.join(f'{k} {v["p95"]:.1f}' for k, v in self.summary['latency_ms'].items())
        lines.append(f'95 of 100 stay below, in ms: {spread}')
        ran = (self.summary[name] for name in ('backend', 'precision', 'device'))
        lines.append('ran {}, {}, on {}'.format(*ran))
        return '\n'.join(lines)


class ReplayBag:
    """The fixture ``replay_bag``: call it with a bag and the parameters of a detector."""

    def __init__(self, root: Path, folder: Path, page: bool = False) -> None:
        """Prepare.

        Args:
            root: what relative paths are relative to.
            folder: for the results.
            page: whether to write a page for each.
        """
        self._root = root
        self._folder = folder
        self._page = page
        self._known: dict[str, Replay] = {}

    def __call__(
        self,
        bag: str | PathLike[str],
        params: str | PathLike[str] | Mapping[str, Any] | None = None,
        *,
        node: str = 'detector',
        topics: str | Sequence[str] = (),
        limit: int | None = None,
        **overrides: Any,
    ) -> Replay:
        """Look at every image of a bag as a detector with these parameters would.

        Paths, those among the parameters too, are relative to pytest's root directory. A file that
        is missing, or a parameter that the node would refuse, fails the test in one line.

        Args:
            bag: a rosbag2: its folder, or one of its files.
            params: a YAML file as of ``--params-file`` and launch, or the parameters by name.
            node: whose parameters of the file; with its namespace where there are several.
            topics: whose images to take, one or several, or ``camera=topic``; all without.
            limit: take only so many images, the first.
            overrides: parameters that are stronger, such as ``model='m.onnx'``.
        """
        __tracebackhide__ = True
        from trt_perception.core import PerceptionError

        topics = [topics] if isinstance(topics, str) else topics
        try:
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise PerceptionError(f'limit: {limit!r} is not a whole number of 1 or more')
            return self._replay(Path(bag), params, node, topics, limit, overrides)
        except PerceptionError as error:
            problem = str(error)
        pytest.fail(f'replay_bag: {problem}', pytrace=False)

    def _replay(
        self,
        bag: Path,
        params: str | PathLike[str] | Mapping[str, Any] | None,
        node: str,
        topics: Sequence[str],
        limit: int | None,
        overrides: Mapping[str, Any],
    ) -> Replay:
        from trt_perception.build.report.replay import write_page
        from trt_perception.cli.replaying import plan, replayed
        from trt_perception.replay.result import open_result
        from trt_perception.ros.detector_file import read_params_file

        given: dict[str, Any] = {}
        if isinstance(params, Mapping):
            given = dict(params)
        elif params is not None:
            given = read_params_file(self._path(params), node)
        given |= overrides
        for name in ('model', 'labels'):
            # coco is no file, and neither is a mistake.
            if isinstance(given.get(name), str) and given[name]:
                path = self._path(given[name])
                given[name] = str(path) if name == 'model' or path.exists() else given[name]
        bag = self._path(bag)
        key = json.dumps([str(bag), given, list(topics), limit], sort_keys=True, default=str)
        if key not in self._known:
            output = self._folder / f'{len(self._known) + 1}-{bag.stem}'
            with replayed(plan(bag, given, topics), output, limit) as writer:
                if self._page:
                    write_page(open_result(writer.folder))
            self._known[key] = Replay(open_result(output))
        return self._known[key]

    def _path(self, path: str | PathLike[str]) -> Path:
        from trt_perception.core.files import user_path

        return self._root / user_path(Path(path))
