"""Replaces keys and tokens in all text that goes out: they never reach a log, a record, a logger or a report.

Data is redacted before it is serialised (`data`): escaping would hide a value with quotes or line breaks. Text that
others wrote (logs, adapters' cards, Hydra's files) is searched for a value's escaped forms too (`redact`, `file`).
"""

import configparser
import contextlib
import functools
import html
import json
import logging
import netrc
import os
import re
import shlex
import sys
import traceback
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

#: The last word of a secret variable's name, and what its name may end with without a boundary (PGPASSWORD, MYAPIKEY).
_SECRET = re.compile(
    r"(?:(?:^|_)(?:KEYS?|TOKENS?|SECRETS?|PASS|AUTH|CREDENTIALS?|CREDS?|PASSWD)(?:_(?:ID|VALUE|OLD|NEW|\d+))?"
    r"|_(?:PWD|PAT|KEY_.*|TOKEN_.*|SECRET_.*)|(?:API|ACCESS|PRIVATE|SECRET)_?KEYS?|TOKENS?|SECRETS?"
    r"|PASS(?:WORD|WD|PHRASE|CODE)S?(?:_.*)?)$",
    re.IGNORECASE,
)
#: Shorter values are words and numbers that a text may hold anyway (`TOKENIZERS_KEY=1`).
_SHORTEST = 6
#: From this length on a value is replaced inside words too, and whatever it is made of.
_LONG = 8
_INSTEAD = "***"
#: What tells that a value is one, wherever it comes from: the place it stands in, or its own form; what is written
#: instead; and of slow patterns texts in lower case one of which every match holds, so that most texts need no search.
_PLACES: tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...] = (
    # All before the host of an address: a name with a password, or a token alone; the password may hold an @.
    (re.compile(r"(?<=://)[^\s/\"'<>]+(?=@)"), _INSTEAD, ("://",)),
    (
        re.compile(
            r"(?i)((?:[?&;]|%3F|%26)(?:[\w.-]*[_.-])?(?:(?:api|access|private|secret)?-?key|\w*token|\w*secret|pass|pwd"
            r"|passw(?:or)?d|passphrase|auth|authorization|credentials?|sig|signature)(?:=|%3D))[^\s&;#\"'<>]+"
        ),
        rf"\1{_INSTEAD}",
        ("=", "%3d"),
    ),
    (
        re.compile(
            r"(?i)((?:^|[\s.+_\"'{,-])(?:\w*api_?key|\w*passw(?:or)?d|\w*passphrase|(?:\w*_)?secret(?:_?key)?"
            r"|(?:access|auth|hf|bearer|api|private)_?token)=)(?!null\b|\*\*\*)(?:\"[^\"]*\"|'[^']*'|[^\s&,}\"']+)"
        ),
        rf"\1{_INSTEAD}",
        (
            "apikey=",
            "api_key=",
            "passwd=",
            "password=",
            "passphrase=",
            "secret=",
            "secretkey=",
            "secret_key=",
            "token=",
        ),
    ),
    (
        re.compile(r"(?i)\b(bearer|authorization: basic) [\w.~+/=-]{8,}"),
        rf"\1 {_INSTEAD}",
        ("bearer ", "authorization: basic "),
    ),
    (
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{20,}|glpat-[\w-]{20,}|sk-[\w-]{32,}"
            r"|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,})"
        ),
        _INSTEAD,
        ("hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "sk-", "akia", "xox"),
    ),
)


def redact(text: str) -> str:
    """The text without any secret that this process knows, as it is or as JSON, HTML, an address, a shell or Python
    writes it."""
    pattern = _pattern(tuple(secrets()))
    if pattern is not None:
        text = pattern.sub(_INSTEAD, text)
    folded = text.casefold().replace("ı", "i")  # As patterns fold letters.
    for place, instead, holds in _PLACES:
        if any(part in folded for part in holds):
            text = place.sub(instead, text)
    return text


def data(value: Any) -> Any:
    """Nested dictionaries and lists with all their texts redacted, keys included; what is neither stays as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {data(name): data(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [data(part) for part in value]
    return value


def file(path: Path) -> None:
    """Rewrite a text file that somebody else's code wrote, where it holds a secret. Links are left alone."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with open(descriptor, "r+", encoding="utf-8", newline="") as stream:
            text = stream.read()
            clean = redact(text)
            if clean != text:
                stream.seek(0)
                stream.truncate()
                stream.write(clean)


