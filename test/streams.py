# SPDX-License-Identifier: Apache-2.0
"""Cameras on the network, for tests: a real RTSP server, and a web camera that can be held up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

import av
import cv2
import numpy as np
import pytest
from processes import TIMEOUT
from videos import level

_SERVE = (
    'import asyncio, sys\nfrom aio_rtsp_toolkit.server import serve\n'
    "asyncio.run(serve(sys.argv[1], '127.0.0.1', int(sys.argv[2]), control_port=None))\n"
)


class RtspServer:
    """Serves the videos of a folder, in a process of its own, always on the same port."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec('aio_rtsp_toolkit') is None:
            pytest.skip('aio-rtsp-toolkit is not installed')
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f'rtsp://127.0.0.1:{self._port}/{name}'

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, '-c', _SERVE, str(self._folder), str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection(('127.0.0.1', self._port), 1.0).close()
                return
            except OSError:
                assert self._process.poll() is None and monotonic() < give_up
                sleep(0.05)

    def hang(self) -> None:
        """Let it neither send nor answer, with all connections open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """End it as a power cut would, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class WebCamera:
    """Sends JPEGs over HTTP, each a step brighter than the one before, as fast as it is told to.

    Attributes:
        sent: JPEGs sent to all who have connected.
        flowing: cleared, it keeps its connections and sends nothing.
        rate: images a second.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.flowing = threading.Event()
        self.flowing.set()
        self.closing = threading.Event()
        self.rate = 50.0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != '/video':
                    self.send_error(401 if self.path == '/locked' else 404)
                    return
                self.send_response(200)
                self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
                self.end_headers()
                with contextlib.suppress(OSError):  # whoever looked has gone
                    for jpeg in camera.images():
                        head = f'Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n'
                        self.wfile.write(b'--frame\r\n' + head.encode() + jpeg + b'\r\n')

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f'http://127.0.0.1:{self._server.server_port}/video'

    def images(self) -> Iterator[bytes]:
        while not self.closing.wait(1 / self.rate):
            self.flowing.wait()
            jpeg = jpeg_of(len(self.sent))
            self.sent.append(jpeg)
            yield jpeg

    def close(self) -> None:
        self.closing.set()
        self.flowing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def jpeg_of(number: int, size: Sequence[int] = (48, 64)) -> bytes:
    """A grey JPEG whose number `videos.number_of` tells."""
    _, data = cv2.imencode('.jpg', np.full((*size, 3), level(number), np.uint8))
    return bytes(data.tobytes())


def write_jpegs(path: Path, frames: int, rate: int) -> Path:
    """Write a video of `jpeg_of`, bit by bit; its path."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mjpeg', rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj420p'
        for number in range(frames):
            packet = av.Packet(jpeg_of(number))
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, rate)
            container.mux(packet)
    return path


def require_gstreamer(folder: Path) -> None:
    """Make the system's Python bindings of GStreamer importable, or skip the test.

    Args:
        folder: an empty one; only they are to be seen of what lies beside them.
    """
    bindings = Path('/usr/lib/python3/dist-packages/gi')
    built = bindings.glob(f'_gi.cpython-{sys.version_info[0]}{sys.version_info[1]}-*')
    if importlib.util.find_spec('gi') is None and any(built):
        (folder / 'gi').symlink_to(bindings)
        sys.path.append(str(folder))
    try:
        import gi

        gi.require_version('Gst', '1.0')
        gi.require_version('GstApp', '1.0')
        from gi.repository import Gst
    except (ImportError, ValueError):
        pytest.skip('this Python has no bindings of GStreamer: apt install python3-gi'
                    ' gir1.2-gst-plugins-base-1.0')  # fmt: skip
    Gst.init(None)
    missing = [e for e in ('videotestsrc', 'jpegenc', 'avidemux') if not Gst.ElementFactory.find(e)]
    if missing:
        pytest.skip(f'GStreamer lacks {", ".join(missing)}: gstreamer1.0-plugins-base and -good')
