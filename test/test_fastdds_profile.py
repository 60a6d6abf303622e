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

CAMERA = f"""
import array, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Int32

rclpy.init()
node = rclpy.create_node('camera')
publisher = node.create_publisher(Image, 'image', qos_profile_sensor_data)
seen = set()
node.create_subscription(Int32, 'seen', lambda m: seen.add(m.data), 100)
image = Image(width=1920, height=1080, encoding='rgb8', step=5760)
image.data = array.array('B', bytes(1080 * 5760))


def send(number):
    image.header.frame_id = str(number)
    publisher.publish(image)
    give_up = time.monotonic() + 2  # it is lost then
    while number not in seen and time.monotonic() < give_up:
        rclpy.spin_once(node, timeout_sec=0.1)


while -1 not in seen:  # the other side is not ready yet
    send(-1)
for number in range({IMAGES}):
    send(number)
print(len(seen) - 1)
node.destroy_node()
rclpy.shutdown()
"""

VIEWER = """
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Int32

rclpy.init()
node = rclpy.create_node('viewer')
publisher = node.create_publisher(Int32, 'seen', 100)
seen = []


def see(image):
    seen.append(int(image.header.frame_id))
    publisher.publish(Int32(data=seen[-1]))


node.create_subscription(Image, 'image', see, qos_profile_sensor_data)
while not seen or node.count_publishers('image'):
    rclpy.spin_once(node, timeout_sec=0.1)
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
    with subprocess.Popen([sys.executable, '-c', VIEWER], env=env) as viewer:
        try:
            camera = subprocess.run(
                [sys.executable, '-c', CAMERA],
                env=env | profile, check=True, stdout=subprocess.PIPE, text=True, timeout=120,
            )  # fmt: skip
            assert viewer.wait(120) == 0
        finally:
            viewer.kill()
    # One at a time, however slow the machine is. Without the profile nearly all are lost.
    assert int(camera.stdout) == IMAGES
