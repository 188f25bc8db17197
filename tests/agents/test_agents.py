"""Sessions of several turns with tools: the file is written, the model sees what was read, the agent ends well."""

import json

import pytest
from agents import AGENTS, FORMATS, PICTURE
from upstream import Step, Use

DONE = "done polygate-42"
# Whose calls would have gone past the gateway.
VENDORS_OWN = ("api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com")
# Agents that speak one format each.
VENDORS_AGENTS = ("claude-code", "codex", "gemini-cli")


def cells(agents=VENDORS_AGENTS):
    pairs = [(agent, vendor) for agent in agents for vendor in FORMATS]
    # One agent with a client of each format is here for what is translated.
    pairs = [(agent, vendor) for agent, vendor in pairs if agent != f"opencode-{vendor}"]
    return pytest.mark.parametrize(("agent", "vendor"), pairs, ids=[f"{agent}-to-{vendor}" for agent, vendor in pairs])


def ready(name):
    agent = AGENTS[name]
    if agent.program() is None:
        pytest.skip(f"NOT TESTED: no program of {name} is installed for this platform")
    return agent


def check(run):
    """What holds of every session, whatever its tools."""
    told = run.story()
    upstream = run.upstream
    assert upstream.refused == [], told
    assert not [host for host in upstream.outside if host.startswith(VENDORS_OWN)], told
    assert run.ended.status == 0, told
    assert DONE in run.ended.out, told
    assert (run.work / "out.txt").read_text().strip() == "polygate-42", told
    assert len(upstream.session) == len(upstream.script), told
    assert upstream.session[0].is_stream and upstream.session[-1].is_stream, told
    issued = [call for turn in upstream.played.values() for call in turn.calls]
    last = upstream.session[-1].asked
    if upstream.with_ids and run.agent.keeps_ids:
        assert [result.id for result in last.results] == [call.id for call in issued], told
        assert [(call.id, call.name, call.given) for call in last.calls] == [(call.id, call.name, call.given) for call in issued], told
    else:
        assert [(call.name, call.given) for call in last.calls] == [(call.name, call.given) for call in issued], told
    return last


def check_reading(run):
    """And what the file holds was told after each call but the first."""
    last = check(run)
    for result in last.results[1:]:
        assert "polygate-42" in result.text, run.story()
    return last


@cells()
def test_two_tools_and_an_end(play, agent, vendor):
    agent = ready(agent)
    check_reading(play(agent, vendor, lambda work: [Step((agent.write(work),)), Step((agent.read(work),)), Step(text=DONE)]))


@cells(AGENTS)
def test_words_before_calls_and_calls_at_once(play, agent, vendor):
    agent = ready(agent)
    both = lambda work: (agent.read(work), agent.read_too(work))  # noqa: E731
    check_reading(play(agent, vendor, lambda work: [Step((agent.write_file(work),), "First the file."), Step(both(work), "Now look."), Step(text=DONE)]))


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
    check_reading(run)
    # A client of another format may have no place for them; that nothing was refused is all that can be asked there.
    if agent.format == vendor:
        seals = [turn.seal for at, turn in sorted(run.upstream.played.items())][:-1]
        assert [seal for seal in run.upstream.session[-1].asked.seals if seal in seals] == seals, run.story()


@cells()
def test_newest_models(play, agent, vendor):
    """Claude thinks as it likes and is told of the system amid its messages; Codex has one tool, freeform, in a namespace in its history."""
    agent = ready(agent)
    script = lambda work: [Step((agent.write_newest(work),), thought="First the file."), Step((agent.read_newest(work),)), Step(text=DONE)]  # noqa: E731
    check_reading(play(agent, vendor, script, model=agent.newest))


@pytest.mark.parametrize("agent", VENDORS_AGENTS)
def test_gemini_without_ids(play, agent):
    """Google's second generation gives its calls none."""
    agent = ready(agent)
    check_reading(play(agent, "gemini", lambda work: [Step((agent.write(work),)), Step((agent.read(work), agent.read_too(work))), Step(text=DONE)], with_ids=False))