def folder(path: Path, patterns: Iterable[str]) -> None:
    """`file` for the files of a folder that are named so, at any depth."""
    for pattern in patterns:
        for match in path.rglob(pattern):
            file(match)


def install() -> None:
    """Redacts from here on what this process logs, and a traceback that ends it, whoever's handler writes it."""
    if logging.getLogRecordFactory() is not _record:
        logging.setLogRecordFactory(_record)
        sys.excepthook = _excepthook


def _record(*arguments: Any, **named: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **named)
    with contextlib.suppress(Exception):  # A message that doesn't take its arguments is logging's own to report.
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")
    return record


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def secrets() -> list[str]:
    """The values that must not be written, the longest first."""
    values = {value.strip() for name, value in os.environ.items() if _is_secret(name)}
    values |= set(_saved(os.environ.get("HF_HOME"), os.environ.get("HF_TOKEN_PATH"), os.environ.get("NETRC")))
    return sorted((value for value in values if _worth(value)), key=lambda value: (-len(value), value))


@functools.cache
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


@functools.cache
def _worth(value: str) -> bool:
    """True if a value can be replaced without shredding text: long enough, or short and no plain word or number; and
    not the name of a file that is there (a key's file)."""
    if len(value) < _SHORTEST or (len(value) < _LONG and (value.isalpha() or _number(value))):
        return False
    if not value.startswith(("/", "~/", "./")):
        return True
    try:
        return not Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return True


def _is_word(form: str) -> bool:
    """True if a value may stand in an ordinary word or number: then it is only replaced as a whole one."""
    return len(form) < _LONG or _number(form) or (form.isalpha() and len(form) < 2 * _LONG)


def _number(value: str) -> bool:
    return re.fullmatch(r"[\d.,:+-]+(?:[eE][+-]?\d+)?", value) is not None


@functools.lru_cache(maxsize=8)
def _pattern(values: tuple[str, ...]) -> re.Pattern[str] | None:
    """A pattern that matches any of the values in any of their forms, longer ones first; None: there are no values."""
    forms = {form: value for value in values for form in _forms(value)}
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    as_word = r"(?<![A-Za-z0-9]){}(?![A-Za-z0-9])"
    alternatives = [as_word.format(re.escape(form)) if _is_word(form) else re.escape(form) for form in ordered]
    return re.compile("|".join(alternatives)) if alternatives else None


def _forms(value: str) -> Iterator[str]:
    """A value as it is, and as JSON, HTML, an address, a shell, Python, YAML and SQL escape it."""
    for plain in {value, " ".join(value.split())}:
        yield plain
        yield from (urllib.parse.quote(plain, safe=safe) for safe in ("", "/"))
        yield urllib.parse.quote_plus(plain)
        yield from (html.escape(plain, quote=quote) for quote in (True, False))
        yield shlex.quote(plain).strip("'")
        for ascii_only in (True, False):
            written = json.dumps(plain, ensure_ascii=ascii_only)[1:-1]
            yield written
            yield json.dumps(written)[1:-1]  # JSON in JSON.
        yield repr(plain)[1:-1]
        yield plain.replace("'", "''")  # YAML's and SQL's single quotes.
    # A key of several lines (PEM) may be logged line by line.
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= 2 * _LONG)


@functools.lru_cache(maxsize=8)
def _saved(hf_home: str | None, token_path: str | None, netrc_path: str | None) -> tuple[str, ...]:
    """The tokens that `hf auth login` and `wandb login` left in files."""
    home = Path(hf_home or os.path.expanduser("~/.cache/huggingface"))
    saved = [_text(Path(token_path) if token_path else home / "token")]
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error):
        parser.read_string(_text(home / "stored_tokens"))
        saved += [parser.get(section, "hf_token", fallback="") for section in parser.sections()]
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):
        hosts = netrc.netrc(netrc_path or os.path.expanduser("~/.netrc")).hosts
        saved += [password or "" for _, _, password in hosts.values()]
    return tuple(saved)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
