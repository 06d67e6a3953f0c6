"""When an episode is complete, tick by tick."""

from wm_planner.runtime.episode_end import PATIENCE_TICKS, QUIET_TICKS, EpisodeEnd

END = 30


def ticks_until_complete(end, saw=lambda tick: None, limit=200):
    for tick in range(limit):
        if end.is_complete(END):
            return tick
        end.tick()
        saw(tick)
    raise AssertionError("never complete")


def make(answers=None):
    return EpisodeEnd("image", {"state": "sent"} if answers is None else answers)


def test_complete_after_the_last_image_and_a_quiet_moment():
    end = make()
    end.saw("image", END)
    assert ticks_until_complete(end) == QUIET_TICKS


def test_ticks_before_the_end_do_not_count():
    end = make()
    end.saw("image", END)
    for _ in range(50):
        end.tick()
    assert ticks_until_complete(end) == QUIET_TICKS


def test_a_backlog_is_waited_for():
    end = make({})
    end.saw("image", END)
    assert ticks_until_complete(end, lambda tick: end.saw("state", min(tick, 25))) == (
        26 + QUIET_TICKS
    )


def test_messages_of_the_next_episode_are_not_waited_for():
    end = make()
    end.saw("image", END)
    assert ticks_until_complete(end, lambda tick: end.saw("image", END + 1 + tick)) == QUIET_TICKS


def test_a_stamp_that_stands_still_does_not_keep_the_episode_open():
    end = make()
    end.saw("image", END)
    assert ticks_until_complete(end, lambda tick: end.saw("other", 5)) <= QUIET_TICKS + 1


def test_an_unanswered_sample_is_waited_for_with_patience():
    end = make()
    end.saw("image", END)
    for stamp in (10, 20, END):
        end.saw("state", stamp)
    end.saw("sent", 10)

    def answer_late(tick):
        if tick == 9:
            end.saw("sent", 20)

    assert ticks_until_complete(end, answer_late) == 10 + QUIET_TICKS  # END itself needs none
    end.saw("state", END - 1)
    assert ticks_until_complete(end) == PATIENCE_TICKS


def test_missing_last_image_ends_patience():
    assert ticks_until_complete(make()) == PATIENCE_TICKS


def test_newest_image():
    end = make()
    assert end.newest_ns == -1
    end.saw("image", 7)
    end.saw("image", 3)
    end.saw("state", 9)
    assert end.newest_ns == 7
