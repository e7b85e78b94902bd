"""The ways in which one model is decoded and measured, and what files and tables call them.

To add one, add it to `DECODINGS`: results have an entry, a folder and a column for each.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from echo.config import DecodeSettings
from echo.model.config import EchoConfig


@dataclass(frozen=True)
class Decoding:
    """A way to decode."""

    key: str  # in the JSON of results
    folder: str  # of its transcripts, in the folder of a run
    wer: str  # what tables call its WER
    # From the settings of the run's own decoding; None for a model without this one.
    settings: Callable[[DecodeSettings, EchoConfig], DecodeSettings | None]
    # Whether the first decoding is the same for a model without this one, and stands for it.
    is_first_without: bool = True

    @property
    def column(self) -> str:
        """The key of its WER in a row of `pilot.json`."""
        return "wer" if self is DECODINGS[0] else f"wer_{self.key}"


def joint_weight(own: DecodeSettings, config: EchoConfig) -> float:
    """Returns the weight of the CTC head in choosing tokens; 0 for a model without one."""
    usual = 0.0 if config.ctc_vocabulary else 0.5
    weight = usual if own.ctc_weight is None else own.ctc_weight
    return weight if config.ctc else 0.0


def decoder_alone(own: DecodeSettings, config: EchoConfig) -> DecodeSettings | None:
    if not config.ctc or not (own.ctc_alone or joint_weight(own, config) > 0):
        return None
    return replace(own, ctc_weight=0.0, ctc_alone=False)


def ctc_alone(own: DecodeSettings, config: EchoConfig) -> DecodeSettings | None:
    return replace(own, beams=1, ctc_alone=True) if config.ctc else None


JOINT = Decoding("joint", "evaluation", "WER", lambda own, _: own)  # by decoder and CTC head
DECODER = Decoding("decoder", "evaluation-decoder", "WER, decoder alone", decoder_alone)
# Of the encoder by itself, greedily.
CTC = Decoding("ctc", "evaluation-ctc", "WER, CTC alone", ctc_alone, is_first_without=False)
DECODINGS = (JOINT, DECODER, CTC)  # the first is the run's own, which verdicts go by
