"""Makes `transformers`' speech recognition pipeline work with Echo's models."""

from typing import Any

from transformers import AutomaticSpeechRecognitionPipeline
from transformers.pipelines import PIPELINE_REGISTRY


class EchoRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """Treats Echo models as Whisper models. The original pipeline recognises Whisper by its
    config's `model_type`, and treats an unknown type as a CTC model. Nothing changes for other
    models."""

    def _sanitize_parameters(self, *args: Any, **kwargs: Any) -> Any:
        # Set the type here: this is the first method that depends on it.
        if self.model.config.model_type == "echo":
            self.type = "seq2seq_whisper"
        return super()._sanitize_parameters(*args, **kwargs)


def register_pipeline() -> None:
    """Makes `pipeline("automatic-speech-recognition")` return this pipeline."""
    task = PIPELINE_REGISTRY.supported_tasks["automatic-speech-recognition"]
    task["impl"] = EchoRecognitionPipeline
