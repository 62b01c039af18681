"""The schedule: what it starts, whatever the graph and whenever stages end."""

from hypothesis import given
from hypothesis import strategies as st

from flows.graph import Stage
from flows.schedule import Schedule


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Stage]:
    """Up to a dozen stages, each in need of some before it."""
    graph: dict[str, Stage] = {}
    for index in range(draw(st.integers(1, 12))):
        needs = draw(st.sets(st.sampled_from(sorted(graph)))) if graph else set()
        name = f"stage{index:02}"
        graph[name] = Stage(name, draw(st.sampled_from(["cpu", "gpu"])), "", frozenset(needs), ())
    return graph


@given(graphs(), st.integers(1, 3), st.integers(1, 3), st.data())
def test_every_stage_runs_once_after_what_it_needs_and_within_the_limits(
    graph: dict[str, Stage], cpu: int, gpu: int, data: st.DataObject
) -> None:
    schedule, order = Schedule(graph, {"cpu": cpu, "gpu": gpu}), []
    while True:
        for name in schedule.ready():
            assert graph[name].needs <= set(order)
            schedule.start(name)
        for pool, limit in schedule.limits.items():
            assert sum(graph[name].pool == pool for name in schedule.running) <= limit
        if not schedule.running:
            break
        ended = data.draw(st.sampled_from(sorted(schedule.running)))
        schedule.finish(ended, True)
        order.append(ended)
    assert sorted(order) == sorted(graph)


@given(graphs(), st.data())
def test_after_a_failure_nothing_more_is_started(graph: dict[str, Stage], data: st.DataObject) -> None:
    schedule = Schedule(graph, {"cpu": 2, "gpu": 1})
    for name in schedule.ready():
        schedule.start(name)
    failing = data.draw(st.sampled_from(sorted(schedule.running)))
    schedule.finish(failing, False)
    assert schedule.ready() == []
    assert failing not in schedule.running | schedule.finished
