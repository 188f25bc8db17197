"""Sessions of several turns with tools: the file is written, the model sees what was read, the agent ends well."""

import pytest
from agents import AGENTS
from upstream import Step

DONE = "done polygate-42"
CELLS = [(agent, vendor) for agent in AGENTS for vendor in ("anthropic", "chat", "responses", "gemini")]


def cells():
    return pytest.mark.parametrize(("agent", "vendor"), CELLS, ids=[f"{agent}-to-{vendor}" for agent, vendor in CELLS])


def ready(name):
    agent = AGENTS[name]
    if agent.program() is None:
        pytest.skip(f"NOT TESTED: npm has no program of {name} for this platform")
    return agent


def check(run):
    """What holds of every session, whatever its tools."""
    told = run.story()
    upstream = run.upstream
    assert upstream.refused == [], told
    assert run.ended.status == 0, told
    assert DONE in run.ended.out, told
    assert (run.work / "out.txt").read_text().strip() == "polygate-42", told
    assert len(upstream.session) == len(upstream.script), told
    issued = [call for turn in upstream.played.values() for call in turn.calls]
    last = upstream.session[-1].asked
    if upstream.with_ids:
        assert [result.id for result in last.results] == [call.id for call in issued], told
        assert [(call.id, call.name, call.given) for call in last.calls] == [(call.id, call.name, call.given) for call in issued], told
    else:
        assert [(call.name, call.given) for call in last.calls] == [(call.name, call.given) for call in issued], told
    for result in last.results[1:]:
        assert "polygate-42" in result.text, told


@cells()
def test_two_tools_and_an_end(play, agent, vendor):
    agent = ready(agent)
    check(play(agent, vendor, lambda work: [Step((agent.write(work),)), Step((agent.read(work),)), Step(text=DONE)]))


@cells()
def test_words_before_calls_and_calls_at_once(play, agent, vendor):
    agent = ready(agent)
    both = lambda work: (agent.read(work), agent.read_too(work))  # noqa: E731
    check(play(agent, vendor, lambda work: [Step((agent.write_file(work),), "First the file."), Step(both(work), "Now look."), Step(text=DONE)]))


@cells()
def test_thoughts_come_back_sealed(play, agent, vendor):
    agent = ready(agent)
    run = play(
        agent,
        vendor,
        lambda work: [
            Step((agent.write(work),), thought="The file has to be written."),
            Step((agent.read(work),), thought="Now it has to be read."),
            Step(text=DONE, thought="All is done."),
        ],
    )
    check(run)
    # A client of another format may have no place for them; that nothing was refused is all that can be asked there.
    if agent.format == vendor:
        seals = [turn.seal for at, turn in sorted(run.upstream.played.items())][:-1]
        assert [seal for seal in run.upstream.session[-1].asked.seals if seal in seals] == seals, run.story()


@cells()
def test_newest_models(play, agent, vendor):
    """Claude thinks as it likes and is told of the system amid its messages; Codex has one tool, freeform, in a namespace in its history."""
    agent = ready(agent)
    script = lambda work: [Step((agent.write_newest(work),), thought="First the file."), Step((agent.read_newest(work),)), Step(text=DONE)]  # noqa: E731
    check(play(agent, vendor, script, model=agent.newest))


@pytest.mark.parametrize("agent", ["claude-code", "codex", "gemini-cli"])
def test_gemini_without_ids(play, agent):
    """Google's second generation gives its calls none."""
    agent = ready(agent)
    check(play(agent, "gemini", lambda work: [Step((agent.write(work),)), Step((agent.read(work), agent.read_too(work))), Step(text=DONE)], with_ids=False))


@pytest.mark.parametrize("vendor", ["responses", "anthropic", "chat", "gemini"])
def test_codex_applies_a_patch(play, vendor):
    """The tool is freeform: its argument is no JSON."""
    codex = ready("codex")
    check(play(codex, vendor, lambda work: [Step((codex.patch(work),)), Step((codex.read(work),)), Step(text=DONE)]))
