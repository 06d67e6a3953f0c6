"""Image sources: a real video file, its end, and everything that can be missing."""

import sys
from contextlib import closing

import cv2
import numpy as np
import pytest

from wm_planner.data.prepare import prepare
from wm_planner.errors import ImageSourceError
from wm_planner.runtime import image_source
from wm_planner.runtime.image_source import ImageSource, open_source

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]  # RGB


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for colour in COLOURS:
        writer.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    writer.release()
    return path


def main_channel(image):
    return int(image.reshape(-1, 3).mean(0).argmax())


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_a_file_gives_rgb_images_and_then_ends(clip, form):
    with closing(open_source(form.format(clip))) as source:
        images = [source.read() for _ in range(3)]
        assert [main_channel(image) for image in images] == [0, 1, 2]
        assert images[0].shape == (48, 64, 3) and images[0].dtype == np.uint8
        assert source.read() is None
        assert source.read() is None


def test_a_file_can_loop(clip):
    with closing(open_source(str(clip), loop=True)) as source:
        assert [main_channel(source.read()) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.fixture(scope="module")
def av1_clip(tmp_path_factory):
    """A codec that OpenCV opens, and cannot decode where its FFmpeg has no decoder of it."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for colour in COLOURS:
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), colour, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_what_opencv_cannot_decode_is_decoded_by_pyav(av1_clip):
    with closing(open_source(str(av1_clip), loop=True)) as source:
        assert [main_channel(source.read()) for _ in range(5)] == [0, 1, 2, 0, 1]
    with closing(open_source(str(av1_clip))) as source:
        images = [source.read() for _ in range(4)]
    assert images[3] is None and images[0].shape == (64, 96, 3)


def test_without_pyav_the_codec_is_named(av1_clip, monkeypatch):
    if cv2.VideoCapture(str(av1_clip)).read()[0]:
        pytest.skip("OpenCV decodes AV1 here")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageSourceError, match="cannot decode its codec '(av|AV)01'; install PyAV"):
        open_source(str(av1_clip))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:nowhere.mp4", "nowhere.mp4: no such file"),
        ("nowhere.mp4", "no such file; use 'device:0'"),
        ("device:77", "no device /dev/video77. Devices here:"),
        ("device:/dev/nowhere", "no device /dev/nowhere"),
    ],
)
def test_what_does_not_exist_is_named(uri, words):
    with pytest.raises(ImageSourceError, match=words):
        open_source(uri)


def test_a_file_that_is_no_video_is_named(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(ImageSourceError, match="text.mp4: not a video"):
        open_source(str(path))


class FakeCapture:
    """A camera that gives two images and is then unplugged."""

    def __init__(self, name, opens=True):
        self.name, self.opens, self.left, self.settings = name, opens, 2, {}

    def isOpened(self):
        return self.opens

    def set(self, key, value):
        self.settings[key] = value

    def read(self):
        self.left -= 1
        return (True, np.zeros((4, 6, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        self.left = 0


def test_a_device_gives_its_newest_image_and_an_unplugged_one_is_an_error(monkeypatch, tmp_path):
    device = tmp_path / "video9"
    device.write_text("")
    monkeypatch.setattr(image_source.cv2, "VideoCapture", FakeCapture)
    source = open_source(f"device:{device}")
    assert source._capture.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert source.read().shape == (4, 6, 3)
    source.read()
    with pytest.raises(ImageSourceError, match="still there"):
        source.read()


@pytest.mark.parametrize("uri", ["rtsp://camera.example/stream", "device:{}"])
def test_what_does_not_open_is_named(monkeypatch, tmp_path, uri):
    device = tmp_path / "video9"
    device.write_text("")
    uri = uri.format(device)
    monkeypatch.setattr(image_source.cv2, "VideoCapture", lambda name: FakeCapture(name, False))
    with pytest.raises(ImageSourceError, match=uri.split(":")[0]):
        open_source(uri)


def test_a_stream_that_stops_is_an_error_even_when_asked_to_loop():
    source = ImageSource(FakeCapture("x"), "rtsp://x", loop=True, is_file=False)
    source.read()
    source.read()
    with pytest.raises(ImageSourceError, match="rtsp://x: no image"):
        source.read()


def test_prepare_leaves_an_image_of_the_right_size_alone():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(prepare(image, None, 8), image)


def test_prepare_cuts_the_centre_square():
    image = np.zeros((4, 10, 3), np.uint8)
    image[:, 3:7] = 200
    np.testing.assert_array_equal(prepare(image, None, 4), np.full((4, 4, 3), 200))


def test_prepare_crops_first():
    image = np.zeros((10, 10, 3), np.uint8)
    image[1:4, 5:8] = 90
    np.testing.assert_array_equal(prepare(image, (5, 1, 3, 3), 3), np.full((3, 3, 3), 90))


def test_prepare_averages_when_it_shrinks():
    """A checkerboard of single pixels becomes grey, not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = prepare(np.repeat(board[..., None], 3, axis=2), None, 16)
    assert small.min() >= 127 and small.max() <= 128


def test_prepare_enlarges():
    assert prepare(np.full((2, 2, 3), 7, np.uint8), None, 5).tolist() == [[[7] * 3] * 5] * 5


@pytest.mark.parametrize(
    ("image", "crop", "size", "words"),
    [
        (np.zeros((4, 4), np.uint8), None, 4, "expected"),
        (np.zeros((4, 4, 3), np.float32), None, 4, "float32"),
        (np.zeros((0, 4, 3), np.uint8), None, 4, "expected"),
        (np.zeros((4, 4, 3), np.uint8), (2, 0, 3, 2), 4, "outside"),
        (np.zeros((4, 4, 3), np.uint8), (-1, 0, 2, 2), 4, "outside"),
        (np.zeros((4, 4, 3), np.uint8), (0, 0, 0, 2), 4, "outside"),
        (np.zeros((4, 4, 3), np.uint8), None, 0, "positive"),
    ],
)
def test_prepare_refuses(image, crop, size, words):
    with pytest.raises(ImageSourceError, match=words):
        prepare(image, crop, size)
