"""Ask every component that the environment names whether it answers, and say so in a line each; `helm test` runs this.

ASK_<COMPONENT> says where: host:port of brokers and Redis, parameters of a database, a URL of all else.
PASSWORD_<COMPONENT> is its password. Exit code 1 when one did not answer within TIMEOUT_S.
"""  # noqa: INP001 - a script of the chart, not a module

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable

import psycopg2
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_ANSWER_S = 5
_PAUSE_S = 1


class NoAnswer(Exception):
    """What was wrong with the answer."""


def ask_kafka(where: str, password: str) -> None:
    """Ask for the cluster's brokers."""
    del password
    client = AdminClient({"bootstrap.servers": where, "log_level": 0})
    if not client.list_topics(timeout=_ANSWER_S).brokers:
        raise NoAnswer("no broker is registered")


def ask_database(where: str, password: str) -> None:
    """Ask a question as the user that feeds write with."""
    connection = psycopg2.connect(where, password=password, connect_timeout=_ANSWER_S)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def ask_redis(where: str, password: str) -> None:
    """Log in and ping."""
    host, _, port = where.partition(":")
    with socket.create_connection((host, int(port)), timeout=_ANSWER_S) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1024), b"")).split(b"\r\n")
    if b"+PONG" not in answer:
        raise NoAnswer(f"it answered {answer[0].decode(errors='replace')}")


def ask_http(where: str, password: str) -> None:
    """Get a page; urllib raises for any status from 400 on."""
    del password
    with urllib.request.urlopen(where, timeout=_ANSWER_S) as answer:  # noqa: S310 - the chart's own URLs
        answer.read()


_ASK: dict[str, Callable[[str, str], None]] = {
    "KAFKA": ask_kafka,
    "POSTGRESQL": ask_database,
    "COCKROACHDB": ask_database,
    "REDIS": ask_redis,
}
_TROUBLE = (OSError, NoAnswer, psycopg2.Error, KafkaException)


def answers(component: str, where: str, password: str, until: float) -> bool:
    """Ask until the component answers or the time is over, and print how it ended."""
    while True:
        try:
            _ASK.get(component, ask_http)(where, password)
        except _TROUBLE as error:
            if time.monotonic() >= until:
                sys.stdout.write(f"FAILED {component}: {error}".strip() + "\n")
                return False
            time.sleep(_PAUSE_S)
        else:
            sys.stdout.write(f"ok     {component}\n")
            return True


def main() -> int:
    """Ask all; return the exit code."""
    until = time.monotonic() + float(os.environ.get("TIMEOUT_S", "60"))
    asked = {name.removeprefix("ASK_"): where for name, where in sorted(os.environ.items()) if name.startswith("ASK_")}
    found = [
        answers(component, where, os.environ.get(f"PASSWORD_{component}", ""), until)
        for component, where in asked.items()
    ]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
