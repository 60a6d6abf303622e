# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile: best-effort 1080p images arrive in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

PROFILE = Path(__file__).resolve().parents[1] / 'config' / 'fastdds_large_images.xml'
IMAGES = 30

PUBLISHER = f"""
import array, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node('camera')
publisher = node.create_publisher(Image, 'image', qos_profile_sensor_data)
while publisher.get_subscription_count() == 0:
    time.sleep(0.05)
time.sleep(0.5)
image = Image(width=1920, height=1080, encoding='rgb8', step=5760)
image.data = array.array('B', bytes(1080 * 5760))
for number in range({IMAGES}):
    image.header.frame_id = str(number)
    publisher.publish(image)
    time.sleep(1 / 15)
time.sleep(1)  # an image under way dies with its publisher
node.destroy_node()
rclpy.shutdown()
"""

SUBSCRIBER = f"""
import time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

seen = set()
rclpy.init()
node = rclpy.create_node('viewer')
node.create_subscription(
    Image, 'image', lambda m: seen.add(int(m.header.frame_id)), qos_profile_sensor_data
)
give_up = time.monotonic() + 30
while {IMAGES - 1} not in seen and time.monotonic() < give_up:
    rclpy.spin_once(node, timeout_sec=0.2)
print(len(seen))
node.destroy_node()
rclpy.shutdown()
"""


def test_large_images_arrive(domain_id: int) -> None:
    """The publisher's profile is enough: a subscriber of somebody else's does not have it."""
    env = {k: v for k, v in os.environ.items() if not k.endswith('DEFAULT_PROFILES_FILE')}
    env['ROS_DOMAIN_ID'] = str(domain_id)
    # One name for each generation of Fast DDS.
    profile = dict.fromkeys(
        ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'), str(PROFILE)
    )
    with subprocess.Popen(
        [sys.executable, '-c', SUBSCRIBER], env=env, stdout=subprocess.PIPE, text=True
    ) as subscriber:
        try:
            subprocess.run(
                [sys.executable, '-c', PUBLISHER], env=env | profile, check=True, timeout=60
            )
            seen, _ = subscriber.communicate(timeout=60)
        finally:
            subscriber.kill()
    # Best effort: a busy machine may lose a few. Without the profile nearly all are lost.
    assert int(seen) >= IMAGES * 0.8
