"""A Slurm cluster of this one machine, for tests: munge, a controller and a node, on own ports.

    with cluster(folder) as environment:
        subprocess.run(["sbatch", ...], env=environment)

It needs Debian's packages slurm-wlm and munge, and root, as a node starts jobs for any user. Run as
a script it keeps a cluster up until it is interrupted: `python -m tests.slurm FOLDER`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue")
_SECONDS = 60  # that a daemon may take to start
CONFIGURATION = """\
ClusterName=one-machine
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
GresTypes=gpu
MinJobAge=600
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be started here; "" if one can."""
    absent = [name for name in PROGRAMS if not _program(name)]
    if absent:
        return f"no {', '.join(absent)}: install slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "Slurm's node needs root"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it in `folder`; the environment that makes Slurm's commands use it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    # Munge refuses a socket in a folder that some cannot enter, as those of pytest are.
    munge = Path(tempfile.mkdtemp(prefix="munge-"))
    munge.chmod(0o755)
    key = munge / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    controller, node = _free_ports(2)
    # More than there is, so that the profile's requests, made for large nodes, can be met.
    values = {"host": host, "controller": controller, "node": node, "memory": 500_000}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, munge=munge, **values))
    # A device that is always there stands for the GPU: what is tested is that a job gets it.
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    # Snakemake's job steps drop SLURM_CONF; on a real cluster it has a default that is right.
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {_program("srun")} "$@"\n')
    srun.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{srun.parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    files = [f"--{kind}-file={munge}/{kind}" for kind in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", *files, f"--socket={munge}/socket"],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    daemons = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as output:
                daemons.append(
                    subprocess.Popen(
                        [str(_program(command[0])), *command[1:]],
                        env=environment,
                        stdout=output,
                        stderr=output,
                    )
                )
            time.sleep(1)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--state=RUNNING"], env=environment, check=False)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
        shutil.rmtree(munge)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    until = time.monotonic() + _SECONDS
    command = ["sinfo", "--noheader", "--format=%T"]
    while time.monotonic() < until:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.stdout.strip() in ("idle", "mixed"):
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"the cluster did not start: {done.stdout}{done.stderr}\n{logs}")


if __name__ == "__main__":
    with cluster(Path(sys.argv[1]).resolve()) as started:
        print(f"export SLURM_CONF={started['SLURM_CONF']}", flush=True)
        signal.pause()