@pytest.mark.parametrize("vendor", FORMATS)
def test_codex_applies_a_patch(play, vendor):
    """The tool is freeform: its argument is no JSON."""
    codex = ready("codex")
    last = check_reading(play(codex, vendor, lambda work: [Step((codex.patch(work),)), Step((codex.read(work),)), Step(text=DONE)]))
    tool, patch = last.calls[0].name, codex.patch(None).given
    assert last.calls[0].given == (patch if vendor == "responses" else {"input": patch})
    assert (last.tools[tool] is None) == (vendor == "responses")


@pytest.mark.parametrize("vendor", FORMATS)
def test_codex_wants_an_answer_of_a_schema(play, vendor, tmp_path):
    codex = ready("codex")
    schema = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"], "additionalProperties": False}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    said = json.dumps({"said": DONE})
    script = lambda work: [Step((codex.write(work),)), Step((codex.read(work),)), Step(text=said)]  # noqa: E731
    run = play(codex, vendor, script, args=("--output-schema", str(tmp_path / "schema.json")))
    last = check_reading(run)
    assert last.schema == schema, run.story()
    assert json.loads(run.ended.out.strip().splitlines()[-1]) == {"said": DONE}, run.story()


@cells()
def test_a_servers_tool(play, agent, vendor):
    """Its name is of two parts, and Codex has to search for it."""
    agent = ready(agent)
    find = agent.find_note()
    script = lambda work: [*([Step(find)] if find else []), Step((Use("keep_note", {"note": "polygate-42"}),)), Step(text=DONE)]  # noqa: E731
    run = play(agent, vendor, script, has_notes=True)
    last = check(run)
    *found, kept = last.results
    assert all("keep_note" in result.text for result in found), run.story()
    assert "Kept: polygate-42" in kept.text, run.story()


@cells()
def test_a_tool_fails(play, agent, vendor):
    agent = ready(agent)
    run = play(agent, vendor, lambda work: [Step((agent.miss(work),)), Step((agent.write(work),)), Step((agent.read(work),)), Step(text=DONE)])
    last = check(run)
    assert any(word in last.results[0].text for word in ("not exist", "not found", "No such file")), run.story()
    assert "polygate-42" in last.results[2].text, run.story()


@cells(AGENTS)
def test_a_picture_in_a_result(play, agent, vendor):
    agent = ready(agent)
    run = play(agent, vendor, lambda work: [Step((agent.paint(work),)), Step((agent.look(work),)), Step((agent.read(work),)), Step(text=DONE)])
    last = check(run)
    assert last.pictures == [PICTURE], run.story()


@cells()
@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_a_fault_in_the_middle(play, agent, vendor, fault):
    """The agent understands that the failure will pass, and asks again."""
    agent = ready(agent)
    script = lambda work: [Step((agent.write(work),)), Step((agent.read(work),), "Now look.", fault=fault), Step(text=DONE)]  # noqa: E731
    run = play(agent, vendor, script)
    check_reading(run)
    assert [request.fault for request in run.upstream.faulty] == [fault], run.story()
    # Claude Code asks for the whole answer once a stream has broken.
    streams = [request.is_stream for request in run.upstream.session]
    assert streams == [True, agent.format != "anthropic" or fault != "cut", True], run.story()


def test_codex_asks_again_after_half_an_answer(play):
    """With the half as the last message, which Claude's newest models do not go on with."""
    codex = ready("codex")
    script = lambda work: [Step((codex.write_newest(work),)), Step((codex.read_newest(work),), "Now look.", fault="cut after words"), Step(text=DONE)]  # noqa: E731
    run = play(codex, "anthropic", script, model=codex.newest)
    check_reading(run)
    words, request = run.upstream.session[1].body["messages"][-2:]
    assert words == {"role": "assistant", "content": [{"type": "text", "text": "Now look."}]}, run.story()
    assert request["role"] == "user", run.story()
