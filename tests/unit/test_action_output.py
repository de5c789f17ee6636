"""What is kept of an output, and what the live log is handed."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from activities.output import MAX_KEPT, MAX_LIVE, MAX_WAITING, OutputCapture


def captured(*pieces: bytes | str) -> OutputCapture:
    output = OutputCapture()
    for piece in pieces:
        output.write(piece)
    return output


def taken(output: OutputCapture) -> list[tuple[int, str]]:
    found = []
    while chunk := output.take():
        found.append(chunk)
    return found


def test_a_short_output_is_kept_whole() -> None:
    kept = captured("one\n", b"two\n").kept()
    assert kept.text == "one\ntwo\n"
    assert kept.size == 8


def test_a_long_output_keeps_head_and_tail_and_says_what_is_missing() -> None:
    kept = captured("first\n" + "x" * 100_000 + "\nlast").kept()
    assert kept.size == 100_011
    assert kept.text.startswith("first\nx")
    assert kept.text.endswith("x\nlast")
    head, _, rest = kept.text.partition("\n[… ")
    count, _, tail = rest.partition(" bytes left out …]\n")
    assert len(head) + int(count) + len(tail) == kept.size


def test_no_nul_reaches_the_log() -> None:
    output = captured(b"a\0b")
    assert output.kept().text == "ab"
    assert taken(output) == [(0, "ab")]


def test_a_character_that_comes_in_pieces_is_read_whole() -> None:
    output = captured("ü".encode()[:1])
    first = taken(output)
    output.write("ü".encode()[1:])
    output.close()
    assert "".join(text for _, text in first + taken(output)) == "ü"
    assert output.kept().text == "ü"


def test_what_is_no_utf8_is_replaced() -> None:
    assert captured(b"a\xff\xfeb").kept().text == "a\ufffd\ufffdb"


def test_a_lone_surrogate_is_replaced() -> None:
    assert captured("a\ud800b").kept().text == "a?b"


def test_what_comes_after_the_end_is_dropped() -> None:
    output = captured("all")
    output.close()
    output.write("more")
    assert output.kept().text == "all"
    assert output.size == 3


def test_chunks_join_to_the_whole_output() -> None:
    text = "".join(f"line {number} grün\n" for number in range(10_000))
    raw = text.encode()
    output, found = OutputCapture(), []
    for start in range(0, len(raw), 777):
        output.write(raw[start : start + 777])
        found += taken(output)
    output.close()
    found += taken(output)
    assert "".join(text for _, text in found) == text
    positions = [position for position, _ in found]
    assert positions == sorted(set(positions))


def test_a_log_that_does_not_take_loses_chunks_but_no_memory() -> None:
    output = captured(b"x" * MAX_WAITING, b"lost")
    found = taken(output)
    output.write(b"again")
    assert sum(len(text) for _, text in found) == MAX_WAITING
    assert taken(output) == [(MAX_WAITING + 4, "again")]


def test_the_live_log_gets_no_more_than_its_cap() -> None:
    output, total = OutputCapture(), 0
    for _ in range(100):
        output.write(b"x" * 65_536)
        total += sum(len(text) for _, text in taken(output))
    assert total == MAX_LIVE
    assert output.size == 100 * 65_536


def test_threads_may_write_at_once() -> None:
    output = OutputCapture()
    threads = [
        threading.Thread(target=lambda: [output.write("12345678\n") for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output.size == 8 * 500 * 9
    assert set(output.kept().text.splitlines()[:100]) == {"12345678"}


@given(st.lists(st.binary(max_size=9_000), max_size=8))
def test_whatever_is_written_what_is_kept_is_valid_and_bounded(pieces: list[bytes]) -> None:
    output = captured(*pieces)
    kept = output.kept()
    assert kept.size == sum(map(len, pieces))
    assert len(kept.text.encode()) <= MAX_KEPT
    assert "\0" not in kept.text


@given(st.text(max_size=3_000))
def test_text_that_fits_is_kept_as_it_is(text: str) -> None:
    assert captured(text.encode()).kept().text == text.replace("\0", "")
