"""The URL of a storage with a password is refused, however it is written, and the message does not repeat it."""

import itertools

import pytest
from sqlalchemy import make_url

from progrpo_cli.errors import RequestError
from progrpo_cli.studies.storage import check_url

SECRET = "tr0ub4dor"


@pytest.mark.parametrize(
    "rest",
    [
        f"me:{SECRET}@host/db",
        f"me:{SECRET}/x@host/db",
        f"me:{SECRET}#x@host/db",
        f"me:{SECRET}?x@host/db",
        f"me:/{SECRET}@host/db",
        f"me:x@{SECRET}@host/db",
        f"me@corp:{SECRET}@host/db",
        f":{SECRET}@host/db",
        f"me%3A{SECRET}@host/db",
        f"/me:{SECRET}@host/db",
        f"me@host/db?password={SECRET}",
        f"me@host/db?sslmode=require&pass%77ord={SECRET}",
        f"me@host/db?PassWord={SECRET}",
        f"me@host/db#?password={SECRET}",
        f"me@host/db?sslpassword={SECRET}",
        f"me@host/db?oauth_client_secret={SECRET}",
        f"me@host/db?conninfo=host%3Dhost%20password%3D{SECRET}",
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql+psycopg://", "postgresql://", "sqlite://me@"])
def test_a_password_is_refused_and_not_repeated(scheme: str, rest: str) -> None:
    with pytest.raises(RequestError, match="PGPASSWORD") as refused:
        check_url(scheme + rest, workers=1)
    assert SECRET not in str(refused.value)


def test_every_url_in_which_sqlalchemy_finds_a_password_is_refused() -> None:
    letters = "a:/?#@%&=;"
    refused = 0
    for inner in itertools.product(letters, repeat=4):
        url = f"postgresql+psycopg://{''.join(inner)}@host/db"
        try:
            has_password = make_url(url).password is not None
        except ValueError:
            continue
        if has_password:
            refused += 1
            with pytest.raises(RequestError):
                check_url(url, workers=1)
    assert refused > 1000


@pytest.mark.parametrize(
    "url",
    [
        None,
        "postgresql+psycopg://me@host/db",
        "postgresql+psycopg://me@host:5432/db",
        "postgresql+psycopg://host/db?passfile=/home/me/.password&sslmode=require",
        "postgresql+psycopg://me%40corp@host:5432/db?options=-c%20search_path%3Dsweeps",
        "postgresql+psycopg:///db?host=/run/postgresql",
        "sqlite:///study.db",
        "sqlite:////data/10:30/me@home/study.db",
    ],
)
def test_a_url_without_a_password_is_accepted(url: str | None) -> None:
    check_url(url, workers=1)


@pytest.mark.parametrize(
    "url", [SECRET, f"{SECRET} ://host/db", f"{SECRET}:x/db", "", "postgresql+psycopg://host:x/db"]
)
def test_text_that_is_not_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(RequestError, match=r"USER@HOST") as refused:
        check_url(url, workers=1)
    assert SECRET not in str(refused.value)
