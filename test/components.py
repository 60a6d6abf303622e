# SPDX-License-Identifier: Apache-2.0
"""A package of components as a robot builder writes them, and a container to put them into."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

from composition_interfaces.srv import ListNodes, LoadNode, UnloadNode
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from processes import TIMEOUT, start
from rclpy.parameter import Parameter
from world import World, values

#: Its nodes. Each takes keyword arguments only, as components do.
HELLO = '''
import os, sys, time
import rclpy
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

class Talker(Node):
    """Says the values of its parameters, again and again."""
    DEFAULTS = {'yes': False, 'number': 0, 'real': 0.0, 'text': '', 'yeses': [False],
                'numbers': [0], 'reals': [0.0], 'texts': [''], 'bytes': [b'0']}
    def __init__(self, **kwargs):
        super().__init__('talker', **kwargs)
        for name, value in self.DEFAULTS.items():
            self.declare_parameter(name, value)
        self.publisher = self.create_publisher(String, 'words', 10)
        self.create_timer(0.02, self.say)
        self.get_logger().debug('made')
    def say(self):
        values = [self.get_parameter(name).value for name in self.DEFAULTS]
        plain = lambda v: v if isinstance(v, (bool, int, float, str)) else list(v)
        self.publisher.publish(String(data=repr([plain(v) for v in values])))

class Raises(Talker):
    """Raises in a timer when it is told to."""
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.create_subscription(String, 'end', self.end, LATCHED)
    def end(self, message):
        self.create_timer(0.0, {'raise': self.fail, 'exit': self.leave, 'finish': self.finish,
                                'hang': self.hang, 'shutdown': rclpy.shutdown}[message.data])
    def fail(self):
        raise ValueError('no more words')
    def leave(self):
        sys.exit(7)
    def finish(self):
        self.exit_code, self.finished = 3, True
    def hang(self):
        while not os.path.exists(self.get_parameter('text').value):
            time.sleep(0.01)
        self.finish()

class Fails(Node):
    def __init__(self, **kwargs):
        super().__init__('fails', **kwargs)
        self.create_publisher(String, 'never', 10)
        raise RuntimeError('no such device')

class Exits(Node):
    def __init__(self, **kwargs):
        super().__init__('exits', **kwargs)
        sys.exit('not on this robot')

class Slow(Node):
    """Takes until there is a file."""
    def __init__(self, **kwargs):
        super().__init__('slow', **kwargs)
        file = self.declare_parameter('file', '').value
        while not os.path.exists(file):
            time.sleep(0.01)

class Staged(LifecycleNode):
    """Writes down what happens to it."""
    refuse = ''
    def __init__(self, **kwargs):
        super().__init__('staged', **kwargs)
        self.declare_parameter('autostart', True)
        self.refuse = self.declare_parameter('refuse', '').value
        self.note('made')
    def note(self, what):
        with open('notes', 'a') as file:
            file.write(f'{self.get_name()} {what}\\n')
        return getattr(TransitionCallbackReturn, 'FAILURE' if what == self.refuse else 'SUCCESS')
    def on_configure(self, state): return self.note('configured')
    def on_activate(self, state): return self.note('activated')
    def on_deactivate(self, state): return self.note('deactivated')
    def on_cleanup(self, state): return self.note('cleaned up')
    def destroy_node(self):
        self.note('destroyed')
        super().destroy_node()

class Plain:
    def __init__(self, **kwargs):
        pass

class Strict(Node):
    def __init__(self):
        super().__init__('strict')
'''
_NAMES = 'Talker', 'Raises', 'Fails', 'Exits', 'Slow', 'Staged', 'Plain', 'Strict', 'Missing'


def write_package(folder: Path) -> Path:
    """Install the package ``hello`` of ``HELLO``; the folder to have on the path."""
    (folder / 'hello.py').write_text(HELLO)
    info = folder / 'hello-0.1.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: hello\nVersion: 0.1\n')
    points = [f'hello::{name} = hello:{name}' for name in _NAMES]
    points += ['Bare = hello:Talker', 'hello::Broken = hello_that_is_not_there:Broken']
    (info / 'entry_points.txt').write_text('\n'.join(['[rclpy_components]', *points]))
    return folder


class Container:
    """A container's process, seen and asked from outside."""

    NAME = '/perception_container'

    def __init__(
        self, world: World, path: Path, *arguments: str, executable: str = 'perception_container'
    ) -> None:
        self.world = world
        self.diagnostics = world.subscribe(DiagnosticArray, '/diagnostics')
        self.process: subprocess.Popen[str] = start(
            executable, world.domain_id, '--', *arguments, PYTHONPATH=str(path)
        )

    def load(self, plugin: str, *, package: str = 'hello', **given: Any) -> Any:
        """The response to a request; parameters and extra arguments as dictionaries."""
        for key in ('parameters', 'extra_arguments'):
            given[key] = [
                Parameter(name, value=value).to_parameter_msg()
                for name, value in given.get(key, {}).items()
            ]
        request = LoadNode.Request(package_name=package, plugin_name=plugin, **given)
        return self.world.call(LoadNode, f'{self.NAME}/_container/load_node', request)

    def unload(self, number: int) -> Any:
        request = UnloadNode.Request(unique_id=number)
        return self.world.call(UnloadNode, f'{self.NAME}/_container/unload_node', request)

    def nodes(self) -> dict[int, str]:
        request = ListNodes.Request()
        told = self.world.call(ListNodes, f'{self.NAME}/_container/list_nodes', request)
        return dict(zip(told.unique_ids, told.full_node_names, strict=True))

    def status(self) -> DiagnosticStatus:
        """What it said last of its components."""
        ours = f'{self.NAME[1:]}: components'

        def last() -> DiagnosticStatus | None:
            heard = [s for m in list(self.diagnostics) for s in m.status if s.name == ours]
            return heard[-1] if heard else None

        return self.world.until(last, 'diagnostics')

    def until_says(self, name: str, words: str) -> None:
        """Wait until diagnostics tell this of a component."""
        self.world.until(lambda: words in values(self.status()).get(name, ''), f'{name}: {words}')

    def end(self, sent: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit code and last words."""
        self.process.send_signal(sent)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        try:
            _, said = self.process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
