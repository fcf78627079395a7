"""The dataclass of what is evaluated beyond the score."""

from dataclasses import dataclass, field

from peftbench.config.rules import Rule, between

#: The ways in which a text can be changed so that its label stays; `data.perturbations` has them.
PERTURBATIONS = ("typos", "case", "contractions")


@dataclass(kw_only=True)
class EvaluationConfig:
    """The evaluation beside the score: what a trained model is asked.

    Attributes:
        calibration: whether its probabilities are compared with how often it is right.
        perturbations: how the evaluation split's texts are changed, one after the other, to see what the score loses.
        seed: of the perturbations; every method and every run's seed meets the same texts.
    """

    calibration: bool
    perturbations: list[str] = field(
        metadata={
            "rule": Rule(
                lambda x: set(x) <= set(PERTURBATIONS) and len(set(x)) == len(x),
                f"a list of different ones of {', '.join(PERTURBATIONS)}",
            )
        }
    )
    seed: int = field(metadata={"rule": between(0, 2**31)})
