"""Hydra's own keys in a file from elsewhere: nothing is called, and nothing written outside the results folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from peftbench.config import hydra_guard, hydra_guard_launcher
from peftbench.errors import ConfigError
from peftbench.sweep import cells
from peftbench.sweep.cells import plan as plan_cells

Plan = Callable[..., cells.Cells]
ROOT = "root: {handlers: [x]}"
LOGGED = "job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, mode: w, filename: '%s'}}, " + ROOT + "}"
CALLBACK = "hydra.experimental.callbacks.LogJobReturnCallback"

#: What a file says below `hydra:`, and the key that the refusal names.
REFUSED = [
    (LOGGED % "/tmp/x.log", "hydra.job_logging.handlers.x.filename"),
    (LOGGED % "r/../x.log", "hydra.job_logging.handlers.x.filename"),
    (LOGGED % "r/records/x.json", "hydra.job_logging.handlers.x.filename"),
    (LOGGED % "${hydra.runtime.output_dir}/../../../x.log", "hydra.job_logging.handlers.x.filename"),
    (LOGGED % "${hydra.runtime.output_dir}//tmp/x.log", "hydra.job_logging.handlers.x.filename"),
    (LOGGED % "${oc.env:HOME}/x.log", "hydra.job_logging.handlers.x.filename"),
    ((LOGGED % "/tmp/x.log").replace("job_", "hydra_"), "hydra.hydra_logging.handlers.x.filename"),
    (f"job_logging: {{version: 1, handlers: {{x: {{class: logging.os.system, command: id}}}}, {ROOT}}}", "x.class"),
    (f"job_logging: {{version: 1, handlers: {{x: {{class: logging.handlers.HTTPHandler}}}}, {ROOT}}}", "x.class"),
    (f"job_logging: {{version: 1, handlers: {{x: {{(): logging.os.abort}}}}, {ROOT}}}", "hydra.job_logging.handlers"),
    ("job_logging: {version: 1, handlers: {x: {class: logging.StreamHandler, .: {a: b}}}}", "handlers.x"),
    ("job_logging: {version: 1, handlers: {x: {class: logging.StreamHandler, stream: 'ext://os.x'}}}", "x.stream"),
    ("job_logging: {version: 1, handlers: {x: {class: logging.NullHandler, level: 'ext://os.x'}}}", "x.level"),
    ("job_logging: {version: 1, formatters: {x: {class: logging.os.system}}}", "formatters.x.class"),
    ("job_logging: {version: 1, filters: {x: {(): logging.os.system}}}", "hydra.job_logging.filters.x"),
    ("job_logging: '${evil}'", "hydra.job_logging=${evil}"),
    ("output_subdir: ../../../outside", "hydra.output_subdir"),
    ("output_subdir: /outside", "hydra.output_subdir"),
    ("callbacks: {x: {_target_: peftbench.cli.main, argv: [report]}}", "hydra.callbacks.x._target_=peftbench.cli.main"),
    ("callbacks: {x: {_target_: hydra.core.utils.os.system, command: id}}", "hydra.callbacks.x._target_"),
    ("callbacks: {x: '${evil}'}", "hydra.callbacks.x"),
    (f"callbacks: {{x: {{_target_: {CALLBACK}, a: {{_target_: os.abort}}}}}}", "hydra.callbacks.x: allowed"),
    ("sweeper: {_target_: hydra.core.utils.os.system}", "hydra.sweeper._target_"),
    ("sweeper: {params: {hydra.run.dir: /tmp}}", "hydra.sweeper.params.hydra.run.dir"),
    ("sweeper: {params: {+hydra.launcher.setup: id}}", "hydra.sweeper.params.+hydra.launcher.setup"),
    ("sweeper: {params: {hydra/launcher: joblib}}", "hydra.sweeper.params.hydra/launcher"),
    ("launcher: {_target_: hydra.core.utils.os.system}", "hydra.launcher._target_"),
    ("run: {dir: '${results_dir}/../x'}", "hydra.run.dir=r/../x"),
    ("run: {dir: '${evil.${oc.select:hydra.job.num,good}}'}", "hydra.run.dir"),
    ("sweep: {dir: /outside}", "hydra.sweep.dir=/outside"),
    ("sweep: {subdir: '${evil}'}", "hydra.sweep.subdir=${evil}"),
    ("sweep: {subdir: x/../../..}", "hydra.sweep.subdir"),
    ("overrides: {hydra: ['hydra.run.dir=/tmp']}", "hydra.overrides.hydra"),
    ("overrides: {task: ['seed=3']}", "hydra.overrides.task"),
    ("runtime: {output_dir: /outside}", "hydra.runtime.output_dir"),
    ("searchpath: ['file:///tmp']", "hydra.searchpath"),
    ("job: {name: ../x}", "hydra.job.name"),
    ("job: {num: 3}", "hydra.job.num"),
    ("job: {config: {override_dirname: {kv_sep: /../../}}}", "override_dirname.kv_sep"),
    ("job: {env_set: {CXX: /tmp/x}}", "hydra.job.env_set.CXX"),
    ("job: {env_set: {WANDB_BASE_URL: 'http://evil'}}", "hydra.job.env_set.WANDB_BASE_URL"),
    ("job: {env_set: {NCCL_DEBUG_FILE: /tmp/x}}", "hydra.job.env_set.NCCL_DEBUG_FILE"),
    ("job: {env_set: {TZ: /tmp/x}}", "hydra.job.env_set.TZ"),
    ("job: {env_copy: [HOME]}", "HOME"),
    ('help: {header: "\\e[2J"}', "hydra.help.header"),
    ("help: {header: '${oc.env:HOME}'}", "hydra.help.header"),
]
ALLOWED = [
    LOGGED % "${hydra.runtime.output_dir}/${hydra.job.name}.log",
    LOGGED % "r/logs/x.log",
    LOGGED % "${results_dir}/x.log",
    f"job_logging: {{version: 1, handlers: {{x: {{class: logging.StreamHandler, stream: ext://sys.stderr}}}}, {ROOT}}}",
    f"callbacks: {{x: {{_target_: {CALLBACK}}}}}",
    "output_subdir: .hydra",
    "run: {dir: '${results_dir}/logs/${now:%Y-%m-%d}'}",
    "sweep: {subdir: '${hydra.job.num}/x'}",
    "sweeper: {params: {seed: '1,2'}}",
    "job: {env_set: {OMP_NUM_THREADS: 2, CUDA_VISIBLE_DEVICES: '0,1'}}",
    "mode: MULTIRUN",
    "verbose: true",
]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Composes the command line of a user with an experiment from elsewhere."""
    monkeypatch.chdir(tmp_path)

    def compose_it(hydra: str, *words: str) -> cells.Cells:
        evil = "evil: {good: r/logs}\n" if "${evil" in hydra else ""
        file = tmp_path / "conf" / "experiment" / "e.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\n{evil}hydra: {{{hydra}}}\n")
        line = ["model=tiny_bert", "dataset=demo", "experiment=e", "results_dir=r", *words]
        return plan_cells(line, multirun=False, config_dirs=[tmp_path / "conf"])

    return compose_it


