"""The machine's GPUs, and one for each run that is made at the same time."""

import contextlib
import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peftbench.system import files

_NVIDIA = Path("/proc/driver/nvidia/gpus")


def gpus() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    return [str(i) for i in range(len(list(_NVIDIA.iterdir())))] if _NVIDIA.is_dir() else []


@contextlib.contextmanager
def own_gpu(wanted: int) -> Iterator[None]:
    """Lets children see, while entered, as many GPUs as are wanted (0: those that this process sees), such that no
    other run of this user on this machine has, while there are. Each is a file with a lock of the kernel's, which its
    owner's death frees."""
    devices = gpus()
    if not wanted or len(devices) < 2 or wanted > len(devices):
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with contextlib.ExitStack() as stack:
        free = list(itertools.islice((device for device in devices if _lock(device, stack)), wanted))
        # All taken: more runs at a time were asked for than there are GPUs, and they share.
        first = os.getpid() % len(devices)
        others = [device for device in (*devices[first:], *devices[:first]) if device not in free]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join([*free, *others][:wanted])
        try:
            yield
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _lock(device: str, stack: contextlib.ExitStack) -> bool:
    folder = Path(tempfile.gettempdir(), f"peftbench-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        stream = stack.enter_context(files.open_lock(folder / f"gpu-{device.replace('/', '_')}.lock"))
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
