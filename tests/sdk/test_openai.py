"""The official OpenAI SDK, Chat and what stands beside it, natively and translated."""

import asyncio
import json

import openai
import pydantic
import pytest

from upstreams import BREAKS, CITY, EVERY, PIXEL, SAID, THOUGHT, UPSTREAMS, limited

CHAT = ["m-native", *EVERY, "m-azure"]
NAMED = {"m-native": ("native", "m-native"), "m-azure": ("azure", "m-azure")}
NAMED |= {model: (model.removeprefix("m-"), upstream.model) for model, upstream in UPSTREAMS.items()}
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
WEATHER = [{"role": "user", "content": "What is the weather?"}]
PARALLEL = [{"role": "user", "content": "What is the weather, in parallel?"}]
FAILURES = [
    {"status": 500},
    {"status": 429},
    {"status": 401},
    {"fault": "refuse"},
    {"fault": "reset"},
    {"fault": "html"},
    {"fault": "empty"},
    {"fault": "junk"},
    {"fault": {"cut-after": 0}},
    {"fault": {"error-after": 1}},
]


def tool(name):
    return {"type": "function", "function": {"name": name, "description": f"Get {name}", "parameters": CITY}}


TOOLS = [tool("get_weather"), tool("get_time")]


class City(pydantic.BaseModel):
    city: str


def calls_of(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


def words_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.fixture(scope="module")
def client(gate):
    return with_key(gate, "sk-all")


def with_key(gate, key):
    return openai.OpenAI(base_url=f"{gate}/v1", api_key=key, max_retries=0)


def ask(client, model="m-native", messages=HELLO, **more):
    return client.chat.completions.create(model=model, messages=messages, **more)


# Chat.


@pytest.mark.parametrize("model", CHAT)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = ask(client, model)
    text = whole.choices[0].message.content
    assert text == SAID
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens > 0
    chunks = list(ask(client, model, stream=True, stream_options={"include_usage": True}))
    assert words_of(chunks) == text
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3, "it came in pieces"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump() == whole.usage.model_dump()
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason] == ["stop"]


@pytest.mark.parametrize("model", CHAT)
def test_no_usage_comes_unasked(client, main_mock, model):
    chunks = list(ask(client, model, stream=True))
    assert "Hello there" in words_of(chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("model", CHAT)
def test_the_output_limit_ends_with_length(client, main_mock, model):
    main_mock.script(tokens=40)
    answer = ask(client, model, max_completion_tokens=20)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 20)
    chunks = list(ask(client, model, max_completion_tokens=20, stream=True))
    assert (chunks[-1].choices[0].finish_reason, words_of(chunks)) == ("length", answer.choices[0].message.content)


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_reach_the_provider(client, main_mock, model, role):
    ask(client, model, [{"role": role, "content": "Speak like a pirate."}, *HELLO[1:]])
    assert "Speak like a pirate." in main_mock.last()["body"]


@pytest.mark.parametrize("model", CHAT)
def test_the_provider_sees_its_own_key_and_model_and_the_caller_who_answered(client, main_mock, model):
    provider, name = NAMED[model]
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
    seen = main_mock.last()
    assert seen["model"] == name
    assert f"up-{provider}" in json.dumps(seen["headers"])
    assert "sk-all" not in json.dumps(seen), "the caller's key left the gateway"
    assert (raw.headers["x-polygate-provider"], raw.headers["x-polygate-model"]) == (provider, name)
    assert raw.headers["x-polygate-attempts"] == "1"
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@pytest.mark.parametrize("model", CHAT)
def test_a_stream_has_the_headers_of_an_answer_and_keeps_the_callers_request_id(client, main_mock, model):
    mine = {"x-request-id": "sdk-test-1"}
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, stream=True, extra_headers=mine)
    assert (raw.headers["x-request-id"], raw.headers["x-polygate-provider"]) == ("sdk-test-1", NAMED[model][0])
    assert "Hello there" in words_of(raw.parse())


@pytest.mark.parametrize("model", CHAT)
def test_pictures_go_through(client, main_mock, model):
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    answer = ask(client, model, [{"role": "user", "content": parts}])
    assert "Look" in answer.choices[0].message.content
    assert PIXEL in main_mock.last()["body"] and "png" in main_mock.last()["body"]


