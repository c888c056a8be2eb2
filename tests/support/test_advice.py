"""What a command advises where a server does not answer."""

import pytest

from pipeline.support.settings import load


@pytest.mark.parametrize(
    ("environ", "servers", "said"),
    [
        ({}, ["nats"], "Start it (`bank up`), or set BANK_NATS_URL to where it is."),
        (
            {},
            ["nats", "redis"],
            "Start them (`bank up`), or set BANK_NATS_URL, BANK_REDIS_URL to where they are.",
        ),
        (
            {"BANK_NATS_URL": "nats://me:secret@nats-0:4222"},
            ["nats"],
            "BANK_NATS_URL is nats://me:***@nats-0:4222: does it run, and can it be reached from "
            "here?",
        ),
        (
            {"BANK_NATS_URL": "nats://nats-0:4222", "BANK_REDIS_URL": "redis://redis"},
            ["nats", "redis"],
            "BANK_NATS_URL is nats://nats-0:4222, BANK_REDIS_URL is redis://redis: do they run, "
            "and can they be reached from here?",
        ),
        (
            {"BANK_NATS_URL": "nats://nats-0:4222"},
            ["nats", "mongodb"],
            "BANK_NATS_URL is nats://nats-0:4222: does it run, and can it be reached from here?\n"
            "Start it (`bank up`), or set BANK_MONGODB_URL to where it is.",
        ),
    ],
)
def test_only_a_server_at_its_default_is_one_to_start_here(
    environ: dict[str, str], servers: list[str], said: str
) -> None:
    assert load(environ).advice(*servers) == said
