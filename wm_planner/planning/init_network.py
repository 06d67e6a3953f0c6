"""Whether cold starts begin at the checkpoint's initialisation network."""

from __future__ import annotations

from wm_planner.errors import ConfigError
from wm_planner.models.init_network import InitNetwork
from wm_planner.models.model import EmbodiedModel
from wm_planner.planning.config import PlannerConfig


def starting_network(bundle: EmbodiedModel, config: PlannerConfig) -> InitNetwork | None:
    """The network that `config` asks for; None when plans begin otherwise.

    Raises:
        ConfigError: the bundle has none, or one of another horizon.
    """
    if config.init != "network" or not config.descends:
        return None
    network: InitNetwork | None = getattr(bundle, "init_network", None)
    if network is None:
        raise ConfigError(
            "init 'network': this checkpoint has no initialisation network; "
            "'wm-planner train init' adds one"
        )
    if network.horizon != config.horizon:
        raise ConfigError(
            f"init 'network': the checkpoint's network plans {network.horizon} model steps, "
            f"not horizon {config.horizon}"
        )
    return network
