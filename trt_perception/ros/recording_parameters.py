# SPDX-License-Identifier: Apache-2.0
"""The parameters of player, recorder and replay: the one place that knows their defaults."""

from __future__ import annotations

from trt_perception.ros.parameters import Parameter

PLAYER = (
    Parameter('input', '', 'A video file, a rosbag2 (its folder, or one .mcap or .db3 file) or a'
              ' folder of jpg and png pictures.'),
    Parameter('topic', '', 'Whose images to play, of a bag with several image topics.'),
    Parameter('rate', 0.0, 'Images a second; 0 plays them as they were recorded (pictures: 10).',
              0.0, 1000.0),
    Parameter('loop', False, 'Begin again after the last image.'),
    Parameter('frame_id', '', 'frame_id of the images; empty keeps the recorded one, or says'
              ' camera where there is none.'),
    Parameter('reliability', 'reliable', 'Reliability offered to subscribers.',
              choices=('reliable', 'best_effort')),
    Parameter('wait_for_subscribers', 0, 'Subscriptions to wait for before the first image.',
              0, 100),
)  # fmt: skip

RECORDER = (
    Parameter('output', 'recording', 'Folder for the video, the pictures and the summary.'),
    Parameter('pictures', 5, 'Annotated pictures to keep beside the video: those with the most'
              ' objects, spread over the recording.', 0, 100),
    Parameter('idle_timeout', 3.0, 'Seconds without images and detections after which the recording'
              ' ends, once there was an image; 0 waits for a signal.', 0.0, 3600.0),
    Parameter('image_transport', 'auto', 'Subscribe to image as raw or compressed; auto takes what'
              ' is published, raw first.', choices=('auto', 'raw', 'compressed')),
    Parameter('image_reliability', 'auto', 'Reliability asked of the camera; auto matches it.',
              choices=('auto', 'reliable', 'best_effort')),
)  # fmt: skip

REPLAY = (
    Parameter('bag', '', 'A rosbag2: its folder, or one .mcap or .db3 file.'),
    Parameter('topics', [''], 'Whose images to play; front=/cam0/image_raw says that they are of'
              " the detector's camera front. Empty: all, and raw ones where a camera has both."),
    Parameter('output', 'replay_output', 'Folder for the results; an earlier replay there is'
              ' replaced.'),
    Parameter('rate', 1.0, 'How fast: 0.5 is half the speed.', 0.01, 100.0),
    Parameter('detector', 'detector', 'Name of the detector, whose diagnostics are recorded.'),
    Parameter('start_timeout', 60.0, 'Seconds without any progress after which it is given up to'
              ' wait for the detector; the building of an engine is progress.', 1.0, 86400.0),
)  # fmt: skip
