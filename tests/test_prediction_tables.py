"""Tables of others' timings: what is read, and what is said of those that cannot be."""

import pytest

from convscale.errors import InputError
from convscale.prediction.tables import read_table

HEADER = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count"


def written(folder, *lines):
    path = folder / "mine.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_step_takes_the_batch_over_the_throughput(tmp_path):
    found = read_table(written(tmp_path, HEADER, "resnet50.a1_in1k,224,2000,,256,25.56"))
    (row,) = found.rows
    assert (found.work, row.architecture, row.resolution, row.batch_size) == (
        "inference",
        "resnet50",
        224,
        256,
    )
    assert row.seconds == pytest.approx(0.128)
    assert row.params == 25.56


def test_a_table_of_training_has_columns_of_its_own(tmp_path):
    header = "model,train_samples_per_sec,train_batch_size,train_img_size"
    found = read_table(written(tmp_path, header, "resnet18,1000,512,160"))
    assert (found.work, found.rows[0].params) == ("training", None)
    with pytest.raises(InputError, match=r"the column infer_img_size is missing; .*batch_size"):
        read_table(tmp_path / "mine.csv", work="inference")


def test_missing_columns_are_all_named_at_once(tmp_path):
    path = written(tmp_path, "model,infer_img_size", "resnet50,224")
    with pytest.raises(InputError) as error:
        read_table(path)
    assert "infer_batch_size is missing; the column infer_samples_per_sec is missing" in str(
        error.value
    )


def test_fields_that_are_no_numbers_are_named_by_line_and_column_at_once(tmp_path):
    path = written(
        tmp_path,
        HEADER,
        "resnet50,224,fast,,256,25.56",
        "resnet18,224,100,,256,11.69",
        "resnet34,22x,100,,0,",
        "resnet26,224,nan,,2.5,16",
    )
    with pytest.raises(InputError) as error:
        read_table(path)
    line = error.value.line
    for part in (
        "line 2: infer_samples_per_sec is 'fast', not a number",
        "line 4: infer_img_size is '22x', not a number",
        "line 4: infer_batch_size is '0', not a positive number",
        "line 5: infer_samples_per_sec is 'nan', not a positive number",
        "line 5: infer_batch_size is '2.5', not a whole number",
    ):
        assert part in line
    assert "line 3" not in line


def test_a_network_without_any_number_is_named_and_left_out(tmp_path):
    found = read_table(written(tmp_path, HEADER, "resnet18,224,100,,256,11.69", "vgg16,,,,,"))
    assert [row.model for row in found.rows] == ["resnet18"]
    assert found.empty == ("vgg16",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "is empty"),
        ((HEADER,), "has no timings"),
        ((HEADER, "resnet18,224,1,1,1,1,1,1"), "line 2: 8 fields, the header has 6"),
        ((HEADER + ",model", "resnet18,224,1,1,1,1,1"), "the column model stands twice"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, lines, said):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        read_table(path)
    assert "\n" not in error.value.line


@pytest.mark.parametrize("apart", [";", "\t"])
def test_other_separators_than_commas_are_named(apart, tmp_path):
    path = written(tmp_path, HEADER.replace(",", apart), apart.join("resnet18 224 9 1 8 1".split()))
    with pytest.raises(InputError, match=r"separated by .*Separate them by commas"):
        read_table(path)


def test_of_repeated_times_the_median_counts():
    from convscale.prediction.tables import Table, TableRow
    from convscale.study.tabulated import tabulated

    rows = [TableRow(line, "resnet18.a1", 64, 8, took) for line, took in enumerate((0.3, 0.1, 0.2))]
    other = TableRow(9, "resnet18.tv", 64, 4, 0.7)
    found = tabulated(Table("inference", (*rows, other)))
    assert [one.seconds for one in found.timings] == [0.2, 0.7]


def test_a_table_without_a_usable_time_says_why():
    from convscale.prediction.tables import Table, TableRow
    from convscale.study.tabulated import tabulated

    row = TableRow(2, "resnet18", 64, 8, 0.1, params=99)
    with pytest.raises(InputError, match=r"1 excluded: resnet18, since it has 11\.69 M params"):
        tabulated(Table("inference", (row,)))
