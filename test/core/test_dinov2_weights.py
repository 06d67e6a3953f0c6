"""The download of the encoder's weights, from a server that this test runs."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.errors import CheckpointError  # noqa: E402
from wm_planner.models import dinov2_weights  # noqa: E402
from wm_planner.models.dinov2_weights import official_weights  # noqa: E402

NAME, CONTENT = "dinov2_vits14_pretrain.pth", bytes(range(256)) * 400


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder, empty, and the checksum of what the server sends."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(dinov2_weights.SHA256, "s", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path / "hub/checkpoints"


@pytest.fixture
def server(monkeypatch):
    """Paths that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setattr(dinov2_weights, "URL", place + "/dinov2_vit{variant}14/{name}")
        yield asked
        listening.shutdown()


def test_downloaded_once_with_a_progress_bar(hub, server, capfd) -> None:
    file = official_weights("s")
    assert file == hub / NAME and file.read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err
    assert official_weights("s") == file
    assert server == [f"/dinov2_vits14/{NAME}"]


def test_a_download_with_another_checksum_is_not_kept(hub, server, monkeypatch) -> None:
    monkeypatch.setitem(dinov2_weights.SHA256, "s", "0" * 64)
    with pytest.raises(CheckpointError, match="cannot be downloaded.*hash"):
        official_weights("s")
    assert list(hub.iterdir()) == []


def test_a_damaged_file_is_named_and_not_overwritten(hub) -> None:
    hub.mkdir(parents=True)
    (hub / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=rf"{NAME}: its checksum .* delete it"):
        official_weights("s")
    assert (hub / NAME).read_bytes() == CONTENT[:-1]


def test_without_a_connection_the_error_says_which_file_to_put_where(hub, monkeypatch) -> None:
    monkeypatch.setattr(dinov2_weights, "URL", "http://127.0.0.1:9/{variant}/{name}")
    with pytest.raises(CheckpointError) as error:
        official_weights("s")
    assert f"http://127.0.0.1:9/s/{NAME}: cannot be downloaded" in str(error.value)
    assert f"save it as {hub / NAME}" in str(error.value)


@pytest.mark.parametrize("variant", ["g", (32, 2, 2)])
def test_other_variants_have_no_official_weights(variant) -> None:
    with pytest.raises(CheckpointError, match="choices: s, b, l"):
        official_weights(variant)
