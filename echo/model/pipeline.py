"""`transformers`' pipeline for speech recognition, for Echo's models too."""

from typing import Any

from transformers import AutomaticSpeechRecognitionPipeline
from transformers.pipelines import PIPELINE_REGISTRY


class EchoRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """The pipeline knows a Whisper by its config's `model_type`, and takes whatever it does not
    know for a CTC model. Models of other kinds go through it as they always did."""

    def _sanitize_parameters(self, *args: Any, **kwargs: Any) -> Any:
        # What the type decides begins here.
        if self.model.config.model_type == "echo":
            self.type = "seq2seq_whisper"
        return super()._sanitize_parameters(*args, **kwargs)


def register_pipeline() -> None:
    """Makes it what `pipeline("automatic-speech-recognition")` gives."""
    task = PIPELINE_REGISTRY.supported_tasks["automatic-speech-recognition"]
    task["impl"] = EchoRecognitionPipeline
