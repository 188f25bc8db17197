"""The official OpenAI SDK, Responses, natively and translated."""

import asyncio
import json

import openai
import pydantic
import pytest

from upstreams import BREAKS, CITY, EVERY, PIXEL, SAID, THOUGHT, UPSTREAMS, limited

MODELS = ["m-native", *EVERY]
KEEPS_NOTHING = [model for model in EVERY if model != "m-responses"]
NAMES = ("get_weather", "get_time")
TOOLS = [{"type": "function", "name": name, "description": f"Get {name}", "parameters": CITY, "strict": True} for name in NAMES]
QUESTIONS = [("The weather?", NAMES[:1]), ("Tools, in parallel", NAMES)]


class City(pydantic.BaseModel):
    city: str


@pytest.fixture(scope="module")
def client(gate):
    return with_key(gate, "sk-all")


def with_key(gate, key):
    return openai.OpenAI(base_url=f"{gate}/v1", api_key=key, max_retries=0)


def ask(client, model="m-native", question="Hello there", **more):
    return client.responses.create(model=model, input=question, **more)


def stream(client, model, question="Hello there", **more):
    with client.responses.stream(model=model, input=question, **more) as streaming:
        return list(streaming), streaming.get_final_response()


def calls_of(answer):
    return [(item.type, item.name, json.loads(item.arguments)) for item in answer.output]


def words_of(events):
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def shape_of(answer):
    """What of an answer is the same whole and streamed: without ids, and without what the SDK's parsers add."""
    hidden = {"id", "call_id", "encrypted_content", "parsed", "parsed_arguments"}

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items() if name not in hidden and each is not None}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return plain(answer.model_dump(include={"status", "incomplete_details", "output", "usage", "error"}, warnings=False))


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = ask(client, model, instructions="Be brief.")
    assert (whole.output_text, whole.status) == (SAID, "completed")
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    assert "Be brief." in main_mock.last()["body"]
    events, final = stream(client, model, instructions="Be brief.")
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert words_of(events) == SAID
    assert shape_of(final) == shape_of(whole)


@pytest.mark.parametrize("model", MODELS)
def test_the_output_limit_makes_an_answer_incomplete(client, main_mock, model):
    main_mock.script(tokens=40)
    whole = ask(client, model, max_output_tokens=20)
    assert (whole.status, whole.incomplete_details.reason, whole.usage.output_tokens) == ("incomplete", "max_output_tokens", 20)
    events = list(ask(client, model, max_output_tokens=20, stream=True))
    assert (events[-1].type, words_of(events)) == ("response.incomplete", whole.output_text)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("question, names", QUESTIONS)
