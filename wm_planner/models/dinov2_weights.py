"""The official DINOv2 weights: found where torch.hub keeps them, else downloaded and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch

from wm_planner.errors import CheckpointError
from wm_planner.models.catalog import file_sha256

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{variant}14/{name}"
SHA256 = {
    "s": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "b": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "l": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}


def official_weights(variant: str | Sequence[int]) -> Path:
    """Local file of the weights of 's', 'b' or 'l' (without registers), 88 MB, 346 MB or 1.2 GB.

    A file that torch.hub has downloaded before is used; otherwise it is downloaded there, with a
    progress bar, and kept only if its checksum is right.

    Raises:
        CheckpointError: unknown variant; no connection (says which file to put where); a file
            with another checksum.
    """
    if not isinstance(variant, str) or variant not in SHA256:
        raise CheckpointError(f"no official weights of variant {variant!r}; choices: s, b, l")
    name = f"dinov2_vit{variant}14_pretrain.pth"
    url = URL.format(variant=variant, name=name)
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=SHA256[variant])
        except (URLError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{url}: cannot be downloaded: {error}; get it on a machine with a connection and "
                f"save it as {file}"
            ) from error
    digest = file_sha256(file)
    if digest != SHA256[variant]:
        raise CheckpointError(
            f"{file}: its checksum {digest} is not that of the release, {SHA256[variant]}; delete "
            "it, and it is downloaded again"
        )
    return file
