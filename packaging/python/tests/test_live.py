"""A real coordinator and real agents.

``SIFLEET_LIVE`` names a file that says where they are; the project's tests set it.
``vnc_gnome.sif`` is on viz001 alone, viz002 has none, and the partition ``viz`` has both.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sifleet
from sifleet.models import TemplateBody


class Live(NamedTuple):
    """Where the cluster is, and who asks."""

    url: str
    token_file: str
    socket: str
    nobody: str


@pytest.fixture(scope="module")
def live() -> Live:
    path = os.environ.get("SIFLEET_LIVE")
    if path is None:
        pytest.skip("SIFLEET_LIVE names no cluster")
    return Live(**json.loads(Path(path).read_text()))


@pytest.fixture
def fleet(live: Live) -> Iterator[sifleet.Client]:
    with sifleet.Client(live.url, token_file=live.token_file) as fleet:
        yield fleet


def test_an_image_on_a_node_alone_is_available_there(fleet: sifleet.Client) -> None:
    answer = fleet.available("vnc_gnome", partition="viz", require="any")
    assert answer.is_ready
    assert (answer.image, answer.verdict, answer.nodes.ready) == ("vnc_gnome.sif", "partial", "viz001")
    assert fleet.available("vnc_gnome", partition="viz").satisfied == "no"
    assert fleet.available("vnc_gnome", partition="viz", require=1).is_ready


def test_what_nobody_ever_heard_of_is_not_found_with_what_was_perhaps_meant(fleet: sifleet.Client) -> None:
    with pytest.raises(sifleet.NotFound) as caught:
        fleet.available("vnc_gnom", partition="viz")
    assert (caught.value.code, caught.value.candidates) == ("unknown_image", ("vnc_gnome.sif",))
    with pytest.raises(sifleet.NotFound, match="unknown_partition"):
        fleet.available("vnc_gnome", partition="vis")


def test_a_page_is_answered_at_once(fleet: sifleet.Client) -> None:
    queries = [sifleet.Query("vnc_gnome", "viz", "any"), sifleet.Query("nothing", "viz"), sifleet.Query("x", "nowhere")]
    page = fleet.batch(queries)
    assert [entry.satisfied for entry in page] == ["yes", "no", "unknown"]


def test_images_nodes_and_partitions_are_read(fleet: sifleet.Client) -> None:
    assert "vnc_gnome.sif" in [image.name for image in fleet.images("gnome")]
    detail = fleet.image("vnc_gnome.sif")
    assert detail.metadata[0].metadata.format == "sif"
    assert detail.metadata[0].metadata.labels["title"] == "GNOME"
    assert [node.name for node in fleet.nodes() if node.state == "online"] == ["head", "viz001", "viz002"]
    node = fleet.node("viz001")
    assert [replica.name for replica in node.replicas] == ["vnc_gnome.sif"]
    assert {partition.name: partition.nodes for partition in fleet.partitions()} == {
        "head": "head",
        "viz": "viz[001-002]",
    }
    assert [image.name for image in fleet.partition("viz").images] == ["vnc_gnome.sif"]
    assert fleet.drift() == ()
    assert fleet.rescan("viz[001-002]").told == "viz[001-002]"


def test_a_verdict_says_whether_a_template_finds_its_image(live: Live, fleet: sifleet.Client) -> None:
    fleet.put_template("desk", TemplateBody("vnc_gnome", "viz", require="any"))
    assert [template.id for template in fleet.templates().templates] == ["desk"]
    verdict = fleet.verdict(kind="template", ref="desk")
    assert (verdict.is_ready, verdict.reason, verdict.language) == (True, "ready", "en")
    with sifleet.Client(live.url, token_file=live.token_file, language="ko") as korean:
        told = korean.verdict(kind="template", ref="desk")
        assert (told.language, told.is_ready) == ("ko", True)
        assert told.message != verdict.message
    assert fleet.verdict("vnc_gnome", partition="viz").verdict == "no"
    assert fleet.delete_template("desk").id == "desk"
    with pytest.raises(sifleet.NotFound, match="unknown_template"):
        fleet.template("desk")


def test_a_push_is_planned_begun_once_followed_and_then_the_image_is_everywhere(fleet: sifleet.Client) -> None:
    plan = fleet.plan_push("vnc_gnome", missing_on="viz")
    assert (plan.nodes, plan.sources) == ("viz002", "viz001")
    push = fleet.push("vnc_gnome", missing_on="viz", idempotency_key=f"live {os.getpid()}")
    assert fleet.push("vnc_gnome", missing_on="viz", idempotency_key=f"live {os.getpid()}").id == push.id
    assert list(fleet.follow_push(push.id))[-1].is_done
    assert fleet.push_status(push.id).phases[0].nodes == "viz002"
    assert [node.phase for node in fleet.push_nodes(push.id)] == ["done"]
    assert fleet.pushes()[0].id == push.id
    assert fleet.available("vnc_gnome", partition="viz").is_ready


def test_events_tell_what_changes(fleet: sifleet.Client) -> None:
    heard: list[str] = []

    def listen() -> None:
        events = fleet.events()
        heard.append(next(event.kind for event in events if event.kind == "push_changed"))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    # Nobody can tell from here when the stream is open, so there is something to tell again and again.
    for attempt in range(60):
        fleet.push("vnc_gnome", partition="viz", idempotency_key=f"again {attempt}")
        listener.join(timeout=0.5)
        if heard:
            break
    assert heard == ["push_changed"]


def test_root_needs_no_token_over_the_socket(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIFLEET_TOKEN_FILE", raising=False)
    with sifleet.Client(f"unix:{live.socket}") as root:
        assert root.available("vnc_gnome", partition="viz", require="any").is_ready


# httpcore leaves the socket of a failed connection to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_token_is_turned_away_and_nobody_is_no_answer(live: Live) -> None:
    with sifleet.Client(live.url, token="sifleet_1_00") as stranger, pytest.raises(sifleet.NotAllowed, match="unauth"):
        stranger.available("vnc_gnome", partition="viz")
    with sifleet.Client(live.nobody) as nobody, pytest.raises(sifleet.Unavailable):
        nobody.available("vnc_gnome", partition="viz")
    with sifleet.Client("unix:/does/not/exist") as nobody, pytest.raises(sifleet.Unavailable):
        nobody.nodes()
