"""Studies on real servers: what a driver may rely on, and what an error says."""

import logging
import socket
import threading
from pathlib import Path

import pytest
import sqlalchemy
from database_rows import end_connections, rows_of
from driving import Driver, record_of, settings_of
from optuna.trial import TrialState as OptunaState
from tiny_runs import run_cli, write_space

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.checks.journals import trial_journal
from schedsearch.runs.checks.space_file import write_space as write_settings
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults
from schedsearch.search.dashboard import LONGEST_ATTRIBUTE, TrialPublisher
from schedsearch.search.recover import recover_run
from schedsearch.search.study.owner import open_own_study
from schedsearch.search.study.running import running_trials
from schedsearch.search.study.storage import open_artifacts, open_storage, open_study
from schedsearch.settings import StudySettings


def settings_in(url: str, name: str = "tiny", **search: object) -> StudySettings:
    return settings_of(name=name, search={"storage": url, **search})


def folder_of(root: Path, settings: StudySettings) -> RunFolder:
    folder = RunFolder(root)
    folder.create()
    RunIdentity(
        data="a", num_images=1, reference="b", num_reference_images=2, extractor="c"
    ).write(folder)
    write_settings(folder, settings)
    return folder


def test_a_driver_that_died_loses_nothing_and_doubles_nothing(
    database: str, tmp_path: Path
) -> None:
    settings = settings_in(database)
    driver = Driver(tmp_path, settings)
    driver.prepare([9] * 10, [8] * 10, [7] * 10)
    done, unrecorded, dead = driver.ask(), driver.ask(), driver.ask()
    record = driver.answer(done, fid=0.1 + 0.2)
    driver.write_record(record_of(unrecorded.number, unrecorded.schedule.depths))
    again = Driver(tmp_path, settings)
    again.prepare()
    assert again.numbers(OptunaState.COMPLETE) == [done.number, unrecorded.number]
    assert again.numbers(OptunaState.FAIL) == [dead.number]
    assert again.trials()[done.number].values == list(record.evaluation.values)  # type: ignore[union-attr]
    assert again.ask().schedule.depths == dead.schedule.depths
    assert not driver.folder.study_file.exists()


