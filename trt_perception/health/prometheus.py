# SPDX-License-Identifier: Apache-2.0
"""Figures for Prometheus, over HTTP.

The text is that of exposition format 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/). It is made when somebody asks, in a
thread of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from numbers import Integral
from typing import Any, Literal, NamedTuple

from trt_perception import __version__
from trt_perception.core import PerceptionError
from trt_perception.core.errors import one_line

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
PATH = '/metrics'
#: Seconds that a client has for all of its request and of the answer.
PATIENCE = 1.0
_PAUSE = 0.1
_NAME = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*')


class MetricsError(PerceptionError):
    """An address or a port on which no figures can be served."""


class Sample(NamedTuple):
    """One figure.

    Attributes:
        suffix: after the family's name: ``_sum`` and ``_count`` of a summary.
    """

    value: float
    labels: Mapping[str, str]
    suffix: str = ''


@dataclass(frozen=True)
class Family:
    """Figures of one name, in base units: seconds, degrees Celsius, watts.

    Attributes:
        name: a counter's ends in ``_total``.
        help: one line.
    """

    name: str
    kind: Literal['counter', 'gauge', 'summary']
    help: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, suffix: str = '', **labels: str) -> None:
        """Add a figure."""
        self.samples.append(Sample(value, labels, suffix))


def exposition(families: Iterable[Family]) -> str:
    """The text that is served; families without figures are left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        if not _NAME.fullmatch(family.name):
            raise ValueError(f'{family.name!r} is no name of a metric')
        told = family.help.replace('\\', r'\\').replace('\n', r'\n')
        lines += [f'# HELP {family.name} {told}', f'# TYPE {family.name} {family.kind}']
        for value, labels, suffix in family.samples:
            pairs = ','.join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            braces = f'{{{pairs}}}' if pairs else ''
            # Neither NumPy's names nor True.
            number = int(value) if isinstance(value, Integral) else float(value)
            lines.append(f'{family.name}{suffix}{braces} {number!r}')
    return '\n'.join(lines) + '\n' if lines else ''


def _escaped(text: str) -> str:
    return text.replace('\\', r'\\').replace('"', r'\"').replace('\n', r'\n')


class MetricsServer:
    """Answers ``GET /metrics``, one client after the other; a slow one is cut off.

    Attributes:
        url: where the figures are.
        is_public: other machines may see them.
    """

    def __init__(self, address: str, port: int, collect: Callable[[], Iterable[Family]]) -> None:
        """Listen.

        Args:
            address: to bind, in numbers.
            port: 0 takes any that is free.
            collect: called for each request, on the server's thread.

        Raises:
            MetricsError: no such address here, or the port is taken.
        """
        try:
            family = socket.AF_INET6 if ':' in address else socket.AF_INET
            self._server = _Server(family, (str(ipaddress.ip_address(address)), port), collect)
        except ValueError:
            raise MetricsError(
                f"metrics_address '{address}' is no address in numbers, such as 127.0.0.1"
            ) from None
        except OSError as error:
            raise MetricsError(
                f'metrics_port {port} cannot be had on {address}: {error.strerror}; give each'
                ' detector a port of its own, or 0 for none'
            ) from None
        self.is_public = not ipaddress.ip_address(address).is_loopback
        self.url = f'http://{f"[{address}]" if ":" in address else address}:{self.port}{PATH}'
        self._thread = threading.Thread(target=self._server.serve, name='metrics', daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """On which it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Serve no more; the port is free when this returns."""
        self._server.end()
        self._thread.join()


class _Server(socketserver.TCPServer):
    """Of the HTTP servers of the standard library one looks up names, the other never gives up."""

    allow_reuse_address = True  # also where the last one has just gone

    def __init__(
        self,
        family: int,
        address: tuple[str, int],
        collect: Callable[[], Iterable[Family]],
    ) -> None:
        self.address_family = family
        self.collect = collect
        self.client: socket.socket | None = None
        self._ending = False
        super().__init__(address, _Handler)

    def serve(self) -> None:
        """Until `end`."""
        while not self._ending:
            self.handle_request()
        self.server_close()

    def end(self) -> None:
        """Wake the thread that waits for a client, or for what the client says."""
        self._ending = True
        for waiting in (self.client, self.socket):
            if waiting is not None:
                with contextlib.suppress(OSError):
                    waiting.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take the next client."""
        try:
            return super().get_request()
        except OSError:
            if not self._ending:  # no file descriptor is left, say: it waits, and we do not spin
                time.sleep(_PAUSE)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is nobody's concern; the usual way is a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = f'trt_perception/{__version__}'
    timeout = PATIENCE

    def setup(self) -> None:
        """Give the client a time in which it must be done, however it divides it."""
        self._limit = threading.Timer(PATIENCE, self._cut_off)
        self._limit.daemon = True
        self._limit.start()
        self.server.client = self.request
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._limit.cancel()
            self.server.client = None

    def do_GET(self) -> None:
        """Tell all figures."""
        if self.path.partition('?')[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f'there is only {PATH}\n')
            return
        try:
            text = exposition(self.server.collect())
        except Exception as error:  # the next one may work
            why = f'{type(error).__name__}: {one_line(error)}\n'
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, why)
        else:
            self._answer(HTTPStatus.OK, text, CONTENT_TYPE)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody is to read of each request."""

    def _answer(self, status: HTTPStatus, text: str, kind: str = 'text/plain') -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)
