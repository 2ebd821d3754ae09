"""Rows of one problem are one cluster, in every language that of the source."""

import json

import pytest

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.clusters import Clusters
from rmtransfer.texts.corpus import import_rows, load_rows

# How HumanEvalPack asks for problem 0 in its six languages, for 137 in Rust, and for problem 2 in Python.
PROMPTS = {
    "hep-cpp": "Write a C++ function `bool has_close_elements(vector<float> numbers, float threshold)` to solve the following",
    "hep-go": "Write a Go function `func HasCloseElements(numbers []float64, threshold float64) bool` to solve the following",
    "hep-java": "Write a Java function `public boolean hasCloseElements(List<Double> numbers, double threshold)` to solve the",
    "hep-js": "Write a JavaScript function `const hasCloseElements = (numbers, threshold)` to solve the following problem:",
    "hep-python": "Write a Python function `has_close_elements(numbers: List[float], threshold: float) -> bool` to solve the",
    "hep-rust": "Write a Rust function `has_close_elements(numbers:Vec<f32>, threshold: f32) -> bool` to solve the following",
}
OTHERS = {
    "rust": (
        "Write a Rust function `compare_one<'a>(a:&'a dyn Any, b:&'a dyn Any) -> RtnType` to solve the",
        "compareone",
    ),
    "python": (
        "Write a Python function `truncate_number(number: float) -> float` to solve the following",
        "truncatenumber",
    ),
    "java": (
        "Write a Java function `public List<String> separateParenGroups(String paren_string)` to",
        "separateparengroups",
    ),
    "go": (
        "Write a Go function `func LargestSmallestIntegers(lst []int) [2]interface{}` to",
        "largestsmallestintegers",
    ),
}


def hep(identity, prompt, subset="hep-python"):
    return pair(identity, f"{prompt}\nCheck `f(x)` of it.", "a", "b", subset)


def clusters_of(rows, original=None):
    clusters = Clusters(original)
    found = {row["id"]: clusters.of(row) for row in rows}
    clusters.say()
    return found


def test_a_problem_is_one_cluster_in_six_programming_languages():
    rows = [hep(subset, prompt, subset) for subset, prompt in PROMPTS.items()]
    rows += [hep(name, prompt) for name, (prompt, _) in OTHERS.items()]
    rows.append(pair("m", "Write `f(x)`.", "a", "b", "math-prm"))
    clusters = clusters_of(rows)
    assert {clusters[subset] for subset in PROMPTS} == {"humaneval/hascloseelements"}
    assert {clusters[name] for name in OTHERS} == {f"humaneval/{known}" for _, known in OTHERS.values()}
    assert clusters["m"] is None


def test_what_names_no_function_stays_by_itself_and_is_said(capsys):
    rows = [hep("a", PROMPTS["hep-go"], "hep-go"), pair("b", "Write something.", "a", "b", "hep-js")]
    assert clusters_of(rows) == {"a": "humaneval/hascloseelements", "b": None}
    assert "1 rows of hep-cpp" in (shown := capsys.readouterr().out)
    assert "the first is 'b'" in shown


def test_a_row_that_names_its_cluster_is_not_asked():
    rows = [{**hep("a", PROMPTS["hep-go"]), "cluster": "mine"}, hep("b", PROMPTS["hep-go"])]
    assert clusters_of(rows) == {"a": "mine", "b": "humaneval/hascloseelements"}


def test_translations_have_the_clusters_of_the_source():
    source = [{**pair("a", "p", "x", "y"), "cluster": "k"}, {**pair("b", "q", "x", "y"), "cluster": "b"}]
    rows = [{**pair("b", "q", "x", "y"), "cluster": "other"}, pair("a", "p", "x", "y"), hep("new", PROMPTS["hep-go"])]
    assert clusters_of(rows, source) == {"b": "b", "a": "k", "new": None}
    assert clusters_of(rows, [pair("a", "p", "x", "y")]) == {"b": None, "a": None, "new": None}


def imported(tmp_path, rows, original=None, **entry):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = {"path": "rows.jsonl", "invalid_rows": "stop", **entry}
    output = tmp_path / "rows.parquet" if original is None else tmp_path / "others.parquet"
    import_rows(entry, "sample", "en", tmp_path, output, tmp_path / "rejected.csv", "subsets", original)
    return output


def record(identity, **more):
    return {"id": identity, "subset": "s", "prompt": f"What is {identity}?", "chosen": "x", "rejected": "y", **more}


def test_a_column_of_the_file_is_kept_and_rows_without_one_have_their_id(tmp_path):
    path = imported(tmp_path, [record("a"), record("b", problem="7")], columns={"cluster": "problem"})
    assert [row["cluster"] for row in load_rows(path)] == ["a", "7"]
    others = imported(tmp_path, [record("b"), record("a")], original=path)
    assert [(row["id"], row["cluster"]) for row in load_rows(others)] == [("b", "7"), ("a", "a")]


def test_without_clusters_rows_stay_as_they_are(tmp_path):
    assert [*load_rows(imported(tmp_path, [record("a"), record("b")]))[0]] == [
        "id",
        "subset",
        "prompt",
        "chosen",
        "rejected",
    ]


@pytest.mark.parametrize("where", [0, 2_500])
def test_one_row_wherever_it_stands_decides_that_there_are_clusters(tmp_path, where):
    rows = [record(str(i), **({"problem": "p"} if i == where else {})) for i in range(2_501)]
    found = load_rows(imported(tmp_path, rows, columns={"cluster": "problem"}))
    assert [row["cluster"] for row in found] == ["p" if i == where else str(i) for i in range(2_501)]


@pytest.mark.parametrize("cluster", ["", "  ", 7])
def test_a_cluster_is_a_string_that_is_not_empty(tmp_path, cluster):
    with pytest.raises(StudyError, match=r"line 2, id b: cluster must be a non-empty string, not .*; leave it out"):
        imported(tmp_path, [record("a", cluster="k"), record("b", cluster=cluster)])


def test_a_column_of_clusters_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StudyError, match=r"rows\.jsonl: no row has 'problem', which columns\.cluster names"):
        imported(tmp_path, [record("a")], columns={"cluster": "problem"})
