"""Tab completion: what a word may become, by the key Tab in real shells, and within the time that nobody notices."""

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peftbench import cli
from peftbench.config import paths

ROOT = Path(cli.__file__).parents[1]


@pytest.fixture
def asked(run_cli: Callable) -> Callable[..., list[str]]:
    def ask(*words: str) -> list[str]:
        status, out, err = run_cli("completion", "candidates", *words)
        assert (status, err) == (0, "")
        return out.split()

    return ask


def test_the_first_word_is_a_command_a_group_or_a_key(asked: Callable) -> None:
    first = asked("")
    assert set(first) >= {*cli.COMMANDS, "help", *(f"{group}=" for group in paths.groups()), "seed=", "tune="}
    assert asked("rep") == ["report", "reproduce"]
    assert not set(asked("method=lora", "")) & set(cli.COMMANDS)


@pytest.mark.parametrize("group", paths.groups())
def test_a_groups_values_are_its_files(asked: Callable, group: str) -> None:
    choices = paths.choices(group)
    assert choices
    assert asked(f"{group}=") == [f"{group}={name}" for name in choices]
    after = [f"{group}={choices[0]},{name}" for name in choices[1:]]
    assert asked("-m", f"{group}={choices[0]},") == after
    assert asked(f"+{group}={choices[-1]}")[0] == f"+{group}={choices[-1]}"
    assert asked("list", paths.plural(group), "") == choices


def test_keys_go_down_into_the_files_that_the_line_chooses(asked: Callable) -> None:
    assert "method.adapter." in asked("method=lora", "method.")
    assert "method.adapter.r=" in asked("method=lora", "method.adapter.")
    assert "method.adapter.r=" not in asked("method=ia3", "method.adapter.")
    assert {"recipe.epochs=", "recipe.eval_steps="} <= set(asked("recipe.e"))
    assert asked("dataset=sst2", "dataset.carve.f") == ["dataset.carve.fraction="]
    assert asked("overwrite=") == ["overwrite=true", "overwrite=false"]
    assert asked("save_adapters=f") == ["save_adapters=false"]


def test_a_commands_words_are_those_of_its_help(asked: Callable) -> None:
    assert set(asked("report", "")) >= {"results_dir=", "format=", "against="}
    assert asked("report", "method=lora_i") == ["method=lora_int8"]
    assert "method=" in asked("estimate", "")
    assert asked("help", "rep") == ["report", "reproduce"]
    assert set(asked("completion", "")) == {"bash", "zsh", "fish"}
    assert {"-m", "--config-dir"} <= set(asked("-"))


def test_ones_own_choices_are_among_them(asked: Callable, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine_alone.yaml").write_text("lr: 1\n")
    assert asked("--config-dir", str(tmp_path), "method=mine") == ["method=mine_alone"]
    assert asked("--config-dir", str(tmp_path / "nowhere"), "method=mine") == []


def test_no_shell_of_that_name(run_cli: Callable) -> None:
    for words in ([], ["tcsh"], ["bash", "zsh"]):
        status, _, err = run_cli("completion", *words)
        assert (status, len(err.splitlines())) == (2, 1)
        assert "allowed: bash, fish, zsh" in err


def test_nothing_slow_is_imported_for_it() -> None:
    """What takes long are Hydra, torch, YAML, the dataclasses; a start of Python alone is most of the rest."""
    code = (
        "import sys; from peftbench import cli; cli.main(['completion', 'candidates', 'method=lora,']);"
        "print(sorted({'torch', 'hydra', 'yaml', 'omegaconf', 'numpy', 'msgspec', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_candidates_come_in_less_than_three_tenths_of_a_second() -> None:
    """Of processor time, which doesn't tell how busy the machine is."""
    line = [sys.executable, "-m", "peftbench", "completion", "candidates", "method=lora,"]
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=60)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.3


@contextlib.contextmanager
def terminal(line: list[str], folder: Path) -> Iterator[int]:
    """A shell on a terminal of its own, in which `peftbench` is a command."""
    bin = folder / "bin"
    bin.mkdir()
    for name, words in {"peftbench": "-m peftbench", "python": ""}.items():
        (bin / name).write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {words} "$@"\n')
        (bin / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}
    main, other = pty.openpty()
    shell = subprocess.Popen(
        line, stdin=other, stdout=other, stderr=other, env=environment, cwd=folder, start_new_session=True
    )
    os.close(other)
    try:
        yield main
    finally:
        shell.kill()
        shell.wait()
        os.close(main)


def typed(shell: int, keys: str, until: str, seconds: float = 60) -> str:
    """All that a terminal shows from typing some keys on until a text is there."""
    os.write(shell, keys.encode())
    seen, end = "", time.monotonic() + seconds
    while until not in seen:
        ready, _, _ = select.select([shell], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{keys!r}: {until!r} didn't come: {seen!r}"
        seen += os.read(shell, 65536).decode(errors="replace")
    return seen


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash isn't installed")
@pytest.mark.parametrize("command", ["peftbench", "python -m peftbench"])
def test_tab_in_bash(tmp_path: Path, command: str) -> None:
    with terminal(["bash", "--norc", "--noprofile", "-i"], tmp_path) as shell:
        typed(shell, 'eval "$(peftbench completion bash)"; echo re"ady"\n', "\nready")
        typed(shell, f"{command} metho\t=linear\t", "=linear_probe ")  # method. and method= begin so.
        typed(shell, "\x15", "")
        typed(shell, f"{command} -m method=lora,prefix_f\t", ",prefix_full ")
        typed(shell, "\x15", "")
        typed(shell, f"{command} repo\t", "report ")
        typed(shell, "\x15", "")
        shown = typed(shell, f"{command} method=lora_\t\t", "lora_plus")
        assert "lora_int8" in shown
        (tmp_path / "records.d").mkdir()
        typed(shell, "\x15", "")
        typed(shell, f"{command} report results_dir=rec\t", "=records.d/")  # Paths are the shell's own.
        typed(shell, "\x15", "")
        typed(shell, "python rec\t", "records.d/")  # As is all else that python runs.


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh isn't installed")
def test_tab_in_zsh(tmp_path: Path) -> None:
    with terminal(["zsh", "-f", "-i"], tmp_path) as shell:
        typed(
            shell,
            "autoload -Uz compinit; compinit -u -D; unsetopt prompt_sp;"
            ' eval "$(peftbench completion zsh)"; echo re"ady"\n',
            "\nready",
        )
        typed(shell, "peftbench method=linear\t", "_probe")
        typed(shell, "\x15", "")
        typed(shell, "peftbench -m method=lora,prefix_f\t", "ull")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish isn't installed")
def test_tab_in_fish(tmp_path: Path) -> None:
    script = 'peftbench completion fish | source; complete --do-complete "{}"'
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    (tmp_path / "peftbench").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m peftbench "$@"\n')
    (tmp_path / "peftbench").chmod(0o755)
    for line, wanted in {
        "peftbench method=linear": ["method=linear_probe"],
        "peftbench -m method=lora,prefix_f": ["method=lora,prefix_full"],
        "peftbench repo": ["report"],
    }.items():
        command = ["fish", "--no-config", "-c", script.format(line)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == wanted, done.stderr
