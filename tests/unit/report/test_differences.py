"""Word-level differences: nothing is lost, and what is marked as common is common."""

from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.report.differences import CONTROL, Piece, compare, visible


def test_numbers_changed() -> None:
    ours, theirs = compare("Tom has 3 apples.", "Tom has 12 apples.")
    assert ours == [Piece("Tom has ", True), Piece("3", False), Piece(" apples.", True)]
    assert theirs == [Piece("Tom has ", True), Piece("12", False), Piece(" apples.", True)]


def test_equal_and_disjoint() -> None:
    assert compare("a b", "a b") == ([Piece("a b", True)], [Piece("a b", True)])
    assert compare("x", "y") == ([Piece("x", False)], [Piece("y", False)])
    assert compare("", "y") == ([], [Piece("y", False)])


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("a\u202eb\x00") == "a⟨U+202E⟩b⟨U+0000⟩"
    assert visible("line\nnext\t") == "line\nnext\t"


@given(st.text(), st.text())
def test_pieces_put_together_are_the_texts(left: str, right: str) -> None:
    ours, theirs = compare(left, right)
    assert "".join(piece.text for piece in ours) == visible(left)
    assert "".join(piece.text for piece in theirs) == visible(right)
    common = ["".join(piece.text for piece in side if piece.same) for side in (ours, theirs)]
    assert common[0] == common[1]
    assert not CONTROL.search(visible(left))
