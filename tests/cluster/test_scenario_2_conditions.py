"""What is wrong is read in the conditions, and mended by what they say."""

from __future__ import annotations

from stand.feeds import NO_IMAGE, Feeds
from stand.scenario import Stopwatch, Tell


def test_a_bad_image_and_a_missing_secret_are_named(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """The conditions name the image that cannot be had and the Secret that is not there; with both it is ready."""
    broken = feeds.broken
    image = broken.wait("IngestReady", "False", "ImagePullBackOff")
    assert NO_IMAGE in image["message"]
    secret = broken.wait("SinksReady", "False", "SecretMissing")
    assert "Secret store is missing: create it with key dsn" in secret["message"]
    assert broken.condition("Ready")["status"] == "False"
    broken.make_secret()
    broken.apply(ingest={})
    broken.wait("Ready")
    broken.wait_for_rows(200)
    tell(broken.prove("bad image, missing secret, mended", watch, nothing_missing=True))
