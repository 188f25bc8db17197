"""The official OpenAI SDK, natively and translated."""

import asyncio
import json

import openai
import pytest

CHAT = ["m-native", "m-anthropic", "m-gemini", "m-responses", "m-azure"]
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]


def tool(name):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": f"Get {name}", "parameters": schema}}


TOOLS = [tool("get_weather"), tool("get_time")]


@pytest.fixture
def client(gate):
    return openai.OpenAI(base_url=f"{gate}/v1", api_key="sk-all", max_retries=0)


def with_key(gate, key):
    return openai.OpenAI(base_url=f"{gate}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("model", CHAT)
def test_a_stream_says_what_a_whole_answer_says(client, main_mock, model):
    whole = client.chat.completions.create(model=model, messages=HELLO)
    text = whole.choices[0].message.content
    assert "Hello there" in text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


@pytest.mark.parametrize("model", CHAT)
def test_no_usage_comes_unasked(client, main_mock, model):
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("model", CHAT)
def test_the_output_limit_ends_with_length(client, main_mock, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", CHAT)
def test_parallel_tools_and_their_results(client, main_mock, model):
    messages = [{"role": "user", "content": "What is the weather, in parallel?"}]
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert len(message.tool_calls) == 2
    assert all(json.loads(call.function.arguments) == {"city": "Paris"} for call in message.tool_calls)
    assert len({call.id for call in message.tool_calls}) == 2
    messages.append(message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"sunny {at}"} for at, call in enumerate(message.tool_calls)]
    last = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    assert "sunny" in last.choices[0].message.content


@pytest.mark.parametrize("model", CHAT)
def test_streamed_tool_calls_add_up(client, main_mock, model):
    messages = [{"role": "user", "content": "What is the weather, in parallel?"}]
    with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Paris"}] * 2


@pytest.mark.parametrize("model", CHAT)
def test_pictures_go_through(client, main_mock, model):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
    assert "Look" in answer.choices[0].message.content
    assert pixel in main_mock.ledger()[-1]["body"]


def test_what_was_lost_is_named(client, main_mock):
    raw = client.chat.completions.with_raw_response.create(model="m-anthropic", messages=HELLO, seed=7, logit_bias={"1": 2})
    assert {"/seed", "/logit_bias"} <= set(raw.headers["x-polygate-dropped"].split(", "))
    assert raw.headers["x-polygate-provider"] == "anthropic"
    assert raw.headers["x-polygate-model"] == "claude-sonnet-4-5"
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_responses(client, main_mock):
    whole = client.responses.create(model="m-native", input="Hello there")
    assert "Hello there" in whole.output_text
    with client.responses.stream(model="m-native", input="Hello there") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == whole.output_text
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


def test_responses_with_tools(client, main_mock):
    flat = {"type": "function", "name": "get_weather", "parameters": TOOLS[0]["function"]["parameters"], "strict": True}
    answer = client.responses.create(model="m-native", input="What is the weather?", tools=[flat])
    call = answer.output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Paris"})


def test_embeddings_and_legacy_completions(client, main_mock):
    answer = client.embeddings.create(model="m-embedding", input=["a", "b"])
    plain = client.embeddings.create(model="m-embedding", input=["a", "b"], encoding_format="float")
    assert len(answer.data) == 2
    assert answer.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert "Say hi" in client.completions.create(model="m-native", prompt="Say hi").choices[0].text


def test_models(client):
    assert {model.id for model in client.models.list()} >= {"m-native", "m-anthropic", "m-gemini"}
    assert client.models.retrieve("m-gemini").id == "m-gemini"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


def test_errors_are_of_the_right_class(gate, client, main_mock):
    def ask(client, model="m-native"):
        return client.chat.completions.create(model=model, messages=HELLO)

    with pytest.raises(openai.AuthenticationError):
        ask(with_key(gate, "sk-wrong"))
    with pytest.raises(openai.PermissionDeniedError):
        ask(with_key(gate, "sk-some"), "m-gemini")
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, "none")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.RateLimitError) as limited:
        for _ in range(2):
            ask(with_key(gate, "sk-slow"))
    assert limited.value.response.headers["retry-after"] == "1"
    main_mock.script(status=400, error="top_p is odd")
    for model in CHAT:
        with pytest.raises(openai.BadRequestError, match="top_p is odd"):
            ask(client, model)


def test_a_provider_that_only_fails_is_an_error(client, broken_mock):
    broken_mock.script(status=503)
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="m-broken", messages=HELLO)
    assert failed.value.status_code == 503
    assert failed.value.response.headers["x-polygate-origin"] == "provider"


@pytest.mark.parametrize("model", CHAT)
@pytest.mark.parametrize("fault", [{"cut-after": 8}, {"reset-after": 8}, {"error-after": 8}, {"end-after": 8}])
def test_a_stream_that_breaks_raises(client, main_mock, model, fault):
    main_mock.script(fault=fault, tokens=30)
    words = []
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
            words.append(chunk.choices[0].delta.content)
            assert chunk.choices[0].finish_reason is None
    assert words, "the words before the break came"


@pytest.mark.parametrize("then", [{"status": 500}, {"status": 429}, {"fault": "reset"}, {"fault": {"error-after": 1}}, {"fault": "html"}])
@pytest.mark.parametrize("stream", [False, True])
def test_failover_is_not_seen(client, main_mock, broken_mock, then, stream):
    broken_mock.script(**then)
    answer = client.chat.completions.create(model="m-two", messages=HELLO, stream=stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer) if stream else answer.choices[0].message.content
    assert "Hello there" in text and text.endswith("model.")


def test_the_async_client(gate, main_mock):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{gate}/v1", api_key="sk-all") as client:
            answers = [client.chat.completions.create(model=model, messages=HELLO) for model in CHAT]
            return await asyncio.gather(*answers)

    assert all("Hello there" in answer.choices[0].message.content for answer in asyncio.run(ask()))
