import threading

import pytest

from biounet.prediction.stream import Behind, ahead


def test_one_is_made_ahead_while_one_is_used():
    made, second = [], threading.Event()

    def make(item):
        made.append(item)
        if item == 1:
            second.set()
        return 10 * item

    stream = ahead(make, range(4))
    assert next(stream) == 0
    assert second.wait(5)  # made before it was asked for
    assert list(stream) == [10, 20, 30]
    assert made == [0, 1, 2, 3]


def test_an_error_ahead_comes_when_its_turn_comes():
    stream = ahead(lambda n: 1 // n, [1, 0, 1])
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_nothing_ahead_of_nothing():
    assert list(ahead(str, [])) == []


def test_jobs_run_in_order_and_all_are_done_on_leaving():
    done = []
    with Behind() as writer:
        for number in range(20):
            writer.submit(done.append, number)
    assert done == list(range(20))


def test_only_so_many_wait():
    gate, begun = threading.Event(), []

    def job(number):
        begun.append(number)
        gate.wait(5)

    with Behind(most=2) as writer:
        writer.submit(job, 0)
        writer.submit(job, 1)
        third = threading.Thread(target=writer.submit, args=(job, 2))
        third.start()
        third.join(0.05)
        assert third.is_alive()  # waits until one of the two is done
        gate.set()
        third.join(5)
        assert not third.is_alive()
    assert begun == [0, 1, 2]


def test_an_error_behind_is_raised():
    with pytest.raises(ZeroDivisionError), Behind() as writer:
        writer.submit(lambda: 1 // 0)


def test_an_error_in_the_block_is_not_hidden_by_one_behind():
    def use():
        with Behind() as writer:
            writer.submit(lambda: 1 // 0)
            raise KeyError

    with pytest.raises(KeyError):
        use()
