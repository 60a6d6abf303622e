# SPDX-License-Identifier: Apache-2.0
"""A bag through a detector of given parameters, for commands and for the tests of users."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trt_perception.build.engine.serving import Offer, Wish
    from trt_perception.core import ModelSpec, Selection
    from trt_perception.replay.bag_reader import BagReader
    from trt_perception.replay.result import ResultWriter

#: Images that a GPU works on at a time: it is full with them.
LANES = 3

#: Given how many images there are, a context of what is called after each.
Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Task:
    """What is to be looked at, and how.

    Attributes:
        counts: the topics to take, and how many images the bag says each has.
        cameras: which of the detector's cameras each of them is, as `cameras_of_topics` has it.
        given: the detector's parameters, those that do not have their defaults.
        values: all of them.
    """

    bag: BagReader
    counts: Mapping[str, int]
    cameras: Mapping[str, str]
    given: Mapping[str, Any]
    values: Mapping[str, Any]

    def selections(self, spec: ModelSpec) -> dict[str, Selection]:
        """What is wanted of the images of each topic.

        Raises:
            ParameterError: a class that the model does not have, or an impossible region.
        """
        from trt_perception.ros.detector_parameters import camera_values, cameras_of, selection

        # Cameras that were named after their topics have no parameters of their own.
        known = cameras_of(self.values)
        return {
            topic: selection(camera_values(camera if known else '', self.values), spec)
            for topic, camera in self.cameras.items()
        }


def plan(
    path: Path,
    given: Mapping[str, Any],
    topics: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Task:
    """Look at the bag and the parameters.

    Args:
        path: of the bag.
        given: the detector's parameters that are not to have their defaults.
        topics: to take, or ``camera=topic``; none takes all, and raw ones where there are both.
        tell: takes what is odd, a line each.

    Raises:
        PerceptionError: the bag has no such images, or a parameter that cannot be used.
    """
    from trt_perception.replay.bag_reader import BagError, BagReader
    from trt_perception.replay.sources import SourceError
    from trt_perception.replay.sources.bag import choose_topics, image_topics
    from trt_perception.ros.detector_file import cameras_of_topics, detector_values, named_topics
    from trt_perception.ros.detector_parameters import cameras_of, devices_of
    from trt_perception.ros.parameters import ParameterError

    values = detector_values(given)
    devices_of(values)
    if not values['model']:
        raise ParameterError('model: is empty; give an ONNX file, or an engine')
    bag = BagReader(path)
    contents = bag.contents()
    for text in [*contents.notes, *contents.damage]:
        tell(f"bag '{bag.path}': {text}")
    counts, named = image_topics(contents), named_topics(topics)
    try:
        chosen = choose_topics(counts, list(named))
    except SourceError as error:
        raise BagError(f"bag '{bag.path}': {error}") from None
    cameras = cameras_of_topics(chosen, named, cameras_of(values))
    for name in [name for name, n in counts.items() if n and name not in cameras]:
        if name not in chosen and not topics:
            tell(f'left out: {name}, whose images are there raw')
        elif name in chosen:
            tell(
                f'left out: {name}, which is of none of the cameras {", ".join(values["cameras"])}'
            )
    return Task(bag, {name: counts[name] for name in cameras}, cameras, given, values)


@contextlib.contextmanager
def replayed(
    task: Task, output: Path, limit: int | None = None, progress: Progress | None = None
) -> Iterator[ResultWriter]:
    """Look at every image, as fast as the machine allows.

    Gives the writer once all is written; the folder gets its name when the context is left.

    Args:
        output: the folder.
        limit: take only so many images, the first.

    Raises:
        PerceptionError: the model cannot be run as asked for, or no image can be used.
    """
    from trt_perception.core import PerceptionError
    from trt_perception.replay.replay import (
        describe,
        describe_selection,
        detection_topics,
        replay,
    )
    from trt_perception.replay.result import ResultWriter, check_replaceable

    check_replaceable(output)
    model, engine, (pipeline, reason) = _open(task.values)
    found, spec = detection_topics(task.counts), pipeline.spec
    names = [spec.class_name(number) for number in range(spec.num_classes)]
    total = min(sum(task.counts.values()), limit or sys.maxsize)
    with contextlib.closing(pipeline):
        selections = task.selections(spec)
        threshold = min(s.score_threshold for s in selections.values())
        with ResultWriter(output, found, names, threshold) as writer:
            with (progress or _silent)(total) as on_frame:
                account = replay(
                    task.bag, task.counts, pipeline, selections, writer, limit, on_frame
                )
            if not account.looked_at:
                reasons = [why for c in account.cameras.values() for why in c.reasons.values()]
                why = next(iter([*reasons, *account.damage]), 'it holds none')
                raise PerceptionError(f"bag '{task.bag.path}': no image of it can be used: {why}")
            writer.finish(
                {
                    **describe(task.bag, account, model, engine),
                    **dataclasses.asdict(pipeline.info),
                    'chosen': reason,
                    'spec': spec.to_dict(),
                    'selection': describe_selection(task.values, threshold),
                    **account.to_dict(writer.times(), found),
                }
            )
            yield writer


def wish_of(values: Mapping[str, Any]) -> Wish:
    """What is to run, by a detector's parameters: that or nothing."""
    from trt_perception.build.engine.serving import Wish
    from trt_perception.core.files import user_path
    from trt_perception.ros.detector_parameters import devices_of

    own = {field.name for field in dataclasses.fields(Wish)} & set(values) - {'model', 'lanes'}
    given = {name: values[name] for name in own}
    given |= {'device': devices_of(values)[0], 'fallback': False}
    return Wish(user_path(values['model']), **given)


def _open(values: Mapping[str, Any]) -> tuple[Path, Path | None, Offer]:
    """The model, the engine if it is run as one, and what runs it."""
    from trt_perception.build.engine.serving import Offer
    from trt_perception.build.engine.tuning import gpu_number
    from trt_perception.cli.opening import find_engine
    from trt_perception.runtime.pipeline import open_pipeline

    wish = wish_of(values)
    engine, reason = find_engine(wish)
    pipeline = open_pipeline(
        engine or wish.model,
        labels=wish.labels,
        threads=wish.threads,
        priority=wish.stream_priority,
        accept_failed_gate=wish.accept_failed_gate,
        device=gpu_number(wish.device),
        lanes=values['lanes'] or LANES,
    )
    return wish.model, engine, Offer(pipeline, reason)


@contextlib.contextmanager
def _silent(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None
