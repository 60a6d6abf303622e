# SPDX-License-Identifier: Apache-2.0
"""The detector's policy against heat: what the board says, what is done about it, what is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from trt_perception.health.board import Reading
from trt_perception.health.policy import Heat, Measures, Policy, Settings, State
from trt_perception.nodes.board import BoardMonitor
from trt_perception.nodes.detection import Detection
from trt_perception.ros.detector_parameters import camera_values
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Verdict
from trt_perception.ros.label_info import LATCHED
from trt_perception.ros.policy_parameters import LEVELS

#: Seconds after which a reading tells nothing any more: the sensors' thread hangs.
READING_HOLDS = 5.0
_VERDICTS = {Heat.NOMINAL: OK, Heat.WARM: WARN, Heat.HOT: WARN, Heat.CRITICAL: ERROR}


class Degradation:
    """Follows the board with a `Policy`, does in a `Detection` what it asks for, and says so."""

    def __init__(self, node: Node, diagnostics: Diagnostics, board: BoardMonitor) -> None:
        """Advertise."""
        self._node = node
        self._board = board
        self._reading: Reading | None = None
        self._policy: Policy | None = None
        self._diagnostics = diagnostics
        self._health = node.create_publisher(DiagnosticStatus, '~/health', LATCHED)
        self._level = Heat.NOMINAL  # that was told last, and what was done in it
        self._told: object = None

    @property
    def state(self) -> State | None:
        """Of the policy; None where it is off. For any thread."""
        policy = self._policy
        return None if policy is None else policy.state

    def step(self, detection: Detection | None, values: Mapping[str, Any]) -> None:
        """Decide, do and tell; to be called once a second.

        Args:
            detection: None while no model is loaded.
            values: of the detector's parameters and those of its cameras.
        """
        state = self._decide(values)
        level = Heat.NOMINAL if state is None else state.level
        cameras = [] if detection is None else list(detection.streams)
        priorities = {c: camera_values(c, values)['priority'] for c in cameras}
        measures = settings_of(values).measures(level if cameras else Heat.NOMINAL, priorities)
        lack = '' if detection is None else self._apply(detection, measures)
        model = '' if detection is None else detection.lighter_model
        done = _done(measures, model, lack)
        verdict = _judge(state, done)
        told = _values(state, measures, model, lack)
        status = self._diagnostics.publish('policy', verdict, self._board.model, told)
        news = (state is None, level, state is not None and state.blind, done)
        if news != self._told:
            if detection is not None:
                self._log(level, verdict)
            self._health.publish(status)
            self._told = news

    @staticmethod
    def _apply(detection: Detection, measures: Measures) -> str:
        """Do it; why a lighter model does not run, '' if it does or need not."""
        for camera, share in measures.shares.items():
            detection.limit(camera, share)
        detection.pause_overlay(measures.overlay_paused)
        return detection.lighter(measures.model)

    def _log(self, level: Heat, verdict: Verdict) -> None:
        """Say what is new; at the start only what is unusual."""
        logger, line = self._node.get_logger(), f'policy: {verdict.message}'
        if verdict.level != OK and level >= self._level:
            logger.warning(line)
        elif verdict.level != OK or self._told is not None:
            logger.info(line)  # rclpy wants each severity to have a line of its own
        self._level = level

    def _decide(self, values: Mapping[str, Any]) -> State | None:
        """The policy's state; None where it is off, as where nobody reads the sensors."""
        if not (values['policy.enabled'] and self._board.watches):
            self._policy = self._reading = None
            return None
        settings = settings_of(values)
        if self._policy is None:
            self._policy = Policy(settings)
        self._policy.settings = settings
        # The sensors begin anew when the detector is configured: that is not worth a word.
        reading, now = self._board.latest() or self._reading, monotonic()
        self._reading = reading
        if reading is None or now - reading.at > READING_HOLDS:
            return self._policy.update(now, None, None)
        return self._policy.update(reading.at, reading.margin_c, reading.throttled)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The policy that parameters ask for.

    Raises:
        PolicyError: they contradict each other.
    """
    given = {name.removeprefix('policy.'): value for name, value in values.items()}

    def of_levels(what: str) -> tuple[float, float, float]:
        warm, hot, critical = (given[f'{level}_{what}'] for level in LEVELS)
        return warm, hot, critical

    def begins(what: str) -> Heat | None:
        return None if given[what] == 'never' else Heat[given[what].upper()]

    return Settings(
        margins_c=of_levels('margin'),
        hysteresis_c=given['hysteresis'],
        horizon_s=given['horizon'],
        hold_s=given['hold'],
        loads=of_levels('load'),
        lighter_from=begins('lighter_from'),
        pause_overlay_from=begins('pause_overlay_from'),
        shed_from=begins('shed_from'),
    )


def _done(measures: Measures, model: str, lack: str) -> str:
    """What is done against the heat, in words; '' if nothing."""
    by_share: dict[float, list[str]] = {}
    for camera, share in measures.shares.items():
        if share < 1:
            by_share.setdefault(share, []).append(camera or 'images')
    done = [
        f'{", ".join(cameras)} {f"at {share:.0%}" if share else "shed"}'
        for share, cameras in by_share.items()
    ]
    if lack:
        done.append(lack)
    elif model:
        done.append(f'runs {Path(model).name}')
    if measures.overlay_paused:
        done.append('nothing is drawn')
    return '; '.join(done)


def _judge(state: State | None, done: str) -> Verdict:
    if state is None:
        return Verdict(OK, 'off')
    if state.blind and not state.level:
        return Verdict(WARN, 'nominal, but no temperature is known any more')
    if not state.level:
        known = state.margin_c is not None
        text = f'nominal: {state.margin_c:.1f} C below the trip point' if known else 'nominal'
        return Verdict(OK, text if known else f'{text}: no temperature with a trip point is known')
    text = '; '.join(filter(None, [f'{state.level}: {state.why}', done]))
    level = _VERDICTS[state.level]
    return Verdict(level, text)


def _values(state: State | None, measures: Measures, model: str, lack: str) -> dict[str, object]:
    values: dict[str, object] = {'state': 'off' if state is None else str(state.level)}
    if state is not None:
        values['for s'] = f'{monotonic() - state.since:.0f}'
        if state.margin_c is not None:
            values['margin C'] = f'{state.margin_c:.1f}'
        if state.heating_c_s is not None:
            values['heating C/min'] = f'{60 * state.heating_c_s:.1f}'
        if state.seconds_to_throttle is not None:
            values['time to throttle s'] = f'{state.seconds_to_throttle:.0f}'
    for camera, share in measures.shares.items():
        values[f'{camera or "images"} share'] = f'{share:.2f}'
    values['lighter model'] = lack or model or 'none'
    values['overlay'] = 'paused' if measures.overlay_paused else 'drawn'
    return values
