"""The server: what is asked of it over OpenAI's interface, and its answers as plain values."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai

from peftbench.config.hosted import HostedConfig
from peftbench.errors import Failed
from peftbench.run.hosted.check import key
from peftbench.run.hosted.rows import Chat

#: How many of the newest files or jobs are looked through for one of ours.
_NEWEST = 200


@dataclass(frozen=True)
class ChatAnswer:
    """A model's answer to a chat, with its tokens as the server counts them; `refused`: the server won't answer it."""

    text: str
    input_tokens: int
    output_tokens: int
    refused: bool = False


@dataclass(frozen=True)
class Job:
    """A job as it stands: `model` once there is one; seconds since 1970."""

    id: str
    status: str
    model: str | None
    trained_tokens: int | None
    created: float
    finished: float | None
    error: str | None


class Server:
    """A hosted model's server. Requests that fail for the moment are tried again by the package `openai`, with growing
    pauses and as the server asks; those that would cost something twice aren't."""

    def __init__(self, config: HostedConfig) -> None:
        self.config = config
        self._client = openai.OpenAI(
            base_url=config.base_url, api_key=key(config), max_retries=config.retries, timeout=config.timeout_s
        )
        self._once = self._client.with_options(max_retries=0)

    def upload(self, file_name: str, content: bytes) -> str:
        """Upload a training file, unless one of this name is there; returns its id."""
        return self._made(
            lambda: self._once.files.create(file=(file_name, io.BytesIO(content)), purpose="fine-tune").id,
            lambda: self._uploaded(file_name),
        )

    def start(self, model: str, file: str, *, seed: int, suffix: str, hyperparameters: dict[str, Any]) -> str:
        """Start a job on a file, unless one is there; returns its id. A file that is one run's own has one job."""
        return self._made(
            lambda: (
                self._once.fine_tuning.jobs.create(
                    model=model,
                    training_file=file,
                    seed=seed,
                    suffix=suffix,
                    hyperparameters=hyperparameters,  # type: ignore[arg-type]
                ).id
            ),
            lambda: self._started(file),
        )

    def _made(self, make: Callable[[], str], look: Callable[[], str | None]) -> str:
        """The id that `look` finds, or else the one that `make` makes. The answer to `make` may be lost, in this
        process's end or on the way, after the server has done it: it is looked for before every try."""
        for tries_left in range(self.config.retries, -1, -1):
            existing = look()
            if existing is not None:
                return existing
            try:
                return make()
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                if not tries_left:
                    raise
        raise AssertionError("tries have an end")

    def _uploaded(self, file_name: str) -> str | None:
        listed = zip(range(_NEWEST), self._client.files.list(purpose="fine-tune", order="desc"), strict=False)
        return next((file.id for _, file in listed if file.filename == file_name), None)

    def _started(self, file: str) -> str | None:
        listed = zip(range(_NEWEST), self._client.fine_tuning.jobs.list(), strict=False)
        return next((job.id for _, job in listed if job.training_file == file), None)

    def job(self, job: str) -> Job:
        """The state of a job."""
        now = self._client.fine_tuning.jobs.retrieve(job)
        why = now.error.message if now.error is not None else None
        return Job(job, now.status, now.fine_tuned_model, now.trained_tokens, now.created_at, now.finished_at, why)

    def answer(self, model: str, chat: Chat, *, max_tokens: int, seed: int) -> ChatAnswer:
        """A model's answer to a chat; a refused one where the server takes the request for a bad one, as it does with
        what its filters don't let through.

        Raises:
            Failed: the server answers without a choice.
        """
        options: dict[str, Any] = {self.config.limit: max_tokens, "seed": seed}
        if self.config.temperature is not None:
            options["temperature"] = self.config.temperature
        try:
            completion: Any = self._client.chat.completions.create(model=model, messages=chat, **options)  # type: ignore[arg-type]
        except openai.BadRequestError:
            return ChatAnswer("", 0, 0, refused=True)
        if not completion.choices:
            raise Failed(f"hosted.model={model}: the server gave no choice")
        usage = completion.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
        return ChatAnswer((completion.choices[0].message.content or "").strip(), *tokens)

    def delete_file(self, file: str) -> None:
        """Delete an uploaded file; one that is gone is deleted."""
        with contextlib.suppress(openai.NotFoundError):
            self._client.files.delete(file)

    def delete_model(self, model: str) -> None:
        """Delete a tuned model; one that is gone is deleted."""
        with contextlib.suppress(openai.NotFoundError):
            self._client.models.delete(model)
