"""tools/audit.py: known vulnerabilities fail it; no network, and a tool that breaks, do not."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "tools" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["audit.py", str(tmp_path)])
    return module


def stand_in(folder: Path, code: str) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    program.chmod(0o755)


FINE: dict[str, Any] = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "skip_reason": "local"},
    ]
}
FOUND = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
    ]
}


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (f"print({json.dumps(FINE)!r})", 0, "1 packages audited, 0 known"),
        (f"print({json.dumps(FOUND)!r}); sys.exit(1)", 1, "a 1: PYSEC-1, fixed in 2"),
        ("sys.exit('the service is down')", 0, "not audited: pip-audit's answer"),
        ("print('the service is down', file=sys.stderr); sys.exit(3)", 0, "not audited: "
                                                                          "pip-audit ended "
                                                                          "with 3: the service"),
        ("print('[]')", 0, "not audited"),
    ],
)  # fmt: skip
def test_what_pip_audit_answers(
    audit: ModuleType,
    code: str,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "reachable", lambda: True)
    stand_in(tmp_path, code)
    assert audit.main() == status
    assert said in capsys.readouterr().out


def test_without_a_network_nothing_is_installed(
    audit: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "HOST", "host.invalid")
    monkeypatch.setattr(audit, "reachable", lambda: False)
    assert audit.main() == 0
    assert capsys.readouterr().out == "not audited: host.invalid cannot be reached\n"
    assert not list(tmp_path.iterdir())


def test_a_host_that_does_not_answer(audit: ModuleType) -> None:
    assert not audit.reachable("host.invalid", 0.5)
