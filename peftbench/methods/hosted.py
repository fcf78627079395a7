"""Methods whose model is reached over a network: `peftbench.run.hosted` makes their runs. Nothing is applied here."""

from typing import ClassVar

from peftbench.config.rules import Rule, check_arguments, whole
from peftbench.config.types import MethodConfig
from peftbench.methods.baselines import ZeroShot


class Prompted(ZeroShot):
    """A model that is asked as it is, after `method.args.shots` answered examples."""

    #: Whether the server is to train on the training rows first.
    tunes: ClassVar[bool] = False
    arguments: ClassVar[dict[str, Rule]] = {"shots": whole(0)}

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        check_arguments(config.args, self.arguments)

    @property
    def shots(self) -> int:
        """The number of answered examples in every prompt."""
        return int(self.config.args.get("shots", 0))


class Hosted(Prompted):
    """A model that the server's job trains first; then it is asked without examples."""

    tunes = True
    arguments: ClassVar[dict[str, Rule]] = {}
