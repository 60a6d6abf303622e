# SPDX-License-Identifier: Apache-2.0
"""A device that was lost: opened again and again, and something else in its place meanwhile."""

from __future__ import annotations

import threading
from dataclasses import replace
from time import monotonic

from trt_perception.build.engine.serving import Offer, Serving, Wish
from trt_perception.build.engine.tuning import parse_device
from trt_perception.core import ModelSpec, PerceptionError
from trt_perception.core.errors import one_line
from trt_perception.core.files import Watched
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt.plan import is_engine

#: Seconds between attempts: none before the first, then this, then twice as many each time.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: Seconds that an attempt may take until something else runs meanwhile.
PATIENCE = 3.0
#: What NVIDIA says of most errors after which a context is lost (CUDA driver API, CUresult).
RESTART = 'CUDA may not work again in this process; restart the node'
#: Seconds that what was lost gets to be freed, before it is taken to hang.
GRACE = 0.5
#: Seconds that the end waits for an attempt: where a GPU hangs, so does what is opened on it.
_LAST_PATIENCE = 10.0


def longer(pause: float) -> float:
    """The pause after this one, seconds."""
    return min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)


def instead_of(wish: Wish, tensorrt: bool) -> Wish | None:
    """What may run in the place of what was lost; None if nothing may, or can.

    The GPU takes the place of a DLA, and ONNX Runtime that of the GPU.

    Args:
        tensorrt: whether that is what ran.
    """
    if not wish.fallback or not tensorrt or is_engine(wish.model):
        return None
    if parse_device(wish.device) is not None:
        return replace(wish, device='gpu')
    return replace(wish, backend='onnxruntime', precision='auto', device='gpu')


class Known:
    """A model that runs, so that nothing else takes its place unasked."""

    def __init__(self, file: Watched, spec: ModelSpec) -> None:
        self._file = file
        self._spec = spec

    def check(self, serving: Serving) -> None:
        """See that this is the same model.

        Raises:
            EngineError: it is another one by now.
        """
        if self._file.change or serving.spec != self._spec:
            raise EngineError('its file holds another model by now; configure the node anew')


class Recovery:
    """Brings back what was lost. Used by one thread, which calls `look` a few times a second.

    Attributes:
        why: it was lost.
        pause: seconds before the attempt that is under way or comes next.
        attempts: how many have begun.
        failure: why the last one failed.
        mended: what runs again, in the end.
    """

    def __init__(self, wish: Wish, known: Known, tensorrt: bool, why: str, pause: float) -> None:
        """Make a plan.

        Args:
            known: the model.
            tensorrt: whether that is what ran: then nothing else counts as recovered.
            pause: before the first attempt: 0, or longer where it was lost a short while ago.
        """
        self.why = why
        self.pause = pause
        self.attempts = 0
        self.failure = ''
        self.mended: Serving | None = None
        self._wish = replace(wish, backend='tensorrt', fallback=False) if tensorrt else wish
        self._known = known
        self._instead = instead_of(wish, tensorrt)
        self._begun = monotonic()
        self._due = self._begun + pause
        self._attempt: _Opening | None = None
        self._substitute: _Opening | None = None
        self._in_use = True

    @property
    def seconds(self) -> float:
        """Since it was lost."""
        return monotonic() - self._begun

    def look(self, in_use: bool, alone: bool) -> Offer | None:
        """Go on, without waiting; what to run from now on, if that has changed.

        Args:
            in_use: what was lost is not freed yet, or hangs. It is not opened again before.
            alone: nothing runs the model, on whatever device.
        """
        now = monotonic()
        self._in_use = in_use
        attempt = self._attempt
        if attempt is None and now >= self._due and not in_use:
            self.attempts += 1
            self._attempt = _Opening(self._wish, self._known, whole=True)
        elif attempt is not None and attempt.ended:
            self._attempt = None
            if attempt.serving is not None:
                self.mended = attempt.serving
                self._leave_substitute()
                return self.mended.take()
            self.failure = attempt.failure
            self.pause = longer(self.pause)
            self._due = now + self.pause
        if self._substitute is not None:
            serving = self._substitute.serving
            return None if serving is None else serving.take()
        # At once where the first attempt is not at once, and where it comes to nothing.
        late = self._attempt is not None and self._attempt.seconds > PATIENCE
        hangs = in_use and self.seconds > GRACE
        if alone and self._instead is not None and (self.pause or late or hangs):
            self._substitute = _Opening(self._instead, self._known)
        return None

    @property
    def plan(self) -> str:
        """What is being done about it, in a few words."""
        if self._attempt is not None:
            return f'attempt {self.attempts} to open it again, for {self._attempt.seconds:.0f} s'
        if self._in_use:
            return 'it is opened again when what was under way has come back'
        wait = f'attempt {self.attempts + 1} in {max(0.0, self._due - monotonic()):.0f} s'
        return f'attempt {self.attempts} failed: {self.failure}; {wait}' if self.failure else wait

    @property
    def lack(self) -> str:
        """Why nothing runs in its place, where something was to."""
        return '' if self._substitute is None else self._substitute.failure

    def close(self) -> None:
        """Give up. Does not wait; `join` does."""
        if self._attempt is not None:
            self._attempt.close()
        self._leave_substitute()

    def join(self) -> None:
        """Wait, after `close`, until nothing is under way any more, for a while."""
        for opening in (self._attempt, self._substitute):
            if opening is not None:
                opening.join(_LAST_PATIENCE)

    def _leave_substitute(self) -> None:
        if self._substitute is not None:
            self._substitute.close()


class _Opening:
    """Opens a `Serving` on a thread of its own.

    Attributes:
        serving: what came of it.
        failure: why nothing did.
    """

    def __init__(self, wish: Wish, known: Known, whole: bool = False) -> None:
        """Begin.

        Args:
            known: the model that it has to be.
            whole: until an engine is there that has to be built.
        """
        self.serving: Serving | None = None
        self.failure = ''
        self._wish = wish
        self._known = known
        self._whole = whole
        self._begun = monotonic()
        self._lock = threading.Lock()
        self._under_way: Serving | None = None
        self._closed = False
        # A daemon: what hangs in the driver does not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name='recovery', daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return monotonic() - self._begun

    @property
    def ended(self) -> bool:
        """Whether something came of it, or nothing."""
        return self.serving is not None or bool(self.failure)

    def close(self) -> None:
        """Free what nobody has taken, and what is still to come. Does not wait; `join` does."""
        with self._lock:
            self._closed = True
            serving = self._under_way
        if serving is not None:
            serving.close()

    def join(self, timeout: float) -> None:
        """Wait, after `close`, for so many seconds at most."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self.serving = self._open()
        except PerceptionError as error:
            lost = getattr(error, 'sticky', False)
            self.failure = f'{error} ({RESTART})' if lost else str(error)
        except Exception as error:
            self.failure = f'{type(error).__name__}: {one_line(error)}'

    def _open(self) -> Serving:
        serving = Serving(self._wish)
        with self._lock:
            self._under_way = serving
            closed = self._closed
        try:
            self._known.check(serving)
            if self._whole:
                serving.join()
                if serving.problem:
                    raise EngineError(serving.problem)
        except BaseException:
            serving.close()
            raise
        if closed:
            serving.close()
        return serving