def test_two_folders_share_a_server_but_no_study(database: str, tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", settings_in(database))
    running = open_own_study(ours, settings_in(database)).ask()
    before = rows_of(database)
    with pytest.raises(StorageError, match=r"Change name or search\.storage") as caught:
        open_own_study(folder_of(tmp_path / "same", settings_in(database)), settings_in(database))
    assert sqlalchemy.make_url(database).render_as_string() in str(caught.value)
    assert rows_of(database) == before
    theirs = settings_in(database, name="other")
    driver = Driver(tmp_path / "theirs", theirs)
    driver.prepare()
    driver.ask()
    Driver(tmp_path / "theirs", theirs).prepare()  # takes its own open trials for dead
    assert running_trials(ours, settings_in(database)) == [running.number]
    assert running_trials(driver.folder, theirs) == []
    assert running_trials(ours, settings_in(database, name="Tiny")) == []


def test_status_reads_only(database: str, tmp_path: Path) -> None:
    settings = settings_in(database)
    assert running_trials(RunFolder(tmp_path), settings) == []
    assert rows_of(database) == {}
    Driver(tmp_path, settings).optuna.ask()
    before = rows_of(database)
    assert running_trials(RunFolder(tmp_path), settings) == [0]
    assert rows_of(database) == before


def test_drivers_that_start_together_make_the_tables_once(database: str, tmp_path: Path) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def start(number: int) -> None:
        barrier.wait()
        try:
            open_study(open_storage(RunFolder(tmp_path), database), f"study-{number}").ask()
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    drivers = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in drivers:
        thread.start()
    for thread in drivers:
        thread.join()
    assert failures == []
    found = rows_of(database)
    assert len(found["studies"]) == len(found["trials"]) == 4
    assert len(found["alembic_version"]) == 1


def test_a_connection_that_the_server_closed_is_opened_again(
    database: str, tmp_path: Path
) -> None:
    driver = Driver(tmp_path, settings_in(database))
    driver.prepare()
    job = driver.ask()
    end_connections(database)
    driver.answer(job)
    assert driver.numbers(OptunaState.COMPLETE) == [job.number]


def test_recovery_of_a_study(database: str, tmp_path: Path) -> None:
    settings = settings_in(database, n_trials=600)
    folder = folder_of(tmp_path / "run", settings)
    open_own_study(folder, settings).ask()  # what the record does not know goes
    other = open_study(open_storage(folder, database), "other")
    other.ask()
    schedules = [[10 - n // 100] * (n // 10 % 10) + [4] * (10 - n // 10 % 10) for n in range(600)]
    records = [record_of(n, d, n / 7 if n % 10 == 0 else None) for n, d in enumerate(schedules)]
    journal = trial_journal(folder, settings)
    for record in records:
        journal.append(record)
    before = rows_of(database)["trials"]

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover_run(folder, interrupt)
    assert rows_of(database)["trials"] == before  # all in one transaction
    assert recover_run(folder, lambda _: None).num_trials == 600
    study = open_own_study(folder, settings)
    told = [trial.values for trial in study.get_trials(states=[OptunaState.COMPLETE])]
    assert told == [list(r.evaluation.values) for r in records if r.evaluation is not None]
    assert len(study.trials) == 600
    assert [trial.state.name for trial in other.trials] == ["RUNNING"]


def test_long_names_and_attributes(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_in(database, name="n" * 100)
    driver = Driver(tmp_path, settings)
    driver.prepare()
    driver.optuna.set_user_attr("k" * 500, "\N{BALLOON} ä" * 2000)
    job = driver.ask()
    driver.answer(job, None, reason="r" * 2000, stage="fine-tune")
    publisher = TrialPublisher(driver.optuna, open_artifacts(driver.folder), driver.folder)
    results = RunResults(settings, driver.study.finished.records, None, [])
    fits, too_long = "f" * (LONGEST_ATTRIBUTE - 2), "t" * LONGEST_ATTRIBUTE
    with caplog.at_level(logging.WARNING):
        publisher.publish_study(results, {"fits": fits, "too long": too_long})
    assert "study attribute too long is too long" in caplog.text
    again = Driver(tmp_path, settings)
    assert again.optuna.user_attrs == {"k" * 500: "\N{BALLOON} ä" * 2000, "fits": fits}
    assert again.trials()[job.number].user_attrs["reason"] == "r" * 2000


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_check_says_in_one_line_why_a_database_cannot_be_used(
    database: str, closed_port: int, tmp_path: Path
) -> None:
    url = sqlalchemy.make_url(database)
    cases = {
        "assword|denied": url.set(password="wr{o}ng/'%@pw"),
        "no_such_database": url.set(database="no_such_database"),
        "refused": url.set(port=closed_port),
        "foo": url.update_query_dict({"foo": "1"}),
    }
    for words, wrong in cases.items():
        text = wrong.render_as_string(hide_password=False)
        done = run_cli("check", write_space(tmp_path, search={"storage": text}))
        assert done.code == 2, words
        assert done.err.count("\n") == 1
        assert any(word in done.err for word in words.split("|")), done.err
        for password in (url.password, wrong.password, text.split(":")[2].split("@")[0]):
            assert str(password) not in done.out + done.err
    done = run_cli("check", write_space(tmp_path, search={"storage": database}))
    assert done.code == 0, done.err
    assert rows_of(database) == {}


def test_any_character_may_stand_in_a_password(database: str, tmp_path: Path) -> None:
    url, password = sqlalchemy.make_url(database), "a{b}'\"/@:? "
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    quoted, user = password.replace("'", "''"), url.database
    is_postgresql = url.get_backend_name() == "postgresql"
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE USER {user} SUPERUSER PASSWORD '{quoted}'"
            if is_postgresql
            else f"GRANT ALL ON {user}.* TO {user} IDENTIFIED BY '{quoted}'"
        )
    text = url.set(username=user, password=password).render_as_string(hide_password=False)
    raw = run_cli("check", write_space(tmp_path, search={"storage": text}))
    assert (raw.code, "Percent-encode" in raw.err, "a{b}" in raw.err) == (2, True, False)
    text = text.replace(" ", "%20")
    settings = settings_in(text)
    done = run_cli("check", write_space(tmp_path, search={"storage": text}))
    assert done.code == 0, done.err
    Driver(tmp_path / "run", settings).prepare()
    assert running_trials(RunFolder(tmp_path / "run"), settings) == []
    with engine.connect() as connection:
        if is_postgresql:
            connection.exec_driver_sql(f"DROP OWNED BY {user}")
        connection.exec_driver_sql(f"DROP USER {user}")
    engine.dispose()
