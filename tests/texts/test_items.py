"""Rows become items and what is found for items comes back to the rows."""

import pytest

from conftest import pair
from rmtransfer.texts.items import by_row, distinct, items_of

BEST_OF_FOUR = [pair(f"i/0/{j}", "Which?", "This.", f"That {j}.") for j in range(3)]


def texts(items):
    return [(item.prompt[0]["content"], [answer.messages[0]["content"] for answer in item.answers]) for item in items]


def test_pairs_with_one_prompt_are_one_item_of_distinct_answers():
    items, places = items_of([*BEST_OF_FOUR, pair("other", "Why?", "This.", "No.")], by_text=True)
    assert texts(items) == [("Which?", ["This.", "That 0.", "That 1.", "That 2."]), ("Why?", ["This.", "No."])]
    assert places == [[(0, 0), (0, 1)], [(0, 0), (0, 2)], [(0, 0), (0, 3)], [(1, 0), (1, 1)]]
    assert [(a.row, a.name) for a in items[0].answers] == [
        ("i/0/0", "chosen"),
        ("i/0/0", "rejected"),
        ("i/0/1", "rejected"),
        ("i/0/2", "rejected"),
    ]
    assert items[0].answers[3].origin("ko") == "row 'i/0/2' in ko"


def test_where_the_opponent_counts_every_pair_is_an_item_of_its_own():
    items, places = items_of(BEST_OF_FOUR, by_text=False)
    assert texts(items) == [("Which?", ["This.", f"That {j}."]) for j in range(3)]
    assert places == [[(j, 0), (j, 1)] for j in range(3)]


def test_another_role_is_another_prompt():
    rows = [pair("a", "Hi", "yes", "no"), pair("b", "Hi", "yes", "no")]
    rows[1]["prompt"] = [{"role": "system", "content": "Hi"}]
    assert len(items_of(rows, by_text=True)[0]) == 2


@pytest.mark.parametrize("by_text", [True, False])
def test_sampled_answers_of_a_prompt_are_one_item(by_text):
    rows = [
        {"id": f"q{i}", "sample": s, "prompt": [{"role": "user", "content": f"Q{i}"}], "answer": answer}
        for s, answer in enumerate([[{"role": "assistant", "content": t}] for t in ("one", "two", "one")])
        for i in range(2)
    ]
    items, places = items_of(rows, by_text=by_text)
    kept = ["one", "two"] if by_text else ["one", "two", "one"]
    assert texts(items) == [("Q0", kept), ("Q1", kept)]
    last = 0 if by_text else 2
    assert places == [[(0, 0)], [(1, 0)], [(0, 1)], [(1, 1)], [(0, last)], [(1, last)]]


def test_what_is_found_comes_back_to_the_rows():
    _, places = items_of(BEST_OF_FOUR, by_text=True)
    assert by_row([[9, 1, 2, 3]], places) == [[9, 1], [9, 2], [9, 3]]


def test_distinct_values_rejected_answers_last():
    items, _ = items_of([*BEST_OF_FOUR, pair("other", "Why?", "So.", "No.")], by_text=True)
    assert distinct(items, [["a", "b", "c", "b"], ["d", "a"]]) == ["a", "d", "b", "c"]


def test_distinct_values_of_sampled_answers_item_by_item():
    rows = [
        {"id": f"q{i}", "sample": s, "prompt": [{"role": "user", "content": f"Q{i}"}], "answer": answer}
        for i in range(2)
        for s, answer in enumerate([[{"role": "assistant", "content": t}] for t in ("one", "two")])
    ]
    items, _ = items_of(rows, by_text=True)
    assert distinct(items, [["a", "b"], ["c", "a"]]) == ["a", "b", "c"]
