"""Bad settings are refused at the start: by name, and with what to write instead."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from backup_service.settings import BackupServiceSettings
from cli.remote import Remote
from restore_service.recipient.keys import RecipientKeys
from restore_service.settings import RestoreServiceSettings
from serving.start import start
from shared.database import check_version
from shared.errors import StackUnsupportedServer, UnknownSetting, UsageError
from shared.secretfiles import write_secret_file
from shared.settings import Section, load_settings
from shared.storage import LocalFolder
from tests.unit.test_settings import backup_document

TLS = {"tls_cert_file": "/cert", "tls_key_file": "/key"}
Change = Callable[[dict[str, Any]], object]

# What an operator got wrong; what names it; what says the right thing.
REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a misspelled name": (
        lambda d: d["kafka"].update(boostrap="b:9092"),
        ("kafka.boostrap: there is no such setting", "did you mean kafka.bootstrap?"),
    ),
    "a name of another section": (
        lambda d: d["http"].update(bootstrap="b:9092"),
        ("http.bootstrap: there is no such setting", "did you mean kafka.bootstrap?"),
    ),
    "a name that is like none": (
        lambda d: d["http"].update(colour="red"),
        ("http.colour: there is no such setting",),
    ),
    "one that is missing": (
        lambda d: d["postgres"].pop("dsn"),
        ("postgres.dsn: it is required", "libpq connection string"),
    ),
    "a database's address that is none": (
        lambda d: d["postgres"].update(dsn="postgresql://backup:hunter2@[/secryn"),
        ("postgres.dsn: ", "write postgresql://USER@HOST:PORT/DATABASE"),
    ),
    "a broker's address that is a URL": (
        lambda d: d["kafka"].update(bootstrap="kafka://broker:9092"),
        ("kafka.bootstrap: ", "write HOST:PORT"),
    ),
    "a broker's address without a port": (
        lambda d: d["kafka"].update(bootstrap="one:9092, two"),
        ("kafka.bootstrap: ", "write HOST:PORT"),
    ),
    "a user without a password": (
        lambda d: d["kafka"].update(username="backup"),
        ("kafka: ", "username and password_file are named together"),
    ),
    "a user where nobody logs in": (
        lambda d: d["kafka"].update(
            username="u", password_file="/p", security_protocol="PLAINTEXT"
        ),
        ("kafka: ", "write SASL_SSL or SASL_PLAINTEXT"),
    ),
    "certificates where nobody speaks TLS": (
        lambda d: d["kafka"].update(tls_ca_file="/ca"),
        ("kafka: ", "write SASL_SSL or SSL"),
    ),
    "a page's address that contradicts how the service speaks": (
        lambda d: (d["http"].update(TLS), d.update(web={"backup_url": "http://backup:8470"})),
        ("web.backup_url begins with http://", "write https://"),
    ),
    "a provider that sends people to where no page is": (
        lambda d: d.update(
            web={"backup_url": "https://backup", "restore_url": "https://restore"},
            access={
                "oidc": {
                    "issuer": "https://id",
                    "client_id": "secryn",
                    "redirect_url": "https://bakcup/api/v1/session/oidc/callback",
                }
            },
        ),
        (
            "access.oidc.redirect_url is neither at web.backup_url nor at web.restore_url",
            "write https://backup/api/v1/session/oidc/callback",
        ),
    ),
    "a page's address that is none": (
        lambda d: d.update(web={"restore_url": "restore:8471"}),
        ("web.restore_url: ",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_is_refused_by_name_with_what_to_write(tmp_path: Path, case: str) -> None:
    change, told = REFUSED[case]
    document = backup_document(tmp_path)
    change(document)
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(document))
    with pytest.raises(UnknownSetting) as refused:
        load_settings(BackupServiceSettings, path, {})
    for words in told:
        assert words in refused.value.message
    assert "hunter2" not in refused.value.message


def test_a_variable_is_named_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(backup_document(tmp_path)))
    with pytest.raises(UnknownSetting) as refused:
        load_settings(BackupServiceSettings, path, {"SECRYN_POSTGRES__DNS": "host=h"})
    assert "postgres.dns: there is no such setting; did you mean postgres.dsn?" in str(
        refused.value
    )
    assert "SECRYN_POSTGRES__DNS" in str(refused.value)


# What is in the files and folders that settings name


def whole(folder: Path) -> Path:
    """Write settings whose files all are there; return their file."""
    document = backup_document(folder)
    for name in ("root.key", "signing.key", "signers.toml", "issuers.toml", "token"):
        write_secret_file(folder / name, b"00" * 32)
    path = folder / "settings.toml"
    path.write_text(tomli_w.dumps(document))
    return path


@pytest.fixture(autouse=True)
def _own_signals(own_signals: None) -> None:
    """A start listens to signals."""


def started(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: frozenset[str] = frozenset()
) -> list[Section]:
    """Start a process of these settings; return what it ran with."""
    ran: list[Section] = []

    def run(settings: Section) -> int:
        ran.append(settings)
        return 0

    monkeypatch.setattr("sys.argv", ["service", "--config", str(path)])
    code = start("service", BackupServiceSettings, run, read_only=read_only)
    assert code == (0 if ran else UnknownSetting.exit_code)
    return ran


def test_settings_whose_files_are_there_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(whole(tmp_path), monkeypatch)


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("root.key", "place.root_key_file"),
        ("signing.key", "place.signing_key_file"),
        ("issuers.toml", "place.issuers_file"),
        ("token", "http.token_file"),
    ],
)
def test_a_missing_or_an_open_secret_file_is_refused_by_its_setting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    setting: str,
) -> None:
    path = whole(tmp_path)
    (tmp_path / file).chmod(0o644)
    assert not started(path, monkeypatch)
    told = capsys.readouterr().err
    assert f"{setting}: " in told
    assert "can be read by others" in told
    (tmp_path / file).unlink()
    assert not started(path, monkeypatch)
    told = capsys.readouterr().err
    assert f"{setting}: " in told
    assert str(tmp_path / file) in told
    assert "settings.invalid" in told


PASSFILE_DSNS = (
    "host=h dbname=d passfile='{}'",
    "postgresql://u@h/d?passfile={}",
)


@pytest.mark.parametrize("dsn", PASSFILE_DSNS, ids=["a string", "a URL"])
@pytest.mark.parametrize(
    ("mode", "why"), [(None, "cannot be read"), (0o640, "can be read by others")],
    ids=["missing", "open"],
)  # fmt: skip
def test_a_password_file_that_libpq_passes_over_is_refused_by_its_setting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dsn: str,
    mode: int | None,
    why: str,
) -> None:
    path, passfile = whole(tmp_path), tmp_path / "passfile"
    document = tomllib.loads(path.read_text())
    document["postgres"]["dsn"] = dsn.format(passfile)
    path.write_text(tomli_w.dumps(document))
    if mode is not None:
        passfile.write_text("*:*:*:*:hunter2\n")
        passfile.chmod(mode)
    assert not started(path, monkeypatch)
    told = capsys.readouterr().err
    assert f"postgres.dsn (passfile): the secret file {passfile} {why}" in told
    assert "hunter2" not in told
    write_secret_file(passfile, b"*:*:*:*:hunter2", exist_ok=True)
    assert started(path, monkeypatch)


def without_writing(monkeypatch: pytest.MonkeyPatch, *closed: Path) -> None:
    """Let the system say of ``closed`` that they cannot be written.

    Whoever is root may write everywhere: so nothing else but the system's answer is changed.
    """
    allowed = os.access
    monkeypatch.setattr(
        "os.access",
        lambda path, mode: allowed(path, mode) and not (path in closed and mode & os.W_OK),
    )


def test_every_folder_that_cannot_be_written_is_named_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = whole(tmp_path)
    document = tomllib.loads(path.read_text())
    folders = {f"{name}.folder": Path(document[name]["folder"]) for name in ("storage", "keys")}
    without_writing(monkeypatch, *folders.values())
    assert not started(path, monkeypatch)
    told = capsys.readouterr().err
    for setting, folder in folders.items():
        assert f"{setting}: the folder {folder} cannot be written" in told
    assert f"the user {os.geteuid()} may use" in told


def test_a_folder_that_is_only_read_need_not_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = whole(tmp_path)
    document = tomllib.loads(path.read_text())
    without_writing(monkeypatch, *(Path(document[name]["folder"]) for name in ("storage", "keys")))
    assert not started(path, monkeypatch, read_only=frozenset({"storage.folder"}))
    told = capsys.readouterr().err
    assert "keys.folder: " in told
    assert "storage.folder: " not in told


@pytest.mark.parametrize(
    "use", [LocalFolder, lambda folder: RecipientKeys(folder, 60)], ids=["storage", "recipients"]
)
def test_a_folder_that_cannot_be_written_is_refused_by_name(
    use: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    without_writing(monkeypatch, closed)
    with pytest.raises(UnknownSetting, match="closed cannot be written") as refused:
        use(closed)
    assert f"user {os.geteuid()}" in refused.value.advice


def test_a_storage_that_is_only_read_need_not_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.access
    monkeypatch.setattr("os.access", lambda path, mode: allowed(path, mode) and not mode & os.W_OK)
    assert LocalFolder(tmp_path, writable=False).location == f"file:{tmp_path}"


# Servers


def test_a_postgresql_that_is_too_old_is_refused_with_the_oldest_that_works() -> None:
    check_version(140_000)
    with pytest.raises(StackUnsupportedServer, match="PostgreSQL is 13, and 14 or newer"):
        check_version(130_022)


# Addresses on the command line


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("backup.example.org", "is not the address of a service"),
        ("ftp://backup", "is not the address of a service"),
        ("https://backup/api/v1", "names more than a service"),
        ("https://backup?x=1", "names more than a service"),
        ("https://me:hunter2@backup", "names a user or a password"),
    ],
)
def test_an_address_that_is_none_is_refused_and_a_password_not_repeated(
    url: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        _ = Remote(url="https://backup", restore_url=url).urls
    assert "hunter2" not in f"{refused.value} {refused.value.advice}"
    assert "https://" in refused.value.advice


def test_a_certificate_file_that_holds_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"ca\.pem"):
        Remote(ca_file=tmp_path / "ca.pem").trusted()


def test_restore_services_settings_hold_the_same(tmp_path: Path) -> None:
    document = backup_document(tmp_path)
    for name in ("storage", "keys"):
        del document[name]
    document |= {
        "storage": {"folder": "/s"}, "uploads": {"folder": "/u"}, "recipients": {"folder": "/r"},
        "bootstrap_file": "/b", "web": {"restore_url": "http://restore"},
    }  # fmt: skip
    document["http"] |= TLS
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(document))
    with pytest.raises(UnknownSetting, match=r"web\.restore_url begins with http://"):
        load_settings(RestoreServiceSettings, path, {})