@pytest.mark.parametrize("model", CHAT)
def test_answers_keep_to_a_schema(client, main_mock, model):
    whole = client.chat.completions.parse(model=model, messages=HELLO, response_format=City).choices[0]
    assert (whole.message.parsed, whole.finish_reason) == (City(city="Paris"), "stop")
    with client.chat.completions.stream(model=model, messages=HELLO, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == City(city="Paris")


@pytest.mark.parametrize("model", CHAT)
def test_thoughts_come_apart_from_the_answer(client, main_mock, model):
    main_mock.script(thought=THOUGHT)
    whole = ask(client, model, reasoning_effort="medium").choices[0].message
    assert (whole.reasoning_content, whole.content) == (THOUGHT, SAID)
    chunks = list(ask(client, model, reasoning_effort="medium", stream=True))
    thoughts = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    assert (thoughts, words_of(chunks)) == (THOUGHT, SAID)


LOST = {
    "m-chat": set(),
    "m-responses": {"/seed", "/logit_bias"},
    "m-anthropic": {"/seed", "/logit_bias"},
    "m-gemini": {"/logit_bias"},
    "m-bedrock": {"/seed", "/logit_bias"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model, lost", LOST.items())
def test_what_was_lost_is_named(client, main_mock, model, lost, stream):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, seed=7, logit_bias={"1": 2}, stream=stream)
    assert set(filter(None, raw.headers.get("x-polygate-dropped", "").split(", "))) == lost


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("loser, lost", [(model, lost) for model, lost in LOST.items() if lost])
def test_strictly_nothing_is_lost(client, main_mock, loser, lost, stream):
    strict = {"x-polygate-strict": "true"}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, loser, logit_bias={"1": 2}, stream=stream, extra_headers=strict)
    assert "/logit_bias" in refused.value.message and refused.value.response.headers["x-polygate-origin"] == "gateway"
    assert main_mock.ledger() == []
    assert ask(client, loser, extra_headers=strict).choices[0].message.content == SAID, "what loses nothing passes"


def test_the_async_client_answers_and_streams(gate, main_mock):
    async def everything():
        async with openai.AsyncOpenAI(base_url=f"{gate}/v1", api_key="sk-all", max_retries=0) as client:

            async def streamed(model):
                return words_of([chunk async for chunk in await ask(client, model, stream=True)])

            wholes = asyncio.gather(*[ask(client, model) for model in CHAT])
            streams = asyncio.gather(*[streamed(model) for model in CHAT])
            return await wholes, await streams

    wholes, streams = asyncio.run(everything())
    assert [answer.choices[0].message.content for answer in wholes] == streams
    assert all("Hello there" in text for text in streams)


# Tools.


@pytest.mark.parametrize("model", CHAT)
def test_a_tool_is_called(client, main_mock, model):
    choice = ask(client, model, WEATHER, tools=TOOLS).choices[0]
    assert (choice.finish_reason, choice.message.content or None) == ("tool_calls", None)
    assert calls_of(choice.message) == [("get_weather", {"city": "Paris"})]
    assert choice.message.tool_calls[0].id and choice.message.tool_calls[0].type == "function"


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize(
    "choice, name",
    [("required", "get_weather"), ({"type": "function", "function": {"name": "get_time"}}, "get_time"), ("none", None)],
)
def test_the_choice_of_tools_is_kept(client, main_mock, model, choice, name):
    message = ask(client, model, tools=TOOLS, tool_choice=choice).choices[0].message
    assert [call.function.name for call in message.tool_calls or []] == ([name] if name else [])


@pytest.mark.parametrize("model", CHAT)
def test_parallel_tools_and_their_results(client, main_mock, model):
    answer = ask(client, model, PARALLEL, tools=TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls_of(message) == [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Paris"})]
    assert len({call.id for call in message.tool_calls}) == 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"sunny {at}"} for at, call in enumerate(message.tool_calls)]
    turns = [*PARALLEL, message.model_dump(exclude_none=True), *results]
    last = ask(client, model, turns, tools=TOOLS)
    assert "sunny" in last.choices[0].message.content and last.choices[0].finish_reason == "stop"
    body = main_mock.last()["body"]
    assert "sunny 0" in body and "sunny 1" in body, "each result reached the provider"
    assert "sunny" in words_of(ask(client, model, turns, tools=TOOLS, stream=True))


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("messages, names", [(WEATHER, ["get_weather"]), (PARALLEL, ["get_weather", "get_time"])])
def test_streamed_tool_calls_add_up(client, main_mock, model, messages, names):
    with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as stream:
        choice = stream.get_final_completion().choices[0]
    assert calls_of(choice.message) == [(name, {"city": "Paris"}) for name in names]
    assert len({call.id for call in choice.message.tool_calls}) == len(names)
    assert choice.finish_reason == "tool_calls"


# The other endpoints.


def test_embeddings_are_the_same_as_numbers_and_as_base64(client, main_mock):
    packed = client.embeddings.create(model="m-embedding", input=["a", "b"])
    assert json.loads(main_mock.last()["body"])["encoding_format"] == "base64", "the SDK's own default"
    plain = client.embeddings.create(model="m-embedding", input=["a", "b"], encoding_format="float")
    assert [each.index for each in packed.data] == [0, 1]
    assert [len(each.embedding) for each in packed.data] == [8, 8]
    assert packed.data[0].embedding != packed.data[1].embedding
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert packed.usage.prompt_tokens > 0
    assert len(client.embeddings.create(model="m-embedding", input="a", dimensions=3).data[0].embedding) == 3


@pytest.mark.parametrize("model", CHAT)
def test_completions_whole_and_streamed_even_where_there_is_only_chat(client, main_mock, model):
    whole = client.completions.create(model=model, prompt="Say hi", max_tokens=50)
    assert "Say hi" in whole.choices[0].text and whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.completions.create(model=model, prompt="Say hi", max_tokens=50, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]


def test_completions_that_only_completing_models_can_do_are_refused(client, main_mock):
    for more in ({"suffix": "!"}, {"prompt": ["a", "b"]}):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(**{"model": "m-anthropic", "prompt": "a", **more})
    assert main_mock.ledger() == []


def test_models_are_listed_and_found(client):
    assert {model.id for model in client.models.list()} >= {*CHAT, "m-embedding"}
    assert client.models.retrieve("m-gemini").id == "m-gemini"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


def test_a_key_lists_only_the_models_it_may_use(gate):
    some = with_key(gate, "sk-some")
    assert [model.id for model in some.models.list()] == ["m-native"]


# Errors.


def test_a_wrong_key_is_401(gate):
    wrong = with_key(gate, "sk-wrong")
    for call in (lambda: ask(wrong), lambda: ask(wrong, stream=True), lambda: wrong.models.list()):
        with pytest.raises(openai.AuthenticationError) as refused:
            call()
        assert refused.value.status_code == 401 and "sk-wrong" not in str(refused.value)


def test_a_model_that_the_key_may_not_use_is_403(gate, main_mock):
    some = with_key(gate, "sk-some")
    assert "Hello there" in ask(some).choices[0].message.content
    for call in (lambda: ask(some, "m-gemini"), lambda: ask(some, "m-gemini", stream=True)):
        with pytest.raises(openai.PermissionDeniedError, match="m-gemini"):
            call()
    assert len(main_mock.ledger()) == 1


def test_an_unknown_model_is_404(client):
    with pytest.raises(openai.NotFoundError, match="none") as unknown:
        ask(client, "none")
    assert (unknown.value.code, unknown.value.status_code) == ("model_not_found", 404)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="none", input="a")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none", input="a")


