"""Whether an image is ready: yes only if the coordinator says so."""

import httpx
import pytest
from answers import AVAILABILITY, body_of, client, problem

import sifleet


def test_a_question_is_asked_as_it_was_put_and_the_answer_is_whole() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=AVAILABILITY)

    given = client(answer).available("a b/ü&require=1", partition="viz", require=2)
    assert dict(asked[0].url.params) == {"image": "a b/ü&require=1", "partition": "viz", "require": "2"}
    assert asked[0].headers["authorization"] == "Bearer sifleet_1_00"
    assert given.is_ready
    assert given.is_known
    assert given.nodes.missing == "viz002"
    assert given.reasons[0].code == "absent"
    assert given.membership.reason is None


@pytest.mark.parametrize(
    ("satisfied", "ready", "known"), [("yes", True, True), ("no", False, True), ("unknown", False, False)]
)
def test_only_a_yes_is_ready_and_only_unknown_is_not_known(satisfied: str, ready: bool, known: bool) -> None:
    given = client(lambda _: httpx.Response(200, json={**AVAILABILITY, "satisfied": satisfied})).available(
        "x", partition="viz"
    )
    assert (given.is_ready, given.is_known) == (ready, known)


def test_an_answer_has_no_truth_value_that_could_be_taken_for_one() -> None:
    given = client(lambda _: httpx.Response(200, json=AVAILABILITY)).available("x", partition="viz")
    with pytest.raises(TypeError, match="is_ready"):
        bool(given)
    with pytest.raises(TypeError, match="is_ready"):
        bool(sifleet.BatchEntry())


@pytest.mark.parametrize(
    "change",
    [
        {"satisfied": "maybe"},
        {"satisfied": True},
        {"satisfied": None},
        {"counts": {"ready": "1"}},
        {"counts": {"ready": True, "outdated": 0, "missing": 0, "unknown": 0}},
        {"nodes": []},
        {"digests": {}},
        {"digests": [1]},
    ],
)
def test_an_answer_that_does_not_fit_is_no_answer(change: dict[str, object]) -> None:
    with pytest.raises(sifleet.UnexpectedAnswer, match="the answer"):
        client(lambda _: httpx.Response(200, json={**AVAILABILITY, **change})).available("x", partition="viz")


def test_an_answer_that_lacks_what_decides_is_no_answer() -> None:
    short = {name: value for name, value in AVAILABILITY.items() if name != "satisfied"}
    with pytest.raises(sifleet.UnexpectedAnswer, match="satisfied"):
        client(lambda _: httpx.Response(200, json=short)).available("x", partition="viz")


def test_a_page_is_asked_at_once_and_a_problem_stays_with_its_question() -> None:
    unheard_of = problem(404, "unknown_image").json()
    unreadable = problem(400, "bad_image").json()

    def answer(request: httpx.Request) -> httpx.Response:
        assert body_of(request)["queries"][0] == {"image": "a", "partition": "viz"}
        entries = [{"answer": AVAILABILITY, "problem": None}]
        entries += [{"answer": None, "problem": unheard_of}, {"answer": None, "problem": unreadable}]
        return httpx.Response(200, json={"answers": entries})

    page = client(answer).batch([sifleet.Query(name, "viz") for name in "abc"])
    assert [entry.satisfied for entry in page] == ["yes", "no", "unknown"]
    assert [entry.is_ready for entry in page] == [True, False, False]
    assert [entry.message for entry in page][1:] == ["what happened", "what happened"]


def test_more_questions_than_one_request_takes_are_split_in_order() -> None:
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        queries = body_of(request)["queries"]
        sizes.append(len(queries))
        return httpx.Response(
            200, json={"answers": [{"answer": {**AVAILABILITY, "image": q["image"]}} for q in queries]}
        )

    page = client(answer).batch(sifleet.Query(f"image{i}", "viz") for i in range(2_001))
    assert sizes == [1_000, 1_000, 1]
    assert [entry.answer.image for entry in page if entry.answer is not None] == [f"image{i}" for i in range(2_001)]


def test_a_page_with_answers_missing_is_no_page() -> None:
    with pytest.raises(sifleet.UnexpectedAnswer, match="2 questions got 0 answers"):
        client(lambda _: httpx.Response(200, json={"answers": []})).batch([sifleet.Query("a", "viz")] * 2)