def test_tools_and_their_results(client, main_mock, model, question, names):
    wanted = [("function_call", name, {"city": "Paris"}) for name in names]
    answer = ask(client, model, question, tools=TOOLS)
    assert calls_of(answer) == wanted
    _, final = stream(client, model, question, tools=TOOLS)
    assert calls_of(final) == wanted
    results = [{"type": "function_call_output", "call_id": item.call_id, "output": f"sunny {at}"} for at, item in enumerate(answer.output)]
    turns = [{"role": "user", "content": question}, *answer.output, *results]
    assert "sunny" in ask(client, model, turns, tools=TOOLS).output_text
    assert all(f"sunny {at}" in main_mock.last()["body"] for at in range(len(names)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("choice, names", [("required", NAMES[:1]), ({"type": "function", "name": "get_time"}, NAMES[1:]), ("none", ())])
def test_the_choice_of_tools_is_kept(client, main_mock, model, choice, names):
    answer = ask(client, model, tools=TOOLS, tool_choice=choice)
    assert [item.name for item in answer.output if item.type == "function_call"] == list(names)


@pytest.mark.parametrize("model", MODELS)
def test_answers_keep_to_a_schema(client, main_mock, model):
    assert client.responses.parse(model=model, input="Hello there", text_format=City).output_parsed == City(city="Paris")
    _, final = stream(client, model, text_format=City)
    assert final.output_parsed == City(city="Paris")


@pytest.mark.parametrize("model", MODELS)
def test_pictures_go_through(client, main_mock, model):
    picture = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PIXEL}"}
    parts = [{"type": "input_text", "text": "Look"}, picture]
    assert "Look" in ask(client, model, [{"role": "user", "content": parts}]).output_text
    assert PIXEL in main_mock.last()["body"] and "png" in main_mock.last()["body"]


@pytest.mark.parametrize("model", MODELS)
def test_thoughts_are_items_of_their_own(client, main_mock, model):
    main_mock.script(thought=THOUGHT)
    thinking = {"effort": "medium", "summary": "auto"}
    whole = ask(client, model, reasoning=thinking)
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert (whole.output[0].summary[0].text, whole.output_text) == (THOUGHT, SAID)
    _, final = stream(client, model, reasoning=thinking)
    assert shape_of(final) == shape_of(whole)


def test_the_async_client_answers_and_streams(gate, main_mock):
    async def everything():
        async with openai.AsyncOpenAI(base_url=f"{gate}/v1", api_key="sk-all", max_retries=0) as client:

            async def streamed(model):
                async with client.responses.stream(model=model, input="Hello there") as streaming:
                    return (await streaming.get_final_response()).output_text

            wholes = asyncio.gather(*[ask(client, model) for model in MODELS])
            streams = asyncio.gather(*[streamed(model) for model in MODELS])
            return [answer.output_text for answer in await wholes], await streams

    assert asyncio.run(everything()) == ([SAID] * len(MODELS), [SAID] * len(MODELS))


# What is kept between calls.


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("model", KEEPS_NOTHING)
def test_an_answer_is_gone_on_from(client, main_mock, model, streaming):
    def turn(question, **more):
        return stream(client, model, question, **more)[1] if streaming else ask(client, model, question, **more)

    first = turn("What is the weather?", tools=TOOLS)
    result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "sunny"}
    second = turn([result], tools=TOOLS, previous_response_id=first.id)
    assert "The tool answered" in second.output_text and second.previous_response_id == first.id
    third = turn("And now?", previous_response_id=second.id)
    assert "And now?" in third.output_text
    body = main_mock.last()["body"]
    places = [body.find(said) for said in ("What is the weather?", "sunny", "The tool answered", "And now?")]
    assert -1 not in places and places == sorted(places), "the whole conversation, in order"
    forked = turn("Or now?", previous_response_id=first.id, tools=TOOLS)
    assert "Or now?" in main_mock.last()["body"] and "And now?" not in main_mock.last()["body"]
    assert forked.id not in {first.id, second.id, third.id}


@pytest.mark.parametrize("model", KEEPS_NOTHING)
def test_items_are_referred_to(client, main_mock, model):
    main_mock.script(thought=THOUGHT)
    first = ask(client, model, "What is the weather?", tools=TOOLS, reasoning={"effort": "medium", "summary": "auto"})
    referred = [{"type": "item_reference", "id": item.id} for item in first.output]
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = ask(client, model, [{"role": "user", "content": "What is the weather?"}, *referred, result], tools=TOOLS)
    assert "sunny" in second.output_text
    assert "get_weather" in main_mock.last()["body"]


