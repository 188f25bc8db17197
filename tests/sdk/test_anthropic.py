"""The official Anthropic SDK, natively and translated."""

import asyncio

import anthropic
import pydantic
import pytest

from upstreams import BREAKS, CITY, EVERY, PIXEL, SAID, THOUGHT, UPSTREAMS, limited

MODELS = ["m-native", *EVERY]
FOREIGN = [model for model in EVERY if model != "m-anthropic"]
HELLO = [{"role": "user", "content": "Hello there"}]
WEATHER = [{"role": "user", "content": "What is the weather?"}]
PARALLEL = [{"role": "user", "content": "What is the weather, in parallel?"}]
TOOLS = [{"name": name, "description": "d", "input_schema": CITY} for name in ("get_weather", "get_time")]


class City(pydantic.BaseModel):
    city: str


def with_key(gate, key):
    return anthropic.Anthropic(base_url=gate, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(gate):
    return with_key(gate, "sk-all")


def ask(client, model="m-native", messages=HELLO, max_tokens=100, **more):
    return client.messages.create(model=model, max_tokens=max_tokens, messages=messages, **more)


def calls_of(message):
    return [(block.type, block.name, block.input) for block in message.content]


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = ask(client, model, system="Be brief.")
    assert whole.content[0].text == SAID
    assert whole.stop_reason == "end_turn" and whole.usage.output_tokens > 0 and whole.usage.input_tokens > 0
    assert "Be brief." in main_mock.last()["body"]
    with client.messages.stream(model=model, max_tokens=100, messages=HELLO, system="Be brief.") as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    events = [event.type for event in ask(client, model, stream=True)]
    assert (events[0], events[-1]) == ("message_start", "message_stop")


@pytest.mark.parametrize("model", MODELS)
def test_the_output_limit_ends_with_max_tokens(client, main_mock, model):
    main_mock.script(tokens=40)
    answer = ask(client, model, max_tokens=20)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 20)
    with client.messages.stream(model=model, max_tokens=20, messages=HELLO) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.content[0].text) == ("max_tokens", answer.content[0].text)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("messages, names", [(WEATHER, ["get_weather"]), (PARALLEL, ["get_weather", "get_time"])])
