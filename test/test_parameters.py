# SPDX-License-Identifier: Apache-2.0
"""Parameters on real nodes: what is declared, what is refused, and with which words."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.msg import ParameterType, SetParametersResult
from rcl_interfaces.srv import DescribeParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from world import World

from trt_perception.core import ModelSpec, Region, Selection
from trt_perception.ros.detector_parameters import DETECTOR, selection
from trt_perception.ros.parameters import Parameter, ParameterError, changed, declare, values

TABLE = (
    Parameter('switch', True, 'A switch.'),
    Parameter('count', 5, 'How many.', 1, 10),
    Parameter('share', 0.5, 'How much.', 0.0, 1.0, live=True),
    Parameter('free', 0, 'Any number.'),
    Parameter('text', '', 'Any text.'),
    Parameter('mode', 'slow', 'Which way.', choices=('slow', 'fast'), live=True),
    Parameter('names', ['*'], 'Some names.'),
    Parameter('numbers', [0, 0], 'Some numbers.'),
)
DEFAULTS = {p.name: p.default for p in TABLE}
TYPES = {
    'switch': ParameterType.PARAMETER_BOOL,
    'count': ParameterType.PARAMETER_INTEGER,
    'share': ParameterType.PARAMETER_DOUBLE,
    'free': ParameterType.PARAMETER_INTEGER,
    'text': ParameterType.PARAMETER_STRING,
    'mode': ParameterType.PARAMETER_STRING,
    'names': ParameterType.PARAMETER_STRING_ARRAY,
    'numbers': ParameterType.PARAMETER_INTEGER_ARRAY,
}

INFO = 20  # Log.INFO is bytes in one distribution and a number in another

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(world: World, tmp_path: Path) -> MakeNode:
    """Create a node with a parameter file, given as its lines, and command-line arguments."""

    def make(*lines: str, args: Sequence[str] = (), **keywords: Any) -> Node:
        file = tmp_path / 'parameters.yaml'
        file.write_text('/**:\n  ros__parameters:\n' + ''.join(f'    {x}\n' for x in lines))
        given = ['--params-file', str(file)] if lines else []
        cli_args = ['--ros-args', *given, *args] if lines or args else None
        return world.add(Node('subject', context=world.context, cli_args=cli_args, **keywords))

    return make


def refusal(call: Callable[..., object], *args: object) -> str:
    with pytest.raises(ParameterError) as caught:
        call(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Declared


def test_defaults(make_node: MakeNode) -> None:
    node = make_node()
    declare(node, TABLE)
    assert values(node, TABLE) == DEFAULTS
    assert [type(v) for v in values(node, TABLE).values()] == [type(p.default) for p in TABLE]


def test_descriptors_as_others_see_them(world: World, make_node: MakeNode) -> None:
    declare(make_node(), TABLE)
    request = DescribeParameters.Request(names=list(DEFAULTS))
    found = world.call(DescribeParameters, 'subject/describe_parameters', request).descriptors
    assert {d.name: d.type for d in found} == TYPES
    assert {d.name: d.description for d in found} == {p.name: p.description for p in TABLE}
    assert not any(d.read_only or d.dynamic_typing for d in found)
    by_name = {d.name: d for d in found}
    later, at_once = 'effect when the node is configured', 'effect at once'
    assert {d.name: d.additional_constraints for d in found} == {
        'switch': later,
        'count': f'1 to 10; {later}',
        'share': f'0 to 1; {at_once}',
        'free': later,
        'text': later,
        'mode': f'one of slow, fast; {at_once}',
        'names': later,
        'numbers': later,
    }
    (count,) = by_name.pop('count').integer_range
    assert (count.from_value, count.to_value, count.step) == (1, 10, 0)
    (share,) = by_name.pop('share').floating_point_range
    assert (share.from_value, share.to_value, share.step) == (0.0, 1.0, 0.0)
    assert not any(d.integer_range or d.floating_point_range for d in by_name.values())


def test_what_is_fixed_is_refused(world: World, make_node: MakeNode) -> None:
    """A node that looks at its parameters once does not pretend to take a change."""
    node = make_node('count: 7')
    declare(node, TABLE, fixed=True)
    assert values(node, TABLE)['count'] == 7
    (result,) = node.set_parameters([RosParameter('count', value=8)])
    assert not result.successful and 'read-only' in result.reason
    assert values(node, TABLE)['count'] == 7
    told = node.describe_parameter('count')
    assert told.read_only and told.additional_constraints == '1 to 10; effect when the node starts'


def test_numbers_for_texts(make_node: MakeNode) -> None:
    table = [Parameter('devices', [''], 'Some.', numbers=True)]
    for line, taken in (
        ('devices: [0, 1]', ['0', '1']),
        ("devices: ['0', dla0]", ['0', 'dla0']),
        ('other: 1', ['']),
    ):
        node = make_node(line)
        declare(node, table)
        assert values(node, table) == {'devices': taken}
        assert changed(table, {}, [RosParameter('devices', value=[2])]) == {'devices': ['2']}
        node.destroy_node()
    for line in ('devices: 0', 'devices: [true]', 'devices: [0.5]', 'devices: []'):
        with pytest.raises(
            ParameterError, match=r"devices: .* is not a string array, such as \['a', 'b'\]"
        ):
            declare(make_node(line), table)
    with pytest.raises(ParameterError, match='devices: 0 is not a string array'):
        changed(table, {}, [RosParameter('devices', value=0)])


def test_overrides(make_node: MakeNode) -> None:
    node = make_node(
        'switch: false', 'count: 10', 'share: 0.0', 'free: -7', 'text: a b', 'mode: fast',
        'names: [car, "7"]', 'numbers: [3, 4, 5]',
    )  # fmt: skip
    declare(node, TABLE)
    assert values(node, TABLE) == {
        'switch': False, 'count': 10, 'share': 0.0, 'free': -7, 'text': 'a b', 'mode': 'fast',
        'names': ['car', '7'], 'numbers': [3, 4, 5],
    }  # fmt: skip


def test_command_line_wins(make_node: MakeNode) -> None:
    args = ['-p', 'count:=3', '-p', "names:=['car']"]
    node = make_node('count: 2', 'share: 0.25', args=args)
    declare(node, TABLE)
    assert values(node, TABLE) == DEFAULTS | {'count': 3, 'share': 0.25, 'names': ['car']}


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('switch: 1', 'switch: 1 is not a bool, such as True'),
        ('count: 2.0', 'count: 2.0 is not an integer, such as 5'),
        ('count: many', "count: 'many' is not an integer, such as 5"),
        ('share: 1', 'share: 1 is not a double, such as 0.5'),
        ('share: "0.5"', "share: '0.5' is not a double, such as 0.5"),
        ('text: 5', "text: 5 is not a string, such as ''"),
        ('text: [a, b]', "text: ['a', 'b'] is not a string, such as ''"),
        ('mode: true', "mode: True is not a string, such as 'slow'"),
        ('names: car', "names: 'car' is not a string array, such as ['*']"),
        ('names: [1, 2]', "names: [1, 2] is not a string array, such as ['*']"),
        ('names: []', "names: [] is not a string array, such as ['*']"),
        ('numbers: []', 'numbers: [] is not an integer array, such as [0, 0]'),
        ('numbers: [1.0, 2.0]', 'numbers: [1.0, 2.0] is not an integer array, such as [0, 0]'),
        ('count: 0', 'count: 0 is not in 1 to 10'),
        ('count: 11', 'count: 11 is not in 1 to 10'),
        ('share: -0.1', 'share: -0.1 is not in 0 to 1'),
        ('share: 1.1', 'share: 1.1 is not in 0 to 1'),
        ('share: .nan', 'share: nan is not in 0 to 1'),
        ('share: .inf', 'share: inf is not in 0 to 1'),
        ('mode: medium', "mode: 'medium' is not one of slow, fast"),
        ('mode: ""', "mode: '' is not one of slow, fast"),
        (r'mode: "a\nb"', r"mode: 'a\nb' is not one of slow, fast"),
    ],
)
def test_what_is_refused_at_start(make_node: MakeNode, line: str, words: str) -> None:
    assert refusal(declare, make_node(line), TABLE) == words


def test_overrides_of_a_component(make_node: MakeNode) -> None:
    """They come as messages, whose arrays are no lists."""
    given = RosParameter('names', value=array('q', [1, 2]))
    words = "names: [1, 2] is not a string array, such as ['*']"
    assert refusal(declare, make_node(parameter_overrides=[given]), TABLE) == words


def warnings(world: World, node: Node) -> list[str]:
    """Read from /rosout what `declare` warns of."""
    heard = world.log()
    declare(node, TABLE)
    node.get_logger().info('that was all')
    world.until(lambda: any(m.msg == 'that was all' for m in heard))
    return [m.msg for m in heard if m.level > INFO]


def test_unknown_parameters_are_named(world: World, make_node: MakeNode) -> None:
    node = make_node('shere: 0.1', 'other.node: x', 'share: 0.2')
    assert warnings(world, node) == [
        "parameter 'other.node' is not known and has no effect",
        "parameter 'shere' is not known and has no effect; did you mean 'share'?",
    ]


def test_parameters_of_ros_itself_are_known(world: World, make_node: MakeNode) -> None:
    lines = ('use_sim_time: false', 'qos_overrides./topic.publisher.depth: 3', 'count: 2')
    assert warnings(world, make_node(*lines)) == []


# While running


@pytest.fixture
def running(make_node: MakeNode) -> Node:
    """A node that takes what `changed` takes, and keeps it in its attribute ``seen``."""
    node = make_node()
    declare(node, TABLE)
    node.seen = None

    def on_set(proposed: list[RosParameter]) -> SetParametersResult:
        try:
            node.seen = changed(TABLE, values(node, TABLE), proposed)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
    return node


def set_all(world: World, *parameters: RosParameter) -> SetParametersResult:
    """Set all or nothing, through the service."""
    request = SetParametersAtomically.Request(parameters=[p.to_parameter_msg() for p in parameters])
    response = world.call(SetParametersAtomically, 'subject/set_parameters_atomically', request)
    return response.result


def test_changes(world: World, running: Node) -> None:
    done = set_all(
        world,
        RosParameter('share', value=0.75),
        RosParameter('mode', value='fast'),
        RosParameter('names', value=['a', 'b']),
        RosParameter('numbers', value=[1, 2]),
    )
    assert done.successful, done.reason
    expected = DEFAULTS | {'share': 0.75, 'mode': 'fast', 'names': ['a', 'b'], 'numbers': [1, 2]}
    # Lists, whether they came over the wire or not.
    assert running.seen == values(running, TABLE) == expected
    assert isinstance(running.seen['numbers'], list)
    assert running.set_parameters([RosParameter('numbers', value=[3])])[0].successful
    assert running.seen == values(running, TABLE) == expected | {'numbers': [3]}


def test_an_empty_list_arrives_as_one(world: World, running: Node) -> None:
    """It is for the owner of the table to say whether nothing makes sense."""
    done = set_all(world, RosParameter('names', RosParameter.Type.STRING_ARRAY, []))
    assert done.successful, done.reason
    assert running.seen['names'] == values(running, TABLE)['names'] == []


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        (RosParameter('mode', value='medium'), "mode: 'medium' is not one of slow, fast"),
        (RosParameter('share', value=1.5), 'out of range'),
        (RosParameter('share', value=1), 'Wrong parameter type'),
        (RosParameter('count', RosParameter.Type.NOT_SET), 'cannot be undeclared'),
    ],
)
def test_a_wrong_value_is_refused_whole(
    world: World, running: Node, bad: RosParameter, words: str
) -> None:
    done = set_all(world, RosParameter('share', value=0.75), bad)
    assert not done.successful
    assert words in done.reason
    assert values(running, TABLE) == DEFAULTS


def test_what_is_of_no_table_is_left_alone() -> None:
    assert changed(TABLE, DEFAULTS, [RosParameter('use_sim_time', value=True)]) == DEFAULTS


# The detector's


SPEC = ModelSpec('yolov8', 'images', 640, 640, 'float32', ('output0',), 4, ('car', 'dog', '3', 'a'))
BARE = ModelSpec('yolov8', 'images', 640, 640, 'float32', ('output0',), 4)
ENDLESS = ModelSpec('end_to_end', 'images', 640, 640, 'float32', ('output0',), 0)


def select(spec: ModelSpec | None = SPEC, **given: Any) -> Selection:
    return selection({p.name: p.default for p in DETECTOR} | given, spec)


def test_the_detector_s_table_can_be_declared(make_node: MakeNode) -> None:
    node = make_node()
    declare(node, DETECTOR)
    assert values(node, DETECTOR) == {p.name: p.default for p in DETECTOR}
    assert len({p.name for p in DETECTOR}) == len(DETECTOR)
    for parameter in DETECTOR:
        assert parameter.description.endswith('.')
        parameter.check(parameter.default)


def test_empty_classes_in_a_file(make_node: MakeNode) -> None:
    words = "classes: [] is not a string array, such as ['*']"
    assert refusal(declare, make_node('classes: []'), DETECTOR) == words


def test_defaults_select_everything() -> None:
    assert select() == select(None) == Selection()


def test_selection() -> None:
    given = select(
        score_threshold=0.5,
        nms_threshold=0.25,
        max_detections=7,
        classes=['dog', 'car'],
        region_of_interest=[1, 2, 30, 40],
    )
    assert given == Selection(
        score_threshold=0.5,
        iou_threshold=0.25,
        max_detections=7,
        class_ids=frozenset({0, 1}),
        region=Region(1, 2, 30, 40),
    )


@pytest.mark.parametrize(
    ('spec', 'classes', 'ids'),
    [
        (SPEC, ['*'], None),
        (SPEC, ['car', '*'], None),
        (SPEC, ['car', 'car', '0'], {0}),
        (SPEC, ['1', '0'], {0, 1}),
        (SPEC, ['3'], {2}),  # a name first of all
        (BARE, ['3', '0'], {0, 3}),
        (ENDLESS, ['0', '4000'], {0, 4000}),
        (None, ['whatever'], None),
    ],
)
def test_classes(spec: ModelSpec | None, classes: list[str], ids: set[int] | None) -> None:
    assert select(spec, classes=classes).class_ids == ids


@pytest.mark.parametrize(
    ('spec', 'classes', 'words'),
    [
        (SPEC, ['car', 'bus'], "classes: the model has no class 'bus', it has car, dog, 3, a"),
        (SPEC, ['4'], "classes: the model has no class '4', it has car, dog, 3, a"),
        (SPEC, ['-1'], "classes: the model has no class '-1', it has car, dog, 3, a"),
        (
            SPEC,
            ['Car'],
            "classes: the model has no class 'Car', it has car, dog, 3, a; did you mean 'car'?",
        ),
        (SPEC, [''], "classes: the model has no class '', it has car, dog, 3, a"),
        (SPEC, ['\n'], r"classes: the model has no class '\n', it has car, dog, 3, a"),
        (BARE, ['4'], "classes: the model has no class '4', it has numbers below 4"),
        (BARE, ['car'], "classes: the model has no class 'car', it has numbers below 4"),
        (ENDLESS, ['car'], "classes: the model has no class 'car', it has numbers only"),
        (SPEC, [], "classes: is empty; ['*'] publishes every class"),
        (None, [], "classes: is empty; ['*'] publishes every class"),
    ],
)
def test_no_such_class(spec: ModelSpec | None, classes: list[str], words: str) -> None:
    assert refusal(lambda: select(spec, classes=classes)) == words


def test_no_such_class_of_many() -> None:
    names = tuple(f'class {k}' for k in range(80))
    spec = dataclasses.replace(SPEC, class_names=names, num_classes=80)
    words = refusal(lambda: select(spec, classes=['klass 42']))
    assert words.endswith("class 9 and 70 more (topic label_info); did you mean 'class 42'?")


@pytest.mark.parametrize(
    'numbers',
    [
        [], [1], [0, 0, 0], [0, 0, 0, 0, 0], [-1, 0, 5, 5], [0, 0, -5, 5], [0, 0, 5, 0],
        [0, 0, 0, 5], [3, 0, 0, 0], [0, 3, 0, 0],
    ],
)  # fmt: skip
def test_impossible_regions(numbers: list[int]) -> None:
    words = refusal(lambda: select(None, region_of_interest=numbers))
    assert words.startswith(f'region_of_interest: {numbers} ')


def test_the_whole_image() -> None:
    assert select(region_of_interest=[0, 0, 0, 0]).region == Region()
    assert select(region_of_interest=[0, 0, 1, 1]).region == Region(0, 0, 1, 1)