@pytest.mark.parametrize(("hydra", "named"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_file_neither_calls_code_nor_writes_elsewhere(plan: Plan, hydra: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(hydra)
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("hydra", ALLOWED)
def test_what_harms_nobody_is_taken(plan: Plan, hydra: str) -> None:
    assert plan(hydra).cells


@pytest.mark.parametrize(
    "words",
    [
        "hydra/job_logging=default hydra/hydra_logging=default",
        "hydra/job_logging=stdout hydra.output_subdir=.hydra",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra/launcher=joblib hydra.launcher.n_jobs=2",
        "hydra/launcher=joblib hydra.launcher.temp_folder=/tmp hydra.launcher.pre_dispatch=all",
    ],
)
def test_hydras_own_choices_go_on_working(plan: Plan, words: str) -> None:
    assert plan("mode: null", *words.split()).cells


def test_a_file_sets_a_launchers_sizes_alone(plan: Plan) -> None:
    assert plan("launcher: {n_jobs: 3}", "hydra/launcher=joblib").cells
    with pytest.raises(ConfigError, match="hydra.launcher.temp_folder: only the command line may set it"):
        plan("launcher: {temp_folder: /tmp/x}", "hydra/launcher=joblib")


def test_a_swept_experiment_is_looked_at_too(plan: Plan, tmp_path: Path) -> None:
    plan("mode: null")
    (tmp_path / "conf" / "experiment" / "f.yaml").write_text("# @package _global_\nhydra: {output_subdir: ../x}\n")
    with pytest.raises(ConfigError, match="hydra.output_subdir"):
        plan("mode: null", "experiment=e,f")


def test_showing_a_configuration_is_looked_at_too(run_cli, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        plan("output_subdir: ../x")
    status, _, err = run_cli(f"--config-dir={tmp_path / 'conf'}", "experiment=e", "model=tiny_bert", "--cfg", "job")
    assert (status, len(err.strip().splitlines())) == (2, 1)


def test_every_key_of_hydras_is_looked_at() -> None:
    assert set(OmegaConf.structured(HydraConf)) - {"defaults"} <= set(hydra_guard.CHECKS)


SLURM = {
    "_target_": "hydra_plugins.slurm.SlurmLauncher",
    "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
    "partition": None,
    "name": "${hydra.job.name}",
    "setup": None,
    "additional_parameters": {},
    "ray": {"init": {"address": None}},
}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Checks a launcher's arguments that a cluster's plugin has: changes over its own, and keys that were typed."""
    kind = type("SlurmLauncher", (), {"__module__": "hydra_plugins.slurm"})
    store = ConfigStore.instance()
    monkeypatch.setattr(Plugins.instance(), "discover", lambda of: [kind])
    monkeypatch.setattr(store, "repo", {})
    store.store(group="hydra/launcher", name="slurm", node=OmegaConf.create(SLURM))

    def check(changes: dict[str, Any], *typed: str) -> None:
        raw = OmegaConf.to_container(OmegaConf.merge(SLURM, changes), resolve=False)
        node = OmegaConf.create({"launcher": raw, "sweep": {"dir": "r/s"}})
        hydra_guard_launcher.check(
            raw,
            value=lambda key: OmegaConf.select(node, key),
            typed=dict.fromkeys(typed),
            inside=lambda folder: hydra_guard.within(folder, "r"),
            check_text=hydra_guard.check_text,
        )

    return check


def test_what_a_shell_reads_comes_from_the_command_line_alone(slurm: Callable[..., None]) -> None:
    slurm({})
    slurm({"partition": "gpu,long", "submitit_folder": "r/x"})
    for name, value in {
        "setup": ["id"],
        "additional_parameters.output": "/elsewhere",
        "python": "id",
        "ray.init.address": "auto",
        "ray.init.runtime_env": {"pip": ["x"]}["pip"],
    }.items():
        changes: Any = OmegaConf.create()
        OmegaConf.update(changes, name, value)
        with pytest.raises(ConfigError, match=f"hydra.launcher.{name}: only the command line may set it"):
            slurm(changes)
        slurm(changes, f"hydra.launcher.{name}")


def test_a_typed_dictionary_lets_no_key_of_a_file_through(slurm: Callable[..., None]) -> None:
    """Hydra merges what is typed into what a file says."""
    with pytest.raises(ConfigError, match="additional_parameters.output"):
        slurm({"additional_parameters": {"output": "/x", "time": 5}}, "hydra.launcher.additional_parameters.time")


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": "x\nrm -rf ~"},
        {"partition": "$(id)"},
        {"partition": "`id`"},
        {"partition": ["x"]},
        {"submitit_folder": "/elsewhere"},
        {"name": "${oc.env:HOME}"},
        {"x": {"_target_": "os.system"}},
        {"x": [{"_target_": "os.system"}]},
        {"_args_": ["id"]},
    ],
)
def test_nor_may_a_launchers_arguments_break_out(slurm: Callable[..., None], changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        slurm(changes)
    typed = [f"hydra.launcher.{name}" for name in ("x", "x._target_", "_args_")]
    if set(changes) & {"x", "_args_"}:
        with pytest.raises(ConfigError, match="allowed is no _target_"):
            slurm(changes, *typed)