def test_tools_and_their_results(client, main_mock, model, messages, names):
    wanted = [("tool_use", name, {"city": "Paris"}) for name in names]
    answer = ask(client, model, messages, tools=TOOLS)
    assert (answer.stop_reason, calls_of(answer)) == ("tool_use", wanted)
    with client.messages.stream(model=model, max_tokens=100, messages=messages, tools=TOOLS) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, calls_of(final)) == ("tool_use", wanted)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"sunny {at}"} for at, call in enumerate(answer.content)]
    turns = [*messages, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    assert "The tool answered: " in ask(client, model, turns, tools=TOOLS).content[0].text
    assert all(f"sunny {at}" in main_mock.last()["body"] for at in range(len(names)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "choice, names",
    [({"type": "any"}, ["get_weather"]), ({"type": "tool", "name": "get_time"}, ["get_time"]), ({"type": "none"}, [])],
)
def test_the_choice_of_tools_is_kept(client, main_mock, model, choice, names):
    answer = ask(client, model, tools=TOOLS, tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == names


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", EVERY)
def test_the_sdks_own_loop_runs_a_tool(client, main_mock, model, stream):
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Gets the weather.

        Args:
            city: where
        """
        asked.append(city)
        return "sunny in Paris"

    runner = client.beta.messages.tool_runner(model=model, max_tokens=100, messages=WEATHER, tools=[get_weather], stream=stream)
    last = runner.until_done()
    assert "sunny in Paris" in last.content[0].text and asked == ["Paris"]


@pytest.mark.parametrize("refuser", FOREIGN)
def test_conversations_that_providers_keep_are_refused_where_they_do_not(client, main_mock, refuser):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.beta.messages.thread(model=refuser, max_tokens=100).send(HELLO[0])
    assert refused.value.body["error"]["details"] == {"error_code": "thread_unsupported_request"}
    assert main_mock.ledger() == []


@pytest.mark.parametrize("model", MODELS)
def test_answers_keep_to_a_schema(client, main_mock, model):
    whole = client.messages.parse(model=model, max_tokens=100, messages=HELLO, output_format=City)
    assert (whole.parsed_output, whole.stop_reason) == (City(city="Paris"), "end_turn")
    with client.messages.stream(model=model, max_tokens=100, messages=HELLO, output_format=City) as stream:
        assert stream.get_final_message().parsed_output == City(city="Paris")


@pytest.mark.parametrize("model", MODELS)
def test_pictures_go_through(client, main_mock, model):
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    answer = ask(client, model, [{"role": "user", "content": [{"type": "text", "text": "Look"}, picture]}])
    assert "Look" in answer.content[0].text
    assert PIXEL in main_mock.last()["body"] and "png" in main_mock.last()["body"]


@pytest.mark.parametrize("model", MODELS)
def test_thinking_is_a_block_of_its_own_and_goes_back_with_its_turn(client, main_mock, model):
    main_mock.script(thought=THOUGHT)
    asked = {"model": model, "max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 2000}, "tools": TOOLS}
    whole = client.messages.create(messages=WEATHER, **asked)
    assert [block.type for block in whole.content] == ["thinking", "tool_use"] and whole.content[0].thinking == THOUGHT
    with client.messages.stream(messages=WEATHER, **asked) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "tool_use"] and final.content[0].thinking == THOUGHT
    assert final.usage == whole.usage
    results = [{"type": "tool_result", "tool_use_id": final.content[1].id, "content": "sunny"}]
    turns = [*WEATHER, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
    assert "sunny" in client.messages.create(messages=turns, **asked).content[-1].text
    if model in {"m-native", "m-anthropic"}:
        assert final.content[0].signature in main_mock.last()["body"], "its own issuer gets it back"


LOST = {
    "m-chat": {"/top_k", "/stop_sequences"},
    "m-responses": {"/top_k", "/stop_sequences"},
    "m-anthropic": set(),
    "m-gemini": set(),
    "m-bedrock": set(),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model, lost", LOST.items())
def test_what_was_lost_is_named(client, main_mock, model, lost, stream):
    raw = client.messages.with_raw_response.create(
        model=model, max_tokens=100, messages=HELLO, stop_sequences=["never"], extra_body={"top_k": 5}, stream=stream
    )
    assert set(filter(None, raw.headers.get("x-polygate-dropped", "").split(", "))) == lost


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("loser", ["m-chat", "m-responses"])
def test_strictly_nothing_is_lost(client, main_mock, loser, stream):
    strict = {"x-polygate-strict": "true"}
    with pytest.raises(anthropic.BadRequestError, match="/top_k") as refused:
        ask(client, loser, stream=stream, extra_headers=strict, extra_body={"top_k": 5})
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert main_mock.ledger() == []
    assert ask(client, loser, extra_headers=strict).content[0].text == SAID, "what loses nothing passes"


def test_beta_headers_and_versions_reach_the_provider(client, main_mock):
    raw = client.messages.with_raw_response.create(
        model="m-anthropic", max_tokens=5, messages=HELLO, extra_headers={"anthropic-beta": "b-1"}
    )
    seen = main_mock.last()
    headers = dict(seen["headers"])
    assert headers["anthropic-beta"] == "b-1"
    assert headers["anthropic-version"] == client.default_headers["anthropic-version"]
    assert headers["x-api-key"] == "up-anthropic" and "sk-all" not in str(seen)
    assert seen["model"] == "claude-sonnet-4-5"
    assert raw.headers["x-polygate-provider"] == "anthropic" and raw.headers["x-request-id"]


@pytest.mark.parametrize("counted, upstream", UPSTREAMS.items())
def test_tokens_are_counted_and_estimates_say_so(client, main_mock, counted, upstream):
    def count(times):
        messages = [{"role": "user", "content": "Hello there. " * times}]
        raw = client.messages.with_raw_response.count_tokens(model=counted, messages=messages, system="Be brief.", tools=TOOLS)
        assert raw.headers.get("x-polygate-estimated") == (None if upstream.counts else "true")
        return raw.parse().input_tokens

    short, long = count(1), count(50)
    assert 0 < short and short + 50 < long
    asked = [(entry["endpoint"], entry["model"]) for entry in main_mock.ledger()]
    assert asked == [(upstream.counts, upstream.model)] * (2 if upstream.counts else 0)


def test_models_are_listed_and_found(client):
    models = {model.id: model for model in client.models.list()}
    assert set(MODELS) <= set(models) and models["m-anthropic"].type == "model"
    assert client.models.retrieve("m-anthropic").id == "m-anthropic"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("none")


def test_the_async_client_answers_and_streams(gate, main_mock):
    async def everything():
        async with anthropic.AsyncAnthropic(base_url=gate, api_key="sk-all", max_retries=0) as client:

            async def streamed(model):
                async with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
                    return "".join([text async for text in stream.text_stream])

            wholes = asyncio.gather(*[ask(client, model) for model in MODELS])
            streams = asyncio.gather(*[streamed(model) for model in MODELS])
            return [answer.content[0].text for answer in await wholes], await streams

    assert asyncio.run(everything()) == ([SAID] * len(MODELS), [SAID] * len(MODELS))


# Errors.


@pytest.mark.parametrize(
    "key, refused_model, wanted, kind",
    [
        ("sk-wrong", "m-anthropic", anthropic.AuthenticationError, "authentication_error"),
        ("sk-some", "m-anthropic", anthropic.PermissionDeniedError, "permission_error"),
        ("sk-all", "none", anthropic.NotFoundError, "not_found_error"),
    ],
)
def test_what_the_gateway_refuses_is_of_the_right_class(gate, key, refused_model, wanted, kind):
    with pytest.raises(wanted) as refused:
        ask(with_key(gate, key), refused_model)
    assert refused.value.body["error"]["type"] == kind
    assert refused.value.response.headers["x-polygate-origin"] == "gateway"


def test_the_limit_of_a_key_is_429_with_retry_after(gate, main_mock):
    slow = with_key(gate, "sk-slow-anthropic")
    assert "Hello there" in ask(slow).content[0].text
    with pytest.raises(anthropic.RateLimitError) as limited:
        ask(slow)
    assert limited.value.response.headers["retry-after"] == "1"
    assert limited.value.body["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("full", limited("anthropic"))
def test_a_limit_of_the_provider_is_429_with_its_retry_after(client, main_mock, full, stream):
    main_mock.script(status=429, error="slow down", headers={"retry-after": "7"})
    with pytest.raises(anthropic.RateLimitError) as refused:
        ask(client, full, stream=stream)
    assert refused.value.response.headers["retry-after"] in {"6", "7"}
    assert refused.value.body["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "status, wanted",
    [(400, anthropic.BadRequestError), (500, anthropic.InternalServerError), (529, anthropic.OverloadedError)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_provider_says_is_of_the_right_class(client, main_mock, model, status, wanted, stream):
    main_mock.script(status=status, error="max_tokens is odd")
    with pytest.raises(wanted, match="max_tokens is odd") as failed:
        ask(client, model, stream=stream)
    assert failed.value.status_code == status
    assert failed.value.response.headers["x-polygate-origin"] == "provider"


# Streams that break, and those that must not.


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_raises(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    events = []
    with pytest.raises(anthropic.APIStatusError) as broken:
        events.extend(ask(client, model, stream=True))
    assert broken.value.body["type"] == "error", "an error event, not a lost connection"
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta").startswith("You ")
    assert not [event for event in events if event.type in {"message_delta", "message_stop"}], "no clean end"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("then", [{"status": 500}, {"status": 529}, {"fault": "reset"}, {"fault": "junk"}, {"fault": {"error-after": 1}}])
def test_failover_is_not_seen(client, two_model, broken_mock, then, stream):
    broken_mock.script(**then)
    if stream:
        with client.messages.stream(model=two_model, max_tokens=100, messages=HELLO) as streaming:
            message = streaming.get_final_message()
    else:
        message = ask(client, two_model)
    assert message.content[0].text == SAID
