"""The answers of a hosted run: each asked for once, so many at a time, kept on the disk as it comes."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from peftbench.run.hosted.rows import Chat, name
from peftbench.run.hosted.server import ChatAnswer
from peftbench.system import files, fingerprint, stop

_FILE = "answers.jsonl"


class AnswersByChat:
    """Answers by chat, those of a stopped run among them."""

    def __init__(self, folder: Path, model: str) -> None:
        """Reads what is there. Answers of another model than `model` don't count: a job may have been made again."""
        self._file, self._model = folder / _FILE, model
        self._lock = threading.Lock()
        self._answers = dict(self._read())

    def __getitem__(self, chat: Chat) -> ChatAnswer:
        return self._answers[_id(chat)]

    def _read(self) -> Iterator[tuple[str, ChatAnswer]]:
        for line in self._file.read_bytes().splitlines() if self._file.exists() else []:
            try:
                entry = json.loads(line)
                if entry.pop("model") == self._model:
                    yield entry.pop("chat"), ChatAnswer(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # The line that was being written when the process ended: it is asked for again.

    def _keep(self, chat: Chat, answer: ChatAnswer) -> None:
        line = json.dumps({"model": self._model, "chat": _id(chat), **asdict(answer)})
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            self._answers[_id(chat)] = answer
            # Of a line that was cut off the rest stays alone.
            file.write(f"\n{line}\n" if file.tell() else f"{line}\n")

    def forget_refused(self) -> None:
        """Forget the questions that were refused, so that they are asked again another day."""
        lines = self._file.read_text(encoding="utf-8").splitlines()
        rest = "".join(f"{line}\n" for line in lines if '"refused": true' not in line)
        files.write(self._file, lambda temporary: temporary.write_text(rest, encoding="utf-8"))

    def ask(self, chats: list[Chat], ask: Callable[[Chat], ChatAnswer], *, at_once: int) -> None:
        """Get the answers that are missing. A failure, or a request to stop, ends it when the requests under way have
        ended, whose answers are kept."""
        missing = [chat for chat in chats if _id(chat) not in self._answers]
        pool = ThreadPoolExecutor(at_once)
        try:
            for done in as_completed([pool.submit(lambda chat: self._keep(chat, ask(chat)), chat) for chat in missing]):
                done.result()
                stop.check()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def all(self, chats: list[Chat]) -> list[ChatAnswer]:
        """The answers to chats that were asked."""
        return [self[chat] for chat in chats]


def _id(chat: Chat) -> str:
    return fingerprint.of_json(name(chat))[:32]
