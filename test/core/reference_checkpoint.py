"""The tiny released checkpoint of the tests, and others made of it."""

from __future__ import annotations

import zipfile

from wm_planner.data.dino_wm import PushT
from wm_planner.models.reference import import_released
from wm_planner.tasks import get_task

from .reference_fixture import DATA

TINY = DATA / "reference_checkpoint_tiny.pth"
VARIANT = (32, 2, 2)
CONFIG = {
    "img_size": 64,
    "num_hist": 3,
    "num_pred": 1,
    "frameskip": 5,
    "concat_dim": 1,
    "action_emb_dim": 10,
    "env": {"name": "pusht", "dataset": {"normalize_action": True, "n_rollout": None}},
    "encoder": {"_target_": "models.dino.DinoV2Encoder", "feature_key": "x_norm_patchtokens"},
    "predictor": {"depth": 2, "heads": 2, "mlp_dim": 64},
}
STATISTICS = {
    name: PushT.CONSTANTS[name]
    for name in ("action_mean", "action_std", "proprio_mean", "proprio_std")
}


def import_tiny(encoder, file=TINY, config=CONFIG, **changes):
    arguments = {"encoder": encoder, "variant": VARIANT} | changes
    return import_released(file, get_task("pusht"), STATISTICS, config, **arguments)


def checkpoint_with(path, pickled):
    """The fixture with another pickle in it."""
    with zipfile.ZipFile(TINY) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            data = pickled if member.filename.endswith("/data.pkl") else source.read(member)
            target.writestr(member, data)
    return path
