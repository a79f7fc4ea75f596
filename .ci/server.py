"""What the Python scripts in this folder share: commands, virtual environments, and a server that
runs as a child process. Every failure ends the script with its name and one sentence."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = Path(sys.argv[0]).name


def fail(message):
    sys.exit(f"{NAME}: {message}")


def run(command, **options):
    if subprocess.run(command, cwd=ROOT, **options).returncode != 0:
        fail(f"`{' '.join(map(str, command[:3]))} …` failed")


def target_directory():
    command = ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked", "--offline"]
    metadata = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(metadata)["target_directory"])


def is_installed(folder, packages):
    """True if `mark_installed` was called for the same packages. An interrupted installation has
    no mark, so it is started again."""
    mark = folder / "installed"
    return mark.exists() and mark.read_text() == "\n".join(packages)


def mark_installed(folder, packages):
    (folder / "installed").write_text("\n".join(packages))


def virtual_environment(folder, packages):
    """The folder of the programs of these PyPI packages, which are installed at most once."""
    if not is_installed(folder, packages):
        run([sys.executable, "-m", "venv", "--clear", folder])
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        run([*pip, "install", *packages])
        mark_installed(folder, packages)
    return folder / "bin"


@contextlib.contextmanager
def serving(command, **options):
    """Starts a server, yields the process and its address, `127.0.0.1:PORT`, and terminates it."""
    # Without a handler, SIGTERM would end this script before the `finally` below.
    signal.signal(signal.SIGTERM, lambda *_: fail("terminated"))
    server = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, **options
    )
    try:
        ready, _, _ = select.select([server.stderr], [], [], 10)
        line = server.stderr.readline().decode() if ready else ""
        _, found, address = line.strip().partition("listening on http://")
        if not found:
            fail(f"the server does not report its address: {line!r}")
        yield server, address
        if server.poll() is not None:
            fail(f"the server has ended with {server.returncode}")
        server.terminate()
        server.wait(10)
    finally:
        server.kill()
        server.wait()
