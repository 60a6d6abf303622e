# SPDX-License-Identifier: Apache-2.0
"""Two replays, or a replay and labels: what is matched, lost, new, moved, re-scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.core import Detections, Stamp
from trt_perception.core.nms import pairwise_iou
from trt_perception.replay.coco import DatasetError
from trt_perception.replay.comparison import Comparison, Counts, Rules
from trt_perception.replay.labels import ClassList, Labels, against_labels
from trt_perception.replay.matching import compare, paired
from trt_perception.replay.result import SeenFrame

NAMES = ('car', 'person', 'traffic light')
Row = tuple[int, tuple[float, float, float, float], float]  # class, x1 y1 x2 y2, score


def found(*rows: Row) -> Detections:
    return Detections(
        np.array([r[1] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[2] for r in rows], np.float32),
        np.array([r[0] for r in rows], np.int32),
    )


def frame(number: int, *rows: Row, topic: str = '/camera', ms: float = 10.0) -> SeenFrame:
    time = 1_700_000_000_000_000_000 + number * 100_000_000
    return SeenFrame(topic, Stamp.of(time), time + 5, found(*rows), (640, 480), {'total': ms})


def compared(first: list[SeenFrame], second: list[SeenFrame], **rules: Any) -> Comparison:
    return compare(paired(first, second), (NAMES, NAMES), ('A', 'B'), Rules(**rules))


HERE, THERE = (0.0, 0.0, 20.0, 20.0), (100.0, 0.0, 200.0, 100.0)


def test_each_kind_of_change():
    first = [frame(0, (0, HERE, 0.9), (0, THERE, 0.8), (1, HERE, 0.7), (2, THERE, 0.6))]
    second = [frame(0, (0, HERE, 0.9), (0, (110, 0, 210, 100), 0.79), (1, HERE, 0.5),
                    (1, (300, 0, 330, 30), 0.4))]  # fmt: skip
    seen = compared(first, second)
    # Cars: one as it was, one at an overlap of 0.82; a person of another score, and a new one.
    assert seen.by_class() == {
        'car': Counts(2, 2, 2, 0, 0, 0, 0, 0),
        'person': Counts(1, 2, 1, 0, 1, 1, 0, 1),
        'traffic light': Counts(1, 0, 0, 0, 0, 0, 1, 0),
    }
    assert compared(first, second, moved=0.9).counts() == Counts(4, 4, 3, 1, 1, 2, 1, 1)
    assert seen.by_size() == {
        'small': Counts(2, 3, 2, 0, 1, 1, 0, 1),
        'medium': Counts(0, 0, 0, 0, 0, 0, 0, 0),
        'large': Counts(2, 1, 1, 0, 0, 0, 1, 0),
    }
    assert seen.distances() == pytest.approx([0.6 + 0.4 + 0.2])
    assert not seen.identical and compared(first, first).identical
    assert json.loads(json.dumps(seen.to_dict()))['counts']['lost'] == 1


def test_what_is_called_something_else():
    first, second = [frame(0, (0, THERE, 0.9))], [frame(0, (1, THERE, 0.8))]
    seen = compared(first, second)
    assert seen.counts() == Counts(1, 1, 0, 0, 0, 0, 1, 1)
    assert seen.renamed() == [('car', 'person', 1)]


def test_classes_are_those_of_the_names_and_not_of_the_numbers():
    other = ('Traffic_light', 'PERSON', 'car')
    pairs = paired(
        [frame(0, (0, HERE, 0.9), (2, THERE, 0.9), (7, HERE, 0.3))],
        [frame(0, (2, HERE, 0.9), (0, THERE, 0.9), (7, HERE, 0.3))],
    )
    seen = compare(pairs, (NAMES, other), ('A', 'B'), Rules())
    assert seen.identical
    assert seen.class_names == (*NAMES, *map(str, range(3, 8)))
    assert set(seen.by_class()) == {'car', 'traffic light', '7'}


def test_a_partner_may_have_less_than_the_score_from_which_on_detections_count():
    first = [frame(0, (0, HERE, 0.5), (0, THERE, 0.3))]
    second = [frame(0, (0, HERE, 0.38), (1, THERE, 0.39))]
    assert compared(first, second, score=0.4).counts() == Counts(1, 0, 1, 0, 1, 1, 0, 0)
    assert compared(first, second).counts() == Counts(2, 2, 1, 0, 1, 1, 1, 1)


def test_frames_pair_up_by_topic_and_stamp():
    first = [frame(0, (0, HERE, 0.9)), frame(1), frame(1, (0, HERE, 0.5)),
             frame(2, (0, HERE, 0.9)), frame(3, topic='/other')]  # fmt: skip
    second = [frame(3, (0, HERE, 0.9), topic='/other'), frame(1), frame(0, (0, HERE, 0.9)),
              frame(1, (0, HERE, 0.5)), frame(4, (1, HERE, 0.9))]  # fmt: skip
    seen = compared(first, second)
    assert seen.frames.seen.tolist() == [[True, True]] * 3 + [[True, False], [True, True],
                                                            [False, True]]  # fmt: skip
    assert seen.counts() == Counts(3, 4, 2, 0, 0, 0, 1, 2)
    assert seen.worst(9, 0.0) == [3, 4, 5]
    assert seen.worst(9, 1.0) == [3, 4]  # the last is of the first camera too, 0.2 s later
    assert seen.worst(1) == [3]


def test_nothing_at_all():
    seen = compared([], [])
    assert seen.counts() == Counts(*[0] * 8)
    assert (seen.worst(3), seen.slower(), len(seen.frames)) == ([], None, 0)
    assert compared([frame(0)], [frame(0)]).identical


def test_times():
    first, second = [frame(0, ms=10), frame(1, ms=30)], [frame(0, ms=11), frame(1, ms=33)]
    assert compared(first, second).slower() == pytest.approx(0.1)


boxes = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda v: (float(v[0]), float(v[1]), float(v[0] + v[2] + 1), float(v[1] + v[3] + 1))
)
looks = st.lists(st.tuples(st.integers(0, 1), boxes, st.integers(1, 9).map(lambda n: n / 10)),
                 max_size=8)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(looks, looks)
def test_it_is_the_same_either_way(one, other):
    there = compared([frame(0, *one)], [frame(0, *other)])
    back = compared([frame(0, *other)], [frame(0, *one)])
    a, b = there.counts(), back.counts()
    assert a == (b.second, b.first, b.matched, b.moved, b.rescored, b.changed, b.new, b.lost)
    assert a.first == a.matched + a.lost == len(one)
    # Nothing is left on both sides that would fit together, and no pair does not.
    overlap = there.rows.overlap
    assert (overlap[there.matched] >= 0.5).all() and not overlap[~there.matched].any()
    for k in (0, 1):
        own = there.rows.class_id == k
        left, right = (there.rows.boxes[mask & own, side] for mask, side in
                       ((there.lost, 0), (there.new, 1)))  # fmt: skip
        assert not (pairwise_iou(left, right) >= 0.5).any()


# Labels


def write_labels(
    folder: Path, images: list[dict[str, Any]], objects: list[tuple[Any, ...]]
) -> Path:
    path = folder / 'labels.json'
    path.write_text(json.dumps({
        'images': [{'id': k, **row} for k, row in enumerate(images)],
        'categories': [{'id': 5, 'name': 'Person'}, {'id': 3, 'name': 'car'},
                       {'id': 9, 'name': 'zebra'}],
        'annotations': [
            {'image_id': i, 'category_id': c, 'bbox': box, 'iscrowd': crowd}
            for i, c, box, crowd in objects
        ],
    }))  # fmt: skip
    return path


def named(path: Path, replay: list[SeenFrame]) -> list[tuple[str, int]]:
    looks = Labels(path).looks(replay)
    return [(p.path.name, (f.stamp.nanoseconds - 1_700_000_000_000_000_000) // 100_000_000)
            for p, f in looks]  # fmt: skip


def test_which_frame_a_picture_is(tmp_path):
    replay = [frame(k) for k in range(6)]
    images = [
        {'file_name': 'a.jpg', 'stamp': 1_700_000_000_100_000_000},
        {'file_name': '17.jpg', 'stamp': '1700000000.300000000', 'topic': 'camera/compressed'},
        {'file_name': 'front/cam0_1700000000.200000000'},
        {'file_name': '1700000000400000000.jpg'},
        {'file_name': 'frame_000005.PNG'},
        {'file_name': 'of_another_bag_1600000000400000000.jpg'},
    ]
    path = write_labels(tmp_path, images, [])
    assert named(path, replay) == [
        ('a.jpg', 1), ('cam0_1700000000.200000000', 2), ('17.jpg', 3),
        ('1700000000400000000.jpg', 4), ('frame_000005.PNG', 5),
    ]  # fmt: skip
    assert Labels(path).numbered
    two = [*replay, frame(2, topic='/other')]
    with pytest.raises(DatasetError, match='names no topic and the replay has /other and /camera'):
        named(write_labels(tmp_path, images[4:5], []), [two[-1], *replay])


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        ([{'file_name': 'a.jpg'}], 'does not say which frame it is; give each image its "stamp"'),
        ([{'file_name': '1.jpg', 'stamp': 1.7e9}], 'has stamp 1700000000.0, which is neither'),
        ([{'file_name': '1.jpg', 'stamp': 'noon'}], "has stamp 'noon', which is neither"),
        ([{'file_name': '1.jpg', 'topic': 3}], 'has topic 3, which is no text'),
        ([{'file_name': '1.jpg'}, {'file_name': 'b_01.jpg'}], 'are the same frame'),
        ([{'file_name': '99.jpg'}], 'none of its 1 images is a frame of the replay'),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, images, words):
    with pytest.raises(DatasetError, match=r"labels '.*'") as caught:
        named(write_labels(tmp_path, images, []), [frame(0)])
    assert words in str(caught.value)


def test_a_replay_against_labels(tmp_path):
    pytest.importorskip('pycocotools')
    path = write_labels(
        tmp_path,
        [{'file_name': '0.jpg'}, {'file_name': '1.jpg'}, {'file_name': '77.jpg'}],
        [(0, 3, [0, 0, 20, 20], 0), (0, 3, [100, 0, 100, 100], 0), (0, 9, [0, 0, 5, 5], 0),
         (1, 5, [0, 0, 20, 20], 0), (1, 3, [300, 0, 100, 100], 1), (2, 3, [0, 0, 9, 9], 0)],
    )  # fmt: skip
    replay = [
        frame(0, (0, HERE, 0.9), (2, THERE, 0.8)),
        frame(1, (1, (0, 0, 20, 18), 0.7), (0, (310, 10, 330, 30), 0.9), (0, HERE, 0.6)),
        frame(2, (0, HERE, 0.9)),
    ]
    labels = Labels(path)
    looks = list(labels.looks(replay))
    dataset = labels.dataset.only({picture.id for picture, _ in looks})
    classes = dataset.match(ClassList(NAMES, 3))
    pairs = against_labels(dataset, classes, looks)
    rules = Rules().for_labels()
    seen = compare(pairs, (dataset.class_names, NAMES), ('labels', 'B'), rules)
    # Neither a traffic light nor a zebra counts, nor what is in the crowd, nor frames without.
    assert seen.by_class() == {
        'car': Counts(2, 2, 1, 0, 0, 0, 1, 1), 'Person': Counts(1, 1, 1, 0, 0, 0, 0, 0),
    }  # fmt: skip
    assert classes.unknown_classes == ('traffic light',)
    accuracy = dataset.score({picture.id: f.detections for picture, f in looks}, classes)
    assert [(c.name, c.objects) for c in accuracy.classes] == [('car', 2), ('Person', 1)]
    person = accuracy.curves[1]
    assert person.name == 'Person' and person.precision == pytest.approx(np.ones(101))
    assert person.scores == pytest.approx(np.full(101, 0.7))
    car = accuracy.curves[0]
    assert car.precision[:51] == pytest.approx(1) and not car.precision[51:].any()
