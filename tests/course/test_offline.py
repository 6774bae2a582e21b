"""The offline block bites in this process, in its children and inside a notebook's kernel; loopback passes."""

import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from kernels import run
from nbformat.v4 import new_code_cell, new_notebook

OUTSIDE = "192.0.2.1"  # RFC 5737: an address that belongs to nobody
ATTEMPTS = {
    "connect": f"import socket; socket.create_connection(('{OUTSIDE}', 80), timeout=1)",
    "connect_ex": f"import socket; socket.socket().connect_ex(('{OUTSIDE}', 80))",
    "look-up": "import socket; socket.getaddrinfo('example.org', 80)",
    "old look-up": "import socket; socket.gethostbyname('example.org')",
    "datagram": f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{OUTSIDE}', 53))",
    "page": "import urllib.request; urllib.request.urlopen('http://example.org')",
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_block_bites_here(attempt):
    with pytest.raises(OSError, match="offline: socket.* is blocked"):
        exec(attempt, {})


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_block_bites_in_a_child(attempt):
    child = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert "offline: socket." in child.stderr


def test_block_bites_in_a_kernel(tmp_path: Path, monkeypatch):
    """Also where no test has set PYTHONPATH: whoever runs a notebook by `run` sets it."""
    monkeypatch.delenv("PYTHONPATH")
    guard = "try:\n    {}\nexcept OSError as error:\n    print(error)\nelse:\n    print('got out')"
    cells = [new_code_cell(guard.format(attempt), id=f"try-{i}") for i, attempt in enumerate(ATTEMPTS.values())]
    notebook = nbformat.from_dict(new_notebook(cells=cells))
    run(notebook, tmp_path)
    printed = [cell.outputs[0].text for cell in notebook.cells]
    assert len(printed) == len(ATTEMPTS)
    assert all("offline: socket." in text and "is blocked" in text for text in printed), printed


def test_loopback_and_unix_sockets_pass(tmp_path: Path):
    for host in ("127.0.0.1", "localhost"):
        with socket.create_server((host, 0)) as server, socket.create_connection(server.getsockname()[:2], timeout=2):
            pass
    near, far = socket.socketpair()
    near.sendall(b"x")
    assert far.recv(1) == b"x"
    near.close()
    far.close()
