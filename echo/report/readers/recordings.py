"""Finds the recordings of a result."""

import logging
from collections.abc import Callable, Sequence

from echo.data.utterance import Utterance
from echo.report.result import Line
from echo.support.errors import EchoError

logger = logging.getLogger(__name__)

Recordings = Callable[[], Sequence[Utterance]]  # reads the data set again


def find_utterances(lines: Sequence[Line], recordings: Recordings) -> dict[str, Utterance]:
    """The utterances with recordings, by id. Empty, with a warning, if the data set is gone; an
    utterance whose transcript is another by now is missing."""
    try:
        found = {utterance.id: utterance for utterance in recordings()}
    except EchoError as error:
        logger.warning("the page has no sound, because the recordings are not found: %s", error)
        return {}
    return {
        line.id: found[line.id]
        for line in lines
        if line.id in found and found[line.id].text == line.references["wer"]
    }