@pytest.mark.parametrize("loser", KEEPS_NOTHING)
def test_nobody_goes_on_from_what_is_not_kept_or_not_theirs(client, gate, main_mock, loser):
    unkept = ask(client, loser, store=False)
    kept = ask(client, loser)
    other = with_key(gate, "sk-other")
    for asking, before in ((client, unkept.id), (client, "resp_none"), (other, kept.id)):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(asking, loser, "And now?", previous_response_id=before)
        assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError):
        ask(other, loser, [{"type": "item_reference", "id": kept.output[0].id}])
    assert len(main_mock.ledger()) == 2


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("model", KEEPS_NOTHING)
def test_a_kept_answer_is_read_and_forgotten(client, gate, main_mock, model, streaming):
    given = stream(client, model)[1] if streaming else ask(client, model)
    read = client.responses.retrieve(given.id)
    assert read.id == given.id and read.output_text == SAID and shape_of(read) == shape_of(given)
    for refused in (
        lambda: with_key(gate, "sk-other").responses.retrieve(given.id),
        lambda: with_key(gate, "sk-other").responses.delete(given.id),
        lambda: client.responses.retrieve("resp_none"),
        lambda: client.responses.delete("resp_none"),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()
    with pytest.raises(openai.BadRequestError, match="complete"):
        client.responses.cancel(given.id)
    client.responses.delete(given.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(given.id)
    with pytest.raises(openai.BadRequestError):
        ask(client, model, "And now?", previous_response_id=given.id)
    assert len(main_mock.ledger()) == 1


@pytest.mark.parametrize("loser", KEEPS_NOTHING)
def test_a_conversation_moves_to_openai_without_the_thoughts_of_others(client, main_mock, loser):
    main_mock.script(thought=THOUGHT)
    first = ask(client, loser, reasoning={"effort": "medium", "summary": "auto"})
    assert [item.type for item in first.output] == ["reasoning", "message"]
    moved = client.responses.with_raw_response.create(model="m-responses", input="And now?", previous_response_id=first.id)
    assert moved.headers["x-polygate-dropped"] == "/previous_response_id"
    body = json.loads(main_mock.last()["body"])
    assert [item.get("type", "message") for item in body["input"]] == ["message", "message", "message"]
    assert "previous_response_id" not in body and THOUGHT not in main_mock.last()["body"]
    own = [{"role": "user", "content": "Hello"}, *(item.to_dict() for item in first.output), {"role": "user", "content": "And now?"}]
    moved = client.responses.with_raw_response.create(model="m-responses", input=own)
    assert moved.headers["x-polygate-dropped"] == "/input/1"


# Losses.


@pytest.mark.parametrize("loser", KEEPS_NOTHING)
def test_what_would_be_lost_is_named_and_strictly_refused(client, main_mock, loser):
    lossy = {"truncation": "auto"}
    raw = client.responses.with_raw_response.create(model=loser, input="Hello there", **lossy)
    assert raw.headers["x-polygate-dropped"] == "/truncation"
    with pytest.raises(openai.BadRequestError, match="/truncation"):
        ask(client, loser, **lossy, extra_headers={"x-polygate-strict": "true"})
    assert len(main_mock.ledger()) == 1
    assert ask(client, loser, extra_headers={"x-polygate-strict": "true"}).output_text == SAID


@pytest.mark.parametrize("counted, upstream", UPSTREAMS.items())
def test_tokens_are_counted_and_estimates_say_so(client, main_mock, counted, upstream):
    counter = "responses-count" if counted == "m-responses" else upstream.counts

    def count(times):
        raw = client.responses.with_raw_response.input_tokens.count(model=counted, input="Hello there. " * times, tools=TOOLS)
        assert raw.headers.get("x-polygate-estimated") == (None if counter else "true")
        return raw.parse().input_tokens

    short, long = count(1), count(50)
    assert 0 < short and short + 50 < long
    asked = [(entry["endpoint"], entry["model"]) for entry in main_mock.ledger()]
    assert asked == [(counter, upstream.model)] * (2 if counter else 0)


# Errors.


@pytest.mark.parametrize(
    "key, model, wanted",
    [
        ("sk-wrong", "m-native", openai.AuthenticationError),
        ("sk-some", "m-azure", openai.PermissionDeniedError),
        ("sk-all", "none", openai.NotFoundError),
    ],
)
def test_what_the_gateway_refuses_is_of_the_right_class(gate, key, model, wanted):
    for streaming in (False, True):
        with pytest.raises(wanted) as refused:
            ask(with_key(gate, key), model, stream=streaming)
        assert refused.value.response.headers["x-polygate-origin"] == "gateway"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "status, wanted", [(400, openai.BadRequestError), (500, openai.InternalServerError), (503, openai.InternalServerError)]
)
def test_what_the_provider_says_is_of_the_right_class(client, main_mock, model, status, wanted, streaming):
    main_mock.script(status=status, error="top_p is odd")
    with pytest.raises(wanted, match="top_p is odd") as failed:
        ask(client, model, stream=streaming)
    assert failed.value.status_code == status
    assert failed.value.response.headers["x-polygate-origin"] == "provider"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("full", limited("responses"))
def test_a_limit_of_the_provider_is_429_with_its_retry_after(client, main_mock, full, streaming):
    main_mock.script(status=429, error="slow down", headers={"retry-after": "7"})
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client, full, stream=streaming)
    assert refused.value.response.headers["retry-after"] in {"6", "7"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_ends_with_an_error(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    events = list(ask(client, model, stream=True))
    assert events[-1].type in {"error", "response.failed"}, "the SDK hands on errors of this format as events"
    assert words_of(events).startswith("You ")
    assert not [event for event in events if event.type in {"response.completed", "response.incomplete"}], "no clean end"
