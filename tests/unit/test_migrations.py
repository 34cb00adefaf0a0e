"""The migrations as files. Running them is tested with a real database."""

from marketfeed.migrate import POSTGRESQL, TIMESCALEDB, migrations


def test_both_dialects_have_the_same_steps() -> None:
    """Numbers run from 1 without holes or repetition, and are the same in both dialects, with the same names."""
    steps = {
        dialect: [(step.number, step.name) for step in migrations(dialect)] for dialect in (POSTGRESQL, TIMESCALEDB)
    }
    assert steps[POSTGRESQL] == steps[TIMESCALEDB]
    assert [number for number, _ in steps[POSTGRESQL]] == list(range(1, len(steps[POSTGRESQL]) + 1))


def test_nothing_is_left_to_fill_in() -> None:
    """Every placeholder of a migration is replaced in both dialects."""
    for dialect in (POSTGRESQL, TIMESCALEDB):
        assert not [step.name for step in migrations(dialect) if "{" in step.text]


def test_each_dialect_divides_by_day_its_own_way() -> None:
    """PostgreSQL's tables are partitioned when created, TimescaleDB's are plain and become hypertables of a day."""
    text = {dialect: "\n".join(step.text for step in migrations(dialect)) for dialect in (POSTGRESQL, TIMESCALEDB)}
    assert text[POSTGRESQL].count("PARTITION BY RANGE (event_time)") == 2
    assert "create_hypertable" not in text[POSTGRESQL]
    assert "PARTITION BY RANGE" not in text[TIMESCALEDB]
    assert text[TIMESCALEDB].count("chunk_time_interval => INTERVAL '1 day'") == 2