def test_the_limit_of_a_key_is_429_with_retry_after(gate, main_mock):
    slow = with_key(gate, "sk-slow-openai")
    assert "Hello there" in ask(slow).choices[0].message.content
    with pytest.raises(openai.RateLimitError) as limited:
        ask(slow)
    assert limited.value.response.headers["retry-after"] == "1"
    assert limited.value.response.headers["x-polygate-origin"] == "gateway"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("full", limited("openai"))
def test_a_limit_of_the_provider_is_429_with_its_retry_after(client, main_mock, full, stream):
    main_mock.script(status=429, error="slow down", headers={"retry-after": "7"})
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client, full, stream=stream)
    assert refused.value.response.headers["retry-after"] in {"6", "7"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", CHAT)
def test_what_the_provider_refuses_is_400_in_its_own_words(client, main_mock, model, stream):
    main_mock.script(status=400, error="top_p is odd")
    with pytest.raises(openai.BadRequestError, match="top_p is odd") as refused:
        ask(client, model, stream=stream)
    assert refused.value.response.headers["x-polygate-origin"] == "provider"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("status", [500, 503])
def test_a_provider_that_only_fails_is_an_error_of_the_server(client, main_mock, model, status, stream):
    main_mock.script(status=status, error="the engine fell over")
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client, model, stream=stream)
    assert failed.value.status_code == status
    assert failed.value.response.headers["x-polygate-origin"] == "provider"


def test_other_endpoints_fail_as_chat_does(client, main_mock):
    main_mock.script(status=500)
    for call in (
        lambda: client.embeddings.create(model="m-embedding", input="a"),
        lambda: client.responses.create(model="m-native", input="a"),
        lambda: client.completions.create(model="m-native", prompt="a"),
    ):
        with pytest.raises(openai.InternalServerError):
            call()


# Streams that break, and those that must not.


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_breaks_raises(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    chunks = []
    with pytest.raises(openai.APIError) as broken:
        chunks.extend(ask(client, model, stream=True))
    assert not isinstance(broken.value, openai.APIConnectionError), "an error event, not a lost connection"
    assert words_of(chunks).startswith("You "), "the words before the break came"
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks), "no clean end"


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_of_completions_that_breaks_raises(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    chunks = []
    with pytest.raises(openai.APIError) as broken:
        chunks.extend(client.completions.create(model=model, prompt="Say hi", stream=True))
    assert not isinstance(broken.value, openai.APIConnectionError), "an error event, not a lost connection"
    assert "".join(chunk.choices[0].text for chunk in chunks).startswith("You ")
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks), "no clean end"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("then", FAILURES)
def test_failover_is_not_seen(client, two_model, broken_mock, then, stream):
    broken_mock.script(**then)
    answer = ask(client, two_model, stream=stream)
    text = words_of(answer) if stream else answer.choices[0].message.content
    assert text == SAID


def test_failover_is_not_seen_on_other_endpoints(client, two_model, broken_mock):
    broken_mock.script(status=500)
    assert "Hello there" in client.responses.create(model=two_model, input="Hello there").output_text
    assert len(client.embeddings.create(model=two_model, input="a").data) == 1
    assert "Say hi" in client.completions.create(model=two_model, prompt="Say hi").choices[0].text
    assert len(broken_mock.ledger()) >= 3
