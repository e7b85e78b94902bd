"""What stands before a transcript: the language and task of its row, or else the checkpoint's."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from echo.data.utterance import Utterance
from echo.model.language import (
    code_among,
    is_from_scratch,
    known_code,
    known_languages,
    not_multilingual,
    spoken_language,
)
from echo.support.errors import DataError


class Told(NamedTuple):
    """What the decoder is told of an utterance; None leaves it to the checkpoint's settings."""

    language: str | None = None  # its code
    task: str | None = None


AS_SET = Told()


@dataclass(eq=False)
class Prompts:
    """The prompts of one model.

    A multilingual model follows the columns `language` and `task` of a row. An English-only Whisper
    refuses what it cannot do, and a model from scratch has no prompt that says either.
    """

    tokenizer: Any
    generation: Any  # the model's generation config; None does not look at the rows

    def __post_init__(self) -> None:
        self.languages = known_languages(self.generation) if self.generation else {}

    def told(self, utterance: Utterance) -> Told:
        """Returns what its row says, completed by the checkpoint's settings. DataError if the model
        does not know the language or the task."""
        language, task = utterance.language, utterance.task
        if self.generation is None or language is task is None:
            return AS_SET
        if not self.languages:
            if not is_from_scratch(self.generation):
                self.check_english(language, task)
            return AS_SET
        usual_code = code = spoken_language(self.generation)
        if language is not None:
            code = code_among(self.languages, language)
            if code is None:
                raise DataError(f"'language' is {language!r}, which the model does not know")
        usual = getattr(self.generation, "task", None)
        if task is not None and task not in self.generation.task_to_id:
            known = " or ".join(self.generation.task_to_id)
            raise DataError(f"'task' is {task!r}, but must be {known}")
        told = Told(code, task or usual or "transcribe")
        return AS_SET if told == (usual_code, usual) else told

    def check_english(self, language: str | None, task: str | None) -> None:
        if language is not None and known_code(language) != "en":
            why = not_multilingual(self.generation)
            raise DataError(f"'language' is {language!r}, but the model knows only English: {why}")
        if task not in (None, "transcribe"):
            raise DataError(f"'task' is {task!r}, but an English-only model can only transcribe")

    def ids(self, utterance: Utterance) -> list[int]:
        """Returns the tokens before its transcript, from the decoder's start token on. DataError as
        for `told`; or if the model is multilingual and no language is given."""
        told = self.told(utterance)
        usual = list(self.tokenizer.prefix_tokens)
        if not self.languages:
            return usual
        language = told.language or spoken_language(self.generation)
        if language is None:
            if told == AS_SET:
                raise DataError("has no language: give it in a column 'language', or data.language")
            raise DataError("has a task but no language: give both, or set data.language")
        tasks = self.generation.task_to_id
        task = tasks[told.task or getattr(self.generation, "task", None) or "transcribe"]
        kept = [i for i in usual[1:] if i not in {*self.languages.values(), *tasks.values()}]
        return [usual[0], self.languages[f"<|{language}|>"], task, *kept]
