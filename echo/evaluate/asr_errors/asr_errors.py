"""WER and CER with their counts, as a metric of Hugging Face's `evaluate`.

import evaluate
from echo.evaluate.wer import METRIC_PATH

evaluate.load(METRIC_PATH).compute(references=[...], predictions=[...])
"""

from dataclasses import asdict
from typing import Any

import datasets
import evaluate

from echo.evaluate.wer import character_errors, word_errors


class AsrErrors(evaluate.Metric):
    """Computes corpus-level error rates of transcripts, without normalisation."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Word and character error rates with insertions, deletions, substitutions.",
            citation="",
            inputs_description="references and predictions: one transcript each per utterance.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        words = word_errors(references, predictions)
        counts = asdict(words)
        rates = {"wer": words.rate, "cer": character_errors(references, predictions).rate}
        return {**rates, "reference_words": counts.pop("reference"), **counts}
