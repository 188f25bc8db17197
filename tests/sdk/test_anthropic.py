"""The official Anthropic SDK on the native lane."""

import asyncio

import anthropic
import pytest

MODELS = ["m-native", "m-anthropic"]
HELLO = [{"role": "user", "content": "Hello there"}]
WEATHER = [{"role": "user", "content": "What is the weather?"}]
PARALLEL = [{"role": "user", "content": "What is the weather, in parallel?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"name": name, "description": "d", "input_schema": SCHEMA} for name in ("get_weather", "get_time")]
BREAKS = [{"cut-after": 6}, {"reset-after": 8}, {"error-after": 8}, {"end-after": 8}]


def with_key(gate, key):
    return anthropic.Anthropic(base_url=gate, api_key=key, max_retries=0)


@pytest.fixture
def client(gate):
    return with_key(gate, "sk-all")


def ask(client, model="m-native", messages=HELLO, max_tokens=100, **more):
    return client.messages.create(model=model, max_tokens=max_tokens, messages=messages, **more)


def calls_of(message):
    return [(block.type, block.name, block.input) for block in message.content]


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = ask(client, model, system="Be brief.")
    assert whole.content[0].text == 'You said: "Hello there". This is mock, a simulated model.'
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
    answer = ask(client, model, max_tokens=2)
    assert (answer.stop_reason, answer.content[0].text) == ("max_tokens", "You said: ")


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
    assert "sunny 0" in ask(client, model, turns, tools=TOOLS).content[0].text
    assert all(f"sunny {at}" in main_mock.last()["body"] for at in range(len(names)))


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


def test_tokens_are_counted(client, main_mock):
    short = client.messages.count_tokens(model="m-anthropic", messages=HELLO).input_tokens
    long = client.messages.count_tokens(model="m-anthropic", messages=[{"role": "user", "content": "Hello there " * 50}]).input_tokens
    assert 0 < short < long
    assert (main_mock.last()["endpoint"], main_mock.last()["model"]) == ("count-tokens", "claude-sonnet-4-5")


def test_models_are_listed_and_found(client):
    models = {model.id: model for model in client.models.list()}
    assert set(MODELS) <= set(models) and models["m-anthropic"].type == "model"
    assert client.models.retrieve("m-anthropic").id == "m-anthropic"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("none")


def test_the_async_client_answers_and_streams(gate, main_mock):
    async def everything():
        async with anthropic.AsyncAnthropic(base_url=gate, api_key="sk-all", max_retries=0) as client:
            async with client.messages.stream(model="m-anthropic", max_tokens=100, messages=HELLO) as stream:
                streamed = "".join([text async for text in stream.text_stream])
            return streamed, (await ask(client, "m-anthropic")).content[0].text

    streamed, whole = asyncio.run(everything())
    assert streamed == whole and "Hello there" in whole


# Errors.


@pytest.mark.parametrize(
    "key, model, wanted, kind",
    [
        ("sk-wrong", "m-anthropic", anthropic.AuthenticationError, "authentication_error"),
        ("sk-some", "m-anthropic", anthropic.PermissionDeniedError, "permission_error"),
        ("sk-all", "none", anthropic.NotFoundError, "not_found_error"),
    ],
)
def test_what_the_gateway_refuses_is_of_the_right_class(gate, key, model, wanted, kind):
    with pytest.raises(wanted) as refused:
        ask(with_key(gate, key), model)
    assert refused.value.body["error"]["type"] == kind
    assert refused.value.response.headers["x-polygate-origin"] == "gateway"


def test_the_limit_of_a_key_is_429_with_retry_after(gate, main_mock):
    slow = with_key(gate, "sk-slow-anthropic")
    assert "Hello there" in ask(slow).content[0].text
    with pytest.raises(anthropic.RateLimitError) as limited:
        ask(slow)
    assert limited.value.response.headers["retry-after"] == "1"
    assert limited.value.body["error"]["type"] == "rate_limit_error"


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
    assert message.content[0].text == 'You said: "Hello there". This is mock, a simulated model.'
